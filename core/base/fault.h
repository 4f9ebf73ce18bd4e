/* Fault points: named places at which a test build can be made to die, to
 * stand still or to fail, so that "killed between write and rename" is a test
 * and not a hope, and the share of points killed at is countable.
 *
 * FAULT_POINT("file.before_rename", "synced, not renamed") marks a place and says
 * what is and what is not done there; FAULT_ERROR("file.write", "…", e) marks one
 * where the caller can take an error: it is 0, or fills *e and is negative. Both
 * vanish unless TENFOLD_FAULTS is defined. Each point adds itself to a linker
 * section, so the list of points (`tenfold faults`) is the list of what is
 * compiled in: nobody keeps it by hand. Names are unique in the program.
 *
 * In such a build three environment variables are read at every passage:
 *   TENFOLD_FAULT=name[:nth[+][:kill|stop|error]]  what happens at the nth (1)
 *     passage through that point in this process, with + at every one from there
 *     on: SIGKILL (the default), SIGSTOP
 *     until someone sends SIGCONT, or an error returned. `error` at a point
 *     that cannot return one aborts: a test that asks for it is wrong.
 *   TENFOLD_FAULT_LOG=file  collects "pass NAME" at the first passage of a
 *     process and "kill|stop|error NAME" before it acts; lines are appended whole.
 *   TENFOLD_FAULT_ONCE=file  of all processes that see it only one acts: the one
 *     that creates the file. So what is killed can be started again. */
#ifndef TENFOLD_BASE_FAULT_H
#define TENFOLD_BASE_FAULT_H

#include "core/base/err.h"

#include <stddef.h>

struct fault_site {
	const char *name, *meaning, *file;
	int line, can_fail;
	unsigned passes;
};

struct fault_info {
	const char *name, *meaning, *file;
	int line;
	int can_fail; /* 1: `error` is possible there */
};

/* 1 when this build has fault points. */
int fault_enabled(void);
/* Copies at most `max` points, in no order; returns how many there are (0 in a build without). out may be NULL with max 0. */
size_t fault_list(struct fault_info *out, size_t max);
/* Refuses a TENFOLD_FAULT that is malformed, names no point of this program, or stands before a build without points:
 * call once at start, so that a misspelt test does not pass by doing nothing. */
int fault_check(struct err *e);
/* Forgets all passages: for a forked child that wants to count from 1. */
void fault_reset(void);
/* What the macros call. */
int fault_pass(struct fault_site *site, struct err *e);

#ifdef TENFOLD_FAULTS
#define FAULT_SITE_(label, what, fails)                                                                                \
	static struct fault_site fault_here_ = {label, what, __FILE__, __LINE__, fails, 0};                            \
	static struct fault_site *const fault_entry_ __attribute__((section("tenfold_faults"), used)) = &fault_here_
#define FAULT_POINT(label, what)                                                                                       \
	do {                                                                                                           \
		FAULT_SITE_(label, what, 0);                                                                           \
		(void)fault_pass(&fault_here_, NULL);                                                                  \
	} while (0)
#define FAULT_ERROR(label, what, e)                                                                                    \
	__extension__({                                                                                                \
		FAULT_SITE_(label, what, 1);                                                                           \
		fault_pass(&fault_here_, (e));                                                                         \
	})
#else
#define FAULT_POINT(label, what) ((void)0)
#define FAULT_ERROR(label, what, e) ((void)(e), 0)
#endif

#endif
