/* Power loss, simulated (faults.md 42): SQLite's files lie behind a layer that knows what has been synced. After each
 * acknowledged answer the disk may hold, of the database and of its log, either what was last synced or all that was
 * written, in any combination: in each of the four every acknowledged answer has to be there, also around checkpoints.
 * With synchronous=NORMAL, as of run.db, that is found not to be so: the simulation can fail. */
#include "tests/labels_kit.h"

#include "store/labels_internal.h"

#include <sqlite3.h>

/* ---- the layer ---- */

struct lossy {
	sqlite3_file base;
	char *path;
	sqlite3_file *real; /* in the bytes behind */
};

static sqlite3_vfs *below;

static struct lossy *of(sqlite3_file *f) { return (struct lossy *)f; }
static sqlite3_file *real(sqlite3_file *f) { return of(f)->real; }

static int on_close(sqlite3_file *f) { return real(f)->pMethods->xClose(real(f)); }
static int on_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at) { return real(f)->pMethods->xRead(real(f), p, n, at); }
static int on_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) { return real(f)->pMethods->xWrite(real(f), p, n, at); }
static int on_truncate(sqlite3_file *f, sqlite3_int64 n) { return real(f)->pMethods->xTruncate(real(f), n); }
static int on_size(sqlite3_file *f, sqlite3_int64 *n) { return real(f)->pMethods->xFileSize(real(f), n); }
static int on_lock(sqlite3_file *f, int k) { return real(f)->pMethods->xLock(real(f), k); }
static int on_unlock(sqlite3_file *f, int k) { return real(f)->pMethods->xUnlock(real(f), k); }
static int on_reserved(sqlite3_file *f, int *out) { return real(f)->pMethods->xCheckReservedLock(real(f), out); }
static int on_control(sqlite3_file *f, int op, void *p) { return real(f)->pMethods->xFileControl(real(f), op, p); }
static int on_sector(sqlite3_file *f) { return real(f)->pMethods->xSectorSize(real(f)); }
static int on_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **p) { return real(f)->pMethods->xShmMap(real(f), page, size, extend, p); }
static int on_shm_lock(sqlite3_file *f, int at, int n, int flags) { return real(f)->pMethods->xShmLock(real(f), at, n, flags); }
static void on_shm_barrier(sqlite3_file *f) { real(f)->pMethods->xShmBarrier(real(f)); }
static int on_shm_unmap(sqlite3_file *f, int drop) { return real(f)->pMethods->xShmUnmap(real(f), drop); }
/* nothing is promised beyond POSIX: no atomic or ordered writes */
static int on_device(sqlite3_file *f)
{
	(void)f;
	return 0;
}

/* What is synced is what the disk keeps: PATH.disk. */
static int on_sync(sqlite3_file *f, int flags)
{
	char disk[160];
	int rc = real(f)->pMethods->xSync(real(f), flags);
	if (rc != SQLITE_OK || !of(f)->path) return rc;
	snprintf(disk, sizeof disk, "%s.disk", of(f)->path);
	kit_copy(of(f)->path, disk);
	return rc;
}

static const sqlite3_io_methods methods = {.iVersion = 2, .xClose = on_close, .xRead = on_read, .xWrite = on_write, .xTruncate = on_truncate, .xSync = on_sync,
	.xFileSize = on_size, .xLock = on_lock, .xUnlock = on_unlock, .xCheckReservedLock = on_reserved, .xFileControl = on_control, .xSectorSize = on_sector,
	.xDeviceCharacteristics = on_device, .xShmMap = on_shm_map, .xShmLock = on_shm_lock, .xShmBarrier = on_shm_barrier, .xShmUnmap = on_shm_unmap};

static int on_open(sqlite3_vfs *v, const char *path, sqlite3_file *f, int flags, int *out)
{
	(void)v;
	struct lossy *x = of(f);
	*x = (struct lossy){.real = (sqlite3_file *)(x + 1)};
	int rc = below->xOpen(below, path, x->real, flags, out);
	if (rc != SQLITE_OK) return rc;
	x->base.pMethods = &methods;
	if (path && flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) x->path = (char *)path; /* SQLite keeps it as long as the file is open */
	return SQLITE_OK;
}

/* ---- what the disk may hold ---- */

static void take(const struct labels_kit *k, const char *end, int all, const char *folder)
{
	char from[160], to[160];
	snprintf(from, sizeof from, "%s%s%s", k->path, end, all ? "" : ".disk");
	snprintf(to, sizeof to, "%s/labels.db%s", folder, end);
	unlink(to);
	if (fs_exists(from)) kit_copy(from, to);
}

/* The least number of answers that is there after a power loss now, over the four ways; -1: one of them cannot even be opened. */
static int left_over(const struct labels_kit *k)
{
	char folder[96], path[128];
	int least = INT32_MAX;
	snprintf(folder, sizeof folder, "%s/after", k->dir);
	struct err e = {0};
	for (int way = 0; way < 4; way++) {
		kit_ok(fs_mkdirs(folder, &e), &e);
		take(k, "", way & 1, folder);
		take(k, "-wal", way >> 1, folder);
		snprintf(path, sizeof path, "%s/labels.db", folder);
		struct labels *l = NULL;
		int n = labels_open(&l, path, 1, &e) < 0 ? -1 : labels_kit_count_of(l, (struct labels_query){0}, NULL);
		labels_close(l);
		kit_ok(fs_remove_tree(folder, &e), &e);
		if (n < least) least = n;
	}
	return least;
}

/* How many of these answers were acknowledged and not there after a power loss right behind them. */
static int lost(struct labels_kit *k, int answers)
{
	struct err e = {0};
	int missing = 0;
	int64_t event;
	for (int i = 0; i < answers; i++) {
		char key[32];
		snprintf(key, sizeof key, "key-%06d", i);
		kit_ok(labels_kit_answer(k, key, labels_kit_duel(k, 0, 0, (uint32_t)i, 3, 7), 0, 1, &event, &e), &e);
		missing += left_over(k) < i + 1;
		if (i % 4 == 2) kit_ok(store_sql_run(&k->l->base, i % 8 == 2 ? "PRAGMA wal_checkpoint(PASSIVE)" : "PRAGMA wal_checkpoint(TRUNCATE)", &e), &e);
		if (i % 4 == 2) missing += left_over(k) < i + 1;
	}
	return missing;
}

static void test_power(void **state)
{
	assert_int_equal(lost(*state, 12), 0);
}

static void test_can_fail(void **state)
{
	struct labels_kit *k = *state;
	struct err e = {0};
	kit_ok(store_sql_run(&k->l->base, "PRAGMA synchronous=NORMAL", &e), &e);
	assert_true(lost(k, 3) > 0);
}

int main(void)
{
	static sqlite3_vfs lossy;
	below = sqlite3_vfs_find(NULL);
	lossy = *below;
	lossy.zName = "lossy";
	lossy.szOsFile = below->szOsFile + (int)sizeof(struct lossy);
	lossy.xOpen = on_open;
	lossy.pNext = NULL;
	if (sqlite3_vfs_register(&lossy, 1) != SQLITE_OK) return 1;
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_power, labels_kit_setup, labels_kit_teardown),
		cmocka_unit_test_setup_teardown(test_can_fail, labels_kit_setup, labels_kit_teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
