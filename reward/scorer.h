/* Scorers: what gives a group its raw scores, one small interface. The verifier
 * of a task, a learned reward model, an external command and the sum of several
 * are all a struct scorer; the scoring service serves one.
 *
 * A scorer sees the whole group, so it may compare the candidates. Its result
 * depends on the group alone: not on the batch it came in, nor on what was
 * scored before. It belongs to one thread at a time. */
#ifndef TENFOLD_REWARD_SCORER_H
#define TENFOLD_REWARD_SCORER_H

#include "core/base/err.h"
#include "core/base/group.h"

#include <stddef.h>

struct scorer {
	void *self;
	char name[GROUP_TERM_NAME];
	char version[GROUP_VERSION]; /* names what gives the scores: changes when the scores could */
	/* Of scores for groups of that step, where what gives them changes from step to step; NULL: it does not. */
	int (*version_at)(void *self, uint64_t step, char version[GROUP_VERSION], struct err *e);
	uint32_t terms;              /* 1..GROUP_TERMS_MAX */
	char term_name[GROUP_TERMS_MAX][GROUP_TERM_NAME];
	/* Scores n groups. Of a group these are set: step, slot, prompt, policy_version, size, prompt_text, text, length,
	 * finish, and tokens with prompt_tokens unless tokens is NULL.
	 * out: per group [terms, size], one group after the other; NaN and infinities are refused by the caller. */
	int (*score)(void *self, const struct group *const *groups, uint32_t n, float *out, struct err *e);
	void (*close)(struct scorer *s); /* frees self and s */
};

/* NULL is legal. */
static inline void scorer_close(struct scorer *s)
{
	if (s) s->close(s);
}

/* Where group i's block [terms, size] starts in `out`. */
static inline size_t scorer_offset(const struct scorer *s, const struct group *const *groups, uint32_t i)
{
	size_t at = 0;
	for (uint32_t k = 0; k < i; k++) at += (size_t)s->terms * groups[k]->size;
	return at;
}

/* The term `command`: an external program, started at the first group and kept. One line of JSON in for each group,
 *   {"id":"STEP/SLOT","prompt":"…","completions":["…", …]}
 * one line out in any order, {"id":"STEP/SLOT","scores":[0.5, …]}, as many as completions. `command` is run by
 * /bin/sh in the current folder, its stderr is ours. It is ended with this process, also when that is killed.
 *   timeout_seconds: without a line from it for so long it counts as hanging; hanging or ended, it is started again and
 *   the open groups are given again, three times, then ERR_NET. A line that is not what it should be is ERR_FORMAT
 *   with the line's number. The version is a hash of the command and of the files that its words name. */
int scorer_command_open(struct scorer **out, const char *command, double timeout_seconds, struct err *e);

/* The term `length`: response tokens of each completion. */
int scorer_length_open(struct scorer **out, struct err *e);

struct reward_terms;
/* All terms of `terms` in their order, each from the scorer in given[n] that offers a term of that name, else built
 * in: length, command (command: the program; timeout as above). A term that nobody offers is ERR_NOT_FOUND naming
 * the possible ones. The given scorers stay the caller's and are not closed with it. */
int scorer_terms_open(struct scorer **out, const struct reward_terms *terms, struct scorer *const *given, uint32_t n,
                      const char *command, double timeout_seconds, struct err *e);

#endif
