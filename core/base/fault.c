/* Fault points of test builds; see fault.h. The linker gathers the pointers that
 * the macros put into the section tenfold_faults; its bounds are weak, so that a
 * program without any point links too. */
#include "core/base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef TENFOLD_FAULTS
extern struct fault_site *const __start_tenfold_faults[] __attribute__((weak));
extern struct fault_site *const __stop_tenfold_faults[] __attribute__((weak));

static size_t site_count(void)
{
	return __start_tenfold_faults ? (size_t)(__stop_tenfold_faults - __start_tenfold_faults) : 0;
}

static struct fault_site *site_at(size_t i)
{
	return __start_tenfold_faults[i];
}

int fault_enabled(void)
{
	return 1;
}
#else
static size_t site_count(void)
{
	return 0;
}

static struct fault_site *site_at(size_t i)
{
	(void)i;
	return NULL;
}

int fault_enabled(void)
{
	return 0;
}
#endif

enum action { ACTION_KILL, ACTION_STOP, ACTION_ERROR, ACTIONS };
static const char *const action_name[ACTIONS] = {"kill", "stop", "error"};

struct order {
	size_t name; /* bytes of the name at the start of the text */
	unsigned nth;
	int onwards;
	enum action action;
};

static int order_parse(struct order *o, const char *text, struct err *e)
{
	*o = (struct order){strcspn(text, ":"), 1, 0, ACTION_KILL};
	const char *p = text + o->name;
	if (*p == ':') {
		char *end;
		unsigned long nth = strtoul(p + 1, &end, 10);
		if (*end == '+') o->onwards = 1, end++;
		if (end == p + 1 || nth == 0 || nth > 1000000000ul || (*end && *end != ':'))
			return err_set(e, ERR_RANGE, "TENFOLD_FAULT=%s: after the name stands a passage from 1, as in name:3", text);
		o->nth = (unsigned)nth;
		p = end;
	}
	if (*p == ':') {
		int a = 0;
		while (a < ACTIONS && strcmp(p + 1, action_name[a])) a++;
		if (a == ACTIONS) return err_set(e, ERR_RANGE, "TENFOLD_FAULT=%s: the action is kill, stop or error", text);
		o->action = (enum action)a;
	}
	return 0;
}

size_t fault_list(struct fault_info *out, size_t max)
{
	size_t n = site_count();
	for (size_t i = 0; i < n && i < max; i++) {
		const struct fault_site *s = site_at(i);
		out[i] = (struct fault_info){s->name, s->meaning, s->file, s->line, s->can_fail};
	}
	return n;
}

int fault_check(struct err *e)
{
	const char *text = getenv("TENFOLD_FAULT");
	struct order o;
	if (!text || !*text) return 0;
	if (!fault_enabled())
		return err_set(e, ERR_STATE, "TENFOLD_FAULT is set, but this build has no fault points: configure with -DTENFOLD_FAULTS=ON");
	int rc = order_parse(&o, text, e);
	if (rc < 0) return rc;
	for (size_t i = 0; i < site_count(); i++) {
		const struct fault_site *s = site_at(i);
		if (strncmp(s->name, text, o.name) || s->name[o.name]) continue;
		if (o.action == ACTION_ERROR && !s->can_fail)
			return err_set(e, ERR_RANGE, "TENFOLD_FAULT=%s: no error can be returned at %s (%s:%d)", text, s->name, s->file, s->line);
		return 0;
	}
	return err_set(e, ERR_NOT_FOUND, "TENFOLD_FAULT=%s: this program has no such fault point (`tenfold faults` lists them)", text);
}

void fault_reset(void)
{
	for (size_t i = 0; i < site_count(); i++) __atomic_store_n(&site_at(i)->passes, 0, __ATOMIC_RELAXED);
}

static void note(const char *what, const char *name)
{
	const char *path = getenv("TENFOLD_FAULT_LOG");
	char line[256];
	if (!path || !*path) return;
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	int n = snprintf(line, sizeof line, "%s %s\n", what, name);
	CHECK(fd >= 0 && n < (int)sizeof line && write(fd, line, (size_t)n) == n, "cannot note a fault point in TENFOLD_FAULT_LOG=%s", path);
	close(fd);
}

/* 1 when this process is the one that acts. */
static int acts_here(void)
{
	const char *path = getenv("TENFOLD_FAULT_ONCE");
	if (!path || !*path) return 1;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	CHECK(fd >= 0 || errno == EEXIST, "cannot create TENFOLD_FAULT_ONCE=%s", path);
	if (fd >= 0) close(fd);
	return fd >= 0;
}

int fault_pass(struct fault_site *site, struct err *e)
{
	unsigned pass = __atomic_add_fetch(&site->passes, 1, __ATOMIC_RELAXED);
	if (pass == 1) note("pass", site->name);
	const char *text = getenv("TENFOLD_FAULT");
	size_t n = strlen(site->name);
	if (!text || strncmp(text, site->name, n) || (text[n] && text[n] != ':')) return 0;
	struct order o;
	struct err bad;
	CHECK(order_parse(&o, text, &bad) == 0, "%s", bad.msg);
	if ((o.onwards ? pass < o.nth : pass != o.nth) || !acts_here()) return 0;
	note(action_name[o.action], site->name);
	if (o.action == ACTION_ERROR) {
		CHECK(site->can_fail, "TENFOLD_FAULT=%s: no error can be returned there", text);
		return err_set(e, ERR_IO, "fault point %s was told to fail", site->name);
	}
	kill(getpid(), o.action == ACTION_KILL ? SIGKILL : SIGSTOP);
	while (o.action == ACTION_KILL) pause();
	return 0;
}
