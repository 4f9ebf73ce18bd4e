/* How many labels a stated accuracy needs, before a campaign from the agreement
 * that is expected and during it from the posteriors, and when to stop.
 *
 * Accuracy is the share of pairs of a prompt's candidates that the recovered
 * ranking has in the right order. For normal scores of variance τ² known up to a
 * variance v, ranking and truth correlate by ρ² = 1 − v/τ², and the accuracy is
 * ½ + asin(ρ)/π. Each label adds about the same information c to a candidate:
 * τ²/v = 1 + m·c after m labels of a prompt. Before the campaign c is the mean
 * Fisher information of the questions that are asked; during it, it is read off
 * the accuracy that the posteriors expect of themselves. Against the simulation of
 * `tenfold crowd designs` the formula is within 0.01 for the usual design. */
#ifndef TENFOLD_APP_WEB_ESTIMATE_H
#define TENFOLD_APP_WEB_ESTIMATE_H

#include "app/web/pick.h"
#include "reward/posterior.h"

/* Accuracy after that many labels (answers, not people) of a prompt of n candidates of the usual design, by people who agree
 * on that share (0.5 to 0.95) of random pairs. */
double estimate_accuracy(double agreement, uint32_t n, double labels);
/* Labels of a prompt for that accuracy (0.5 to 0.99); INFINITY for people who agree no more than by chance. */
double estimate_labels(double agreement, uint32_t n, double accuracy);

/* What a posterior expects of itself: the mean over pairs of the chance that their order is right. */
double estimate_expected(const struct posterior *p);

/* A campaign in progress; filled prompt by prompt. */
struct estimate {
	uint64_t prompts, labelled; /* all; those with a label */
	double labels;              /* given, with a ranking */
	double accuracy, low, high; /* expected, mean over the labelled prompts, 95 % over prompts */
	double information;         /* c of a label */
	double per_prompt;          /* labels of a prompt that the target needs */
	double missing;             /* further labels that the campaign needs: to that number in every prompt */
	int stop;                   /* low is at the target and every prompt has a label: nothing more needs to be asked */
	double sum, sum2;           /* of the accuracies, while filling */
};
void estimate_begin(struct estimate *e);
/* labels: answers with a ranking; p may be NULL when there is none. */
void estimate_add(struct estimate *e, const struct posterior *p, size_t labels);
/* target: accuracy. Without any label the agreement (0: 0.73) and n say what a label will give. */
void estimate_end(struct estimate *e, double target, double agreement, uint32_t n);

#endif
