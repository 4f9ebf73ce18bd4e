/* Which comparison a person is asked next about the candidates of a prompt.
 * A pure function of the campaign's options and seed, of the prompt's number and
 * of the answers so far: asked again, after a reload or an undo, it gives the
 * same. Nothing is kept between calls.
 *
 * The usual design: quads (best and worst of four) that cover all candidates and
 * hang together, ceil((n−1)/3) of them, three for ten; then duels, each either
 * the pair with the largest expected information about the scores (Lindley 1956;
 * BALD, Houlsby et al. 2011) given what everybody answered, or, by a coin thrown
 * before, a pair drawn uniformly. The duels by information stop when the best of
 * them promises less than `stop_gain`; the uniform ones are asked whatever was
 * answered, so that they stay an unbiased sample of pairs. Short texts are
 * tapped into an order, long ones compared in duels alone, and a share of the
 * prompts is drawn to a design that is not the usual one for its length, so that
 * designs can be compared on like prompts.
 *
 * Random numbers are Philox's (seed; prompt, person, place): the share of
 * uniform picks and the sets drawn do not depend on who came when. */
#ifndef TENFOLD_APP_WEB_PICK_H
#define TENFOLD_APP_WEB_PICK_H

#include "reward/judgement.h"

enum pick_design {
	PICK_QUADS = 1, /* quads, then duels */
	PICK_DUELS = 2, /* duels alone */
	PICK_ORDER = 3, /* one order of all */
};

/* Why these candidates. The uniform arm is chosen without looking at answers, every set of its size being as likely as any other. */
enum pick_arm { PICK_UNIFORM = 1, PICK_GAIN = 2 };

enum { PICK_ORDER_MAX = 12 }; /* candidates of an order; more get quads */

struct pick_options {
	uint64_t seed;        /* of the campaign */
	uint32_t quads;       /* 0: ceil((n−1)/3) */
	uint32_t duels;       /* after the quads, at most; 0: 2(n+2)/5 rounded down, 4 for ten */
	uint32_t duels_alone; /* of the design of duels; 0: 3n/2 rounded up, 15 for ten */
	double uniform;       /* chance of a duel to be a uniform pick: 0.2 to 1 */
	double other_design;  /* chance of a prompt to get another design than its length's */
	double stop_gain;     /* nats */
	uint32_t short_words, long_words; /* of the longest candidate: up to / beyond which a text is short / long; 0 short: none is */
};
/* seed 0, uniform 0.25, other_design 0.1, stop_gain 0.15, 40 and 250 words, the rest 0. */
struct pick_options pick_options_default(void);

struct pick_task {
	uint32_t item;        /* the prompt's number in the campaign: key of its random numbers */
	uint32_t person;      /* who is asked: judgement.person of their answers; key of their random numbers */
	uint32_t candidates;  /* n, 2..GROUP_MAX */
	uint32_t words;       /* of the longest candidate */
	/* Answers to this prompt (and criterion), by everybody, in any order, undone ones left out. Those of `person` say how
	 * far the person is: one without a ranking (skipped, all bad, …) counts as asked too; repeats and gold items do not
	 * belong here. judgement.item is not looked at. */
	const struct judgement *answers;
	size_t count;
	const double *beta;   /* [people] inverse temperature of each person (crowd.h); NULL: all 1 */
	const double *weight; /* [people] how far each is trusted, 0 to 1; NULL: all 1 */
	const struct judgement_scale *scale; /* NULL: the default */
};

struct pick {
	int done;             /* nothing more to ask this person here; the rest is not set but design and place */
	enum pick_design design;
	enum judgement_kind kind;
	enum pick_arm arm;
	uint32_t place;       /* number of the question, from 0: answers of the person before it */
	uint32_t most;        /* questions of this prompt at most, for a progress bar */
	uint32_t count;
	uint8_t shown[GROUP_MAX]; /* candidates in the order in which to lay them out, drawn for this person and question */
	/* Chance with which this set (in whatever layout) was picked, of all that could have been at this place: of a quad and an
	 * order among all sets of that size; of a duel over the coin too, so it is uniform/pairs for all but the most informative. */
	double probability;
	double gain;          /* expected information, nats; of duels */
};

/* The design of a prompt: the same for everybody. */
enum pick_design pick_design_of(const struct pick_options *o, uint32_t item, uint32_t candidates, uint32_t words);
/* pick.most of a prompt, at no cost. */
uint32_t pick_most(const struct pick_options *o, uint32_t item, uint32_t candidates, uint32_t words);
void pick_next(struct pick *out, const struct pick_options *o, const struct pick_task *t);

/* Word for records and pages: "quads", "duels", "order"; "uniform", "gain". */
const char *pick_design_name(enum pick_design d);
const char *pick_arm_name(enum pick_arm a);

#endif
