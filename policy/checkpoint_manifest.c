/* The manifest of a checkpoint: writing it, and checking a folder against it.
 *
 *   {"files":{"policy.safetensors":{"bytes":N,"hash":"…32…","tensors":{"…":"…16…"}},"state.json":{…}},
 *    "format":"tenfold-checkpoint-1","step":20,"self":"…32…"}
 *
 * on one line with sorted keys; `self` is the hash of all bytes before its comma.
 * Hashes of tensors are looked at only when the hash of a file is wrong: they say
 * where. */
#include "core/base/fault.h"
#include "policy/checkpoint_internal.h"
#include "policy/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT "tenfold-checkpoint-1"
enum { PIECE = 256 << 10, MANIFEST_MAX = 256 << 20, TAIL = 9 + 32 + 3 }; /* ,"self":"…"}\n */

/* Opens a plain file of the folder: no link, no device. */
static int file_open(int *fd, uint64_t *bytes, int dir, const char *path, const char *name, struct err *e)
{
	struct stat st;
	*fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (*fd < 0) {
		if (errno == ENOENT) return err_set(e, ERR_FORMAT, "%s/%s is missing", path, name);
		return err_set(e, ERR_IO, "cannot open %s/%s: %s", path, name, errno == ELOOP ? "it is a symbolic link" : strerror(errno));
	}
	if (fstat(*fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(*fd);
		return err_set(e, ERR_FORMAT, "%s/%s is not a plain file", path, name);
	}
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int read_all(int fd, char *to, size_t bytes, size_t *got)
{
	for (*got = 0; *got < bytes;) {
		ssize_t k = read(fd, to + *got, bytes - *got);
		if (k < 0 && errno == EINTR) continue;
		if (k < 0) return -1;
		if (k == 0) break;
		*got += (size_t)k;
	}
	return 0;
}

/* Hash of a whole file. */
static int file_hash(int dir, const char *path, const char *name, uint64_t *bytes, char hash[HASH_HEX], struct err *e)
{
	int fd, rc = file_open(&fd, bytes, dir, path, name, e);
	if (rc < 0) return rc;
	char *piece = malloc(PIECE);
	CHECK(piece, "out of memory for a buffer");
	struct hash_stream *h = hash_stream_open();
	size_t got = PIECE;
	while (rc == 0 && got == PIECE) {
		if (read_all(fd, piece, PIECE, &got) != 0) rc = err_set(e, ERR_IO, "cannot read %s/%s: %s", path, name, strerror(errno));
		else hash_stream_add(h, piece, got);
	}
	hash_stream_finish(h, hash);
	free(piece);
	close(fd);
	return rc;
}

static int is_safetensors(const char *name)
{
	static const char end[] = ".safetensors";
	size_t n = strlen(name);
	return n > sizeof end - 1 && !strcmp(name + n - (sizeof end - 1), end);
}

static int tensors_open(struct safetensors **s, const char *path, const char *name, struct err *e)
{
	char file[CHECKPOINT_PATH + 256];
	if (snprintf(file, sizeof file, "%s/%s", path, name) >= (int)sizeof file) return err_set(e, ERR_RANGE, "path too long: %s", path);
	return safetensors_open(s, file, e);
}

static void tensor_hash(const struct safetensors_tensor *t, char hex[17])
{
	snprintf(hex, 17, "%016" PRIx64, hash_u64(t->data, t->bytes));
}

/* The manifest's entry of one file. */
static int entry_make(json_t *files, int dir, const char *path, const char *name, struct err *e)
{
	char hash[HASH_HEX], one[17];
	uint64_t bytes;
	struct safetensors *s = NULL;
	int rc = file_hash(dir, path, name, &bytes, hash, e);
	if (rc < 0) return rc;
	json_t *entry = json_pack("{s:I,s:s}", "bytes", (json_int_t)bytes, "hash", hash);
	CHECK(entry, "out of memory for a manifest");
	if (is_safetensors(name)) {
		json_t *tensors = json_object();
		rc = tensors_open(&s, path, name, e);
		for (size_t i = 0; rc == 0 && i < safetensors_count(s); i++) {
			tensor_hash(safetensors_at(s, i), one);
			json_object_set_new(tensors, safetensors_at(s, i)->name, json_string(one));
		}
		safetensors_close(s);
		json_object_set_new(entry, "tensors", tensors);
	}
	if (json_object_set_new(files, name, entry) != 0 && rc == 0)
		rc = err_set(e, ERR_FORMAT, "%s: a file's name is not UTF-8", path);
	return rc;
}

/* Calls fn for every file of the folder; refuses what is not a plain file. */
static int each_file(int dir, const char *path, int (*fn)(void *arg, int dir, const char *path, const char *name, struct err *e), void *arg,
	struct err *e)
{
	int rc = 0, copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	if (!d) {
		rc = err_set(e, ERR_IO, "cannot list %s: %s", path, strerror(errno));
		if (copy >= 0) close(copy);
		return rc;
	}
	for (struct dirent *f; rc == 0 && (f = readdir(d));)
		if (strcmp(f->d_name, ".") && strcmp(f->d_name, "..")) rc = fn(arg, dir, path, f->d_name, e);
	closedir(d);
	return rc;
}

static int entry_add(void *arg, int dir, const char *path, const char *name, struct err *e)
{
	FAULT_POINT("checkpoint.before_hash", "files are written, one is about to be hashed");
	return entry_make(arg, dir, path, name, e);
}

static int manifest_put(int dir, const char *path, const char *text, size_t bytes, struct err *e)
{
	int rc = FAULT_ERROR("checkpoint.before_manifest", "all files are written, there is no manifest", e);
	if (rc < 0) return rc;
	int fd = openat(dir, CHECKPOINT_MANIFEST, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0) return err_set(e, ERR_IO, "cannot create %s/%s: %s", path, CHECKPOINT_MANIFEST, strerror(errno));
	for (size_t at = 0; at < bytes && rc == 0;) {
		size_t part = at ? bytes - at : (bytes + 1) / 2;
		ssize_t k = write(fd, text + at, part);
		if (k < 0 && errno == EINTR) continue;
		if (k <= 0) rc = err_set(e, ERR_IO, "cannot write %s/%s: %s", path, CHECKPOINT_MANIFEST, strerror(errno));
		else at += (size_t)k;
		FAULT_POINT("checkpoint.within_manifest", "half of the manifest is written");
	}
	if (close(fd) != 0 && rc == 0) rc = err_set(e, ERR_IO, "cannot write %s/%s: %s", path, CHECKPOINT_MANIFEST, strerror(errno));
	return rc;
}

int checkpoint_manifest_write(int dir, const char *path, uint64_t step, char hash[HASH_HEX], struct err *e)
{
	char *body = NULL, *text = NULL;
	json_t *files = json_object(), *root = json_pack("{s:s,s:I,s:O}", "format", FORMAT, "step", (json_int_t)step, "files", files);
	int rc = 0;
	CHECK(files && root, "out of memory for a manifest");
	TRY(each_file(dir, path, entry_add, files, e));
	if (!json_object_size(files)) {
		rc = err_set(e, ERR_STATE, "%s: a checkpoint without files", path);
		goto out;
	}
	body = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
	CHECK(body, "out of memory for a manifest");
	size_t n = strlen(body) - 1; /* the last brace comes after `self` */
	body[n] = 0;
	text = malloc(n + TAIL + 1);
	CHECK(text, "out of memory for a manifest");
	hash_bytes(body, n, hash);
	snprintf(text, n + TAIL + 1, "%s,\"self\":\"%s\"}\n", body, hash);
	TRY(manifest_put(dir, path, text, n + TAIL, e));
out:
	free(text);
	free(body);
	json_decref(root);
	json_decref(files);
	return rc;
}

/* Reads and checks the manifest by itself. */
static int manifest_read(json_t **root, int dir, const char *path, uint64_t step, char hash[HASH_HEX], struct err *e)
{
	char expected[TAIL + 1], self[HASH_HEX], *text = NULL;
	uint64_t bytes = 0;
	size_t got = 0;
	int fd, rc = file_open(&fd, &bytes, dir, path, CHECKPOINT_MANIFEST, e);
	*root = NULL;
	if (rc < 0) return rc;
	if (bytes <= TAIL || bytes > MANIFEST_MAX) {
		rc = err_set(e, ERR_FORMAT, "%s/%s has %" PRIu64 " bytes: it is damaged", path, CHECKPOINT_MANIFEST, bytes);
		goto out;
	}
	text = malloc(bytes + 1);
	if (!text) {
		rc = err_set(e, ERR_MEMORY, "no memory for the %" PRIu64 " bytes of %s/%s", bytes, path, CHECKPOINT_MANIFEST);
		goto out;
	}
	if (read_all(fd, text, bytes, &got) != 0 || got != bytes) {
		rc = err_set(e, ERR_IO, "cannot read %s/%s: %s", path, CHECKPOINT_MANIFEST, got == bytes ? strerror(errno) : "it ends early");
		goto out;
	}
	hash_bytes(text, bytes - TAIL, self);
	snprintf(expected, sizeof expected, ",\"self\":\"%s\"}\n", self);
	if (memcmp(text + bytes - TAIL, expected, TAIL)) {
		rc = err_set(e, ERR_MISMATCH, "%s/%s does not have the hash it states: it is damaged", path, CHECKPOINT_MANIFEST);
		goto out;
	}
	*root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
	const char *format = json_string_value(json_object_get(*root, "format"));
	if (!format || strcmp(format, FORMAT) || !json_is_object(json_object_get(*root, "files")))
		rc = err_set(e, ERR_FORMAT, "%s/%s is not a manifest of format %s: written by another version?", path, CHECKPOINT_MANIFEST, FORMAT);
	else if (json_integer_value(json_object_get(*root, "step")) != (json_int_t)step)
		rc = err_set(e, ERR_MISMATCH, "%s/%s is of step %lld: the folder was renamed", path, CHECKPOINT_MANIFEST,
			(long long)json_integer_value(json_object_get(*root, "step")));
	if (hash) memcpy(hash, self, HASH_HEX);
out:
	free(text);
	close(fd);
	return rc;
}

/* The file's hash is wrong: says in which tensor, or that it is the header. */
static int damage_locate(json_t *entry, const char *path, const char *name, struct err *e)
{
	struct safetensors *s = NULL;
	struct err inner;
	char one[17];
	json_t *tensors = json_object_get(entry, "tensors");
	if (!tensors) return err_set(e, ERR_MISMATCH, "%s/%s does not have the hash of the manifest: it is damaged", path, name);
	if (tensors_open(&s, path, name, &inner) < 0) return err_set(e, ERR_MISMATCH, "damaged, its hash is wrong: %s", inner.msg);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < safetensors_count(s); i++) {
		const struct safetensors_tensor *t = safetensors_at(s, i);
		const char *want = json_string_value(json_object_get(tensors, t->name));
		tensor_hash(t, one);
		if (!want) rc = err_set(e, ERR_MISMATCH, "%s/%s: its header is damaged: there was no tensor %s", path, name, t->name);
		else if (strcmp(want, one))
			rc = err_set(e, ERR_MISMATCH, "%s/%s: tensor %s is damaged: its hash is %s, the manifest has %s", path, name, t->name, one, want);
	}
	if (rc == 0) rc = err_set(e, ERR_MISMATCH, "%s/%s: its header is damaged: the tensors are right, the whole file's hash is not", path, name);
	safetensors_close(s);
	return rc;
}

static int file_check(json_t *entry, int dir, const char *path, const char *name, int hashes, uint64_t *total, struct err *e)
{
	uint64_t bytes = 0, want = (uint64_t)json_integer_value(json_object_get(entry, "bytes"));
	const char *hash = json_string_value(json_object_get(entry, "hash"));
	char have[HASH_HEX];
	int fd, rc;
	if (!*name || name[0] == '.' || strchr(name, '/') || !hash)
		return err_set(e, ERR_FORMAT, "%s/%s: not a possible entry: %s", path, CHECKPOINT_MANIFEST, name);
	rc = file_open(&fd, &bytes, dir, path, name, e);
	if (rc < 0) return rc;
	close(fd);
	if (bytes != want) return err_set(e, ERR_MISMATCH, "%s/%s has %" PRIu64 " bytes, the manifest says %" PRIu64 ": it is damaged", path, name, bytes, want);
	*total += bytes;
	if (!hashes) return 0;
	rc = file_hash(dir, path, name, &bytes, have, e);
	if (rc < 0) return rc;
	return strcmp(have, hash) ? damage_locate(entry, path, name, e) : 0;
}

int checkpoint_manifest_check(int dir, const char *path, uint64_t step, int hashes, uint64_t *bytes, char hash[HASH_HEX], struct err *e)
{
	json_t *root = NULL, *entry;
	const char *name;
	uint64_t total = 0;
	int rc = manifest_read(&root, dir, path, step, hash, e);
	if (rc == 0)
		json_object_foreach(json_object_get(root, "files"), name, entry) {
			rc = file_check(entry, dir, path, name, hashes, &total, e);
			if (rc < 0) break;
		}
	json_decref(root);
	if (bytes) *bytes = total;
	return rc;
}

static int sync_one(void *arg, int dir, const char *path, const char *name, struct err *e)
{
	uint64_t bytes;
	int fd, rc;
	(void)arg;
	rc = FAULT_ERROR("checkpoint.before_sync", "a file of the checkpoint is about to be synced", e);
	if (rc < 0) return rc;
	rc = file_open(&fd, &bytes, dir, path, name, e);
	if (rc < 0) return rc;
	if (fsync(fd) != 0) rc = err_set(e, ERR_IO, "cannot sync %s/%s: %s", path, name, strerror(errno));
	close(fd);
	return rc;
}

int checkpoint_sync(int dir, const char *path, struct err *e)
{
	int rc = each_file(dir, path, sync_one, NULL, e);
	if (rc == 0 && fsync(dir) != 0) rc = err_set(e, ERR_IO, "cannot sync %s: %s", path, strerror(errno));
	return rc;
}
