/* Human labels: labels.db, one SQLite file, the only place where they are. A run
 * reads it and keeps no copy: it remembers the hash of what it read (labels_digest)
 * and the last event, and reads the same again with `through`.
 *
 * One process writes (tenfold web, or a command when no server runs), any number
 * read meanwhile; opening is as for run.db (store.h): flock, WAL, backup before a
 * migration, foreign and newer files refused. Unlike run.db every commit is on the
 * disk before the call returns (synchronous=FULL): what a page was told is kept is
 * kept after a power loss. A handle belongs to one thread at a time.
 *
 * An answer is never changed. It is taken back by a second event, and given anew by
 * a third. What counts: labels that are not taken back, of people who are not
 * excluded, whose texts are still what the person saw.
 *
 * Functions return 0 or a negative err_code with *e filled, unless they say more. */
#ifndef TENFOLD_STORE_LABELS_H
#define TENFOLD_STORE_LABELS_H

#include "core/base/err.h"
#include "core/base/group.h"
#include "core/base/hash.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct labels;

enum { LABELS_NAME = 128, LABELS_TOKEN = 44, LABELS_KEY = 81, LABELS_WORD = 24, LABELS_TEXT_MAX = 1 << 20 };

/* ERR_NOT_FOUND: nothing there to read. A writer creates it. */
int labels_open(struct labels **out, const char *path, int writer, struct err *e);
void labels_close(struct labels *l);
/* Several writes as one transaction; ending with rc < 0 rolls back. Returns rc, or the commit's error. */
int labels_begin(struct labels *l, struct err *e);
int labels_end(struct labels *l, int rc, struct err *e);

/* ---- campaigns and what is compared ---- */

struct labels_campaign {
	int64_t campaign;
	const char *name, *state; /* open, paused, closed */
	const char *options;      /* JSON object; app/web/campaign.h says what is in it */
	int guidelines;           /* newest version */
	double time;
};
/* With version 1 of the guidelines. ERR_STATE when there is one of that name. */
int labels_campaign_put(struct labels *l, const char *name, const char *options, const char *guidelines, int64_t *campaign, struct err *e);
int labels_campaign_state(struct labels *l, int64_t campaign, const char *state, struct err *e);
/* Closes it by the stop rule, which is noted; whether it ever was. */
int labels_campaign_stop(struct labels *l, int64_t campaign, struct err *e);
int labels_campaign_was_stopped(struct labels *l, int64_t campaign, int *was, struct err *e);
int labels_each_campaign(struct labels *l, int (*fn)(void *ctx, const struct labels_campaign *c), void *ctx, struct err *e);
/* -1 in *campaign when there is none. */
int labels_campaign_find(struct labels *l, const char *name, int64_t *campaign, struct err *e);
/* The next version; people are shown it before their next task. */
int labels_guidelines_put(struct labels *l, int64_t campaign, const char *text, int *version, struct err *e);
/* version 0: the newest. *text is malloc'ed. */
int labels_guidelines_get(struct labels *l, int64_t campaign, int version, char **text, int *got, double *time, struct err *e);

struct labels_candidate {
	const char *text, *source; /* source NULL: "" */
	const char *test, *extra;  /* may be NULL; extra is JSON */
	const char *hash;          /* set when read */
};
struct labels_item {
	int64_t item, campaign;
	uint32_t number;      /* in the campaign, from 0 */
	const char *role;     /* task, gold, qualification; NULL: task */
	const char *format;   /* text, chat; NULL: text */
	const char *language; /* NULL: "" */
	const char *prompt, *hash;
	uint32_t size, words; /* words of the longest candidate; both set by the store */
	int expected_best, expected_worst; /* candidates, of gold and qualification; -1: none */
	const char *extra;    /* JSON or NULL */
	struct labels_candidate candidate[GROUP_MAX];
};
/* item, number, hash, words are set by the store. Texts: UTF-8 without NUL, at most LABELS_TEXT_MAX bytes. */
int labels_item_put(struct labels *l, struct labels_item *it, uint32_t size, struct err *e);
/* Strings live until fn returns. ERR_NOT_FOUND. */
int labels_item_get(struct labels *l, int64_t item, int (*fn)(void *ctx, const struct labels_item *it), void *ctx, struct err *e);
/* By number; campaign 0: all. */
int labels_each_item(struct labels *l, int64_t campaign, int (*fn)(void *ctx, const struct labels_item *it), void *ctx, struct err *e);

/* ---- people ---- */

struct labels_person {
	int64_t person;
	char name[LABELS_NAME];
	char state[LABELS_WORD]; /* active, paused, revoked, erased, imported */
	int64_t generation;      /* of their sessions */
	int excluded;
	double time;
};
/* The token is shown once; only its hash (BLAKE2b, 256 bits) is kept. token NULL: someone who cannot sign in (state imported). */
int labels_person_put(struct labels *l, const char *name, char token[LABELS_TOKEN], int64_t *person, struct err *e);
/* A new token; the old one and all sessions are over. */
int labels_person_renew(struct labels *l, int64_t person, char token[LABELS_TOKEN], struct err *e);
/* ERR_NOT_FOUND when no active or paused person has it. */
int labels_person_by_token(struct labels *l, const char *token, struct labels_person *p, struct err *e);
int labels_person_get(struct labels *l, int64_t person, struct labels_person *p, struct err *e);
int labels_each_person(struct labels *l, int (*fn)(void *ctx, const struct labels_person *p), void *ctx, struct err *e);
/* active, paused (keeps the session, gets no task), revoked (token and sessions are over). */
int labels_person_state(struct labels *l, int64_t person, const char *state, struct err *e);
/* From this event on none of the person's labels counts, or all do again. */
int labels_person_exclude(struct labels *l, int64_t person, int excluded, struct err *e);
/* Name, token, languages and everything the person wrote in words are gone, also from the file's free pages; the labels
 * stay under a number that leads to nobody. */
int labels_person_erase(struct labels *l, int64_t person, struct err *e);

struct labels_member {
	int64_t campaign, person;
	char state[LABELS_WORD]; /* invited, working, failed, opted_out */
	int guidelines;          /* version accepted, 0: none */
	char languages[LABELS_NAME];
};
int labels_member_put(struct labels *l, const struct labels_member *m, struct err *e); /* replaces */
/* 1 and *m filled, or 0. */
int labels_member_get(struct labels *l, int64_t campaign, int64_t person, struct labels_member *m, struct err *e);

/* ---- asking ---- */

enum labels_kind { LABELS_BEST_WORST = 1, LABELS_DUEL = 2, LABELS_ORDER = 3 };

struct labels_assignment {
	int64_t assignment, item, person;
	char kind[LABELS_WORD]; /* task, gold, qualification, repeat, adjudication */
	uint32_t place;
	double time, done; /* done 0: not yet */
};
int labels_assign(struct labels *l, int64_t item, int64_t person, const char *kind, int64_t *assignment, struct err *e);
int labels_assignment_done(struct labels *l, int64_t assignment, int done, struct err *e);
/* Each returns 1 and fills *a, or 0. */
int labels_assignment_get(struct labels *l, int64_t assignment, struct labels_assignment *a, struct err *e);
/* The person's oldest one in the campaign that is not done. */
int labels_assignment_open(struct labels *l, int64_t campaign, int64_t person, struct labels_assignment *a, struct err *e);
/* Assignments of the person in the campaign so far, of that kind (NULL: all). */
int labels_assignment_count(struct labels *l, int64_t campaign, int64_t person, const char *kind, int64_t *n, struct err *e);
/* The item of role task that is to be given out next: in the order of numbers, first those that somebody has begun and others
 * still have to do; needs(number) people each; one taken within lease seconds and not done counts. *item 0: none is left for
 * this person. languages: comma separated, "": all. */
int labels_next_item(struct labels *l, int64_t campaign, int64_t person, const char *languages, double lease, uint32_t (*needs)(void *ctx, uint32_t number),
                     void *ctx, int64_t *item, struct err *e);
/* The first item of role gold or qualification that this person has not had; everybody gets all. */
int labels_next_known(struct labels *l, int64_t campaign, int64_t person, const char *role, const char *languages, int64_t *item, struct err *e);
/* Answers of the person in the campaign that are not taken back, and assignments done. Not within a transaction. */
int labels_progress(struct labels *l, int64_t campaign, int64_t person, int64_t *labels, int64_t *prompts, struct err *e);
/* Answers in the campaign that are not taken back, of people who are not excluded. Not within a transaction. */
int labels_campaign_answers(struct labels *l, int64_t campaign, int64_t *labels, struct err *e);

struct labels_ask {
	int64_t ask, assignment, item, person;
	uint32_t criterion, place;
	enum labels_kind kind;
	char design[LABELS_WORD], arm[LABELS_WORD];
	double probability;
	uint32_t count;
	uint8_t shown[GROUP_MAX]; /* candidates in the order shown */
	int64_t repeats;          /* the ask that this one repeats, swapped; 0: none */
	double time;
	int64_t event;            /* its label that counts for the person (not undone); 0: none */
};
/* ask, time and event are set. The hashes of prompt and texts are kept with it. */
int labels_ask_put(struct labels *l, struct labels_ask *a, struct err *e);
/* 1 and *a filled, or 0. */
int labels_ask_get(struct labels *l, int64_t ask, struct labels_ask *a, struct err *e);
/* The first of the assignment, by place and criterion, without a label. */
int labels_ask_open(struct labels *l, int64_t assignment, struct labels_ask *a, struct err *e);
int labels_each_ask(struct labels *l, int64_t assignment, int (*fn)(void *ctx, const struct labels_ask *a), void *ctx, struct err *e);
/* A random earlier ask of the person in the campaign that was ranked and not repeated, at least `back` labels ago; r: 32 random bits. */
int labels_ask_to_repeat(struct labels *l, int64_t campaign, int64_t person, int back, uint32_t r, struct labels_ask *a, struct err *e);

/* ---- answers ---- */

enum labels_outcome { LABELS_RANKED = 1, LABELS_TIE, LABELS_ALL_BAD, LABELS_SKIP, LABELS_CANNOT_RANK, LABELS_FLAG };
const char *labels_outcome_name(enum labels_outcome o); /* "ranked", "tie", "all_bad", … */
/* 0 when there is none of that name. */
enum labels_outcome labels_outcome_find(const char *name);

struct labels_answer {
	const char *key;      /* 8 to 80 characters, given by the page; the same key is the same answer */
	int64_t ask, person;
	enum labels_outcome outcome;
	/* of shown[k]: best and worst: 1 the best, 3 the worst, 2 those between, whose order is not known; duel: 1 and 2; order:
	 * 1.., equal numbers tie. A tie is all 1. All 0 in every outcome but ranked and tie. */
	uint8_t rank[GROUP_MAX];
	int strength;         /* of a duel with a winner: 1 slightly better, 2 better, 3 much better; 0: not said */
	int64_t visible_ms;   /* while the page was in sight */
	int guidelines;
	const char *page;     /* version of the page */
	const char *reason, *correction; /* may be NULL */
	double time;          /* of an imported one, seconds since 1970; 0: now */
};
/* *event: the new one, or that of the same key. ERR_MISMATCH: the key was used for another answer; ERR_STATE: the ask has an
 * answer already; ERR_NOT_FOUND: no such ask of that person; ERR_RANGE: ranks that do not fit. */
int labels_answer_put(struct labels *l, const struct labels_answer *a, int64_t *event, struct err *e);
/* Takes back a label of that person. ERR_NOT_FOUND, ERR_STATE (it is already). */
int labels_undo(struct labels *l, const char *key, int64_t person, int64_t event, int64_t *undo, struct err *e);

/* ---- reading: for those who learn from it ---- */

/* Ids are up to the newest event: a reader that keeps *event and gives it as `through` later gets the same labels. */
int labels_last_event(struct labels *l, int64_t *event, struct err *e);
/* Hash over all events up to and including `through` (0: the newest), what was asked, and the texts. */
int labels_digest(struct labels *l, int64_t through, char hex[HASH_HEX], struct err *e);

struct labels_label {
	int64_t event, campaign, item, person, ask, assignment;
	uint32_t number, size;   /* of the item: its number in the campaign, its candidates */
	const char *role;        /* of the item: task, gold, qualification */
	const char *assigned;    /* task, gold, qualification, repeat, adjudication */
	uint32_t criterion, place;
	enum labels_kind kind;
	const char *design, *arm;
	double probability;
	enum labels_outcome outcome;
	uint32_t count;
	uint8_t shown[GROUP_MAX], rank[GROUP_MAX]; /* as in labels_answer */
	int strength;
	int64_t visible_ms, repeats;
	int expected_best, expected_worst; /* of the item, -1: none */
	int guidelines;
	const char *page;
	double time;
};
struct labels_query {
	int64_t campaign;      /* 0: all */
	int64_t item, person;  /* 0: all */
	const char *assigned;  /* task, gold, …; NULL: all */
	int64_t through;       /* last event that is looked at; 0: the newest */
	int excluded_too;      /* also of people who are excluded, for statistics about them */
};
/* What counts, by event. *changed (may be NULL): labels left out because a text is not what it was when it was labelled. */
int labels_each_label(struct labels *l, const struct labels_query *q, int (*fn)(void *ctx, const struct labels_label *r), void *ctx, int64_t *changed,
                      struct err *e);
/* What the person wrote with it: "" both when nothing; malloc'ed. */
int labels_notes_get(struct labels *l, int64_t event, char **reason, char **correction, struct err *e);

/* One SQL statement that only reads, values as text (as store_query). */
int labels_query(struct labels *l, const char *sql, int (*fn)(void *ctx, int columns, const char *const *names, const char *const *values), void *ctx,
                 struct err *e);
/* The integer in the first column of the first row; 0 when there is none. */
int labels_count(struct labels *l, const char *sql, int64_t *n, struct err *e);
/* person,name,state,labels,undone,skipped,flagged,hours,first,last as CSV: hours is visible time. */
int labels_export_hours(struct labels *l, int64_t campaign, FILE *out, struct err *e);

#endif
