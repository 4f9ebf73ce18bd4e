/* `tenfold crowd`: a simulated crowd with a stated noise, for anyone who wants to
 * see what a design of comparisons is worth or whether a dishonest labeller is
 * found, before real people's time is spent. The tables are those of
 * docs/labelling.md. */
#include "app/commands.h"
#include "app/crowd_label.h"
#include "app/options.h"
#include "app/web/simulate.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

struct crowd_command {
	int64_t seed, prompts, candidates, seeds, people, adversaries, labels, qualification;
	double agreement, adversary, overlap, gold;
	double first, again, decision, temperature;
	int64_t skip;
	const char *labels_file, *run, *campaign, *truth;
	int json, at_random;
};

static int designs(const struct crowd_command *c, struct err *e)
{
	uint32_t count;
	const struct simulate_design *d = simulate_designs(&count);
	struct simulate_seconds s = {c->first, c->again, c->decision};
	double beta = simulate_beta(c->agreement);
	if (c->candidates != 10) return err_set(e, ERR_RANGE, "the designs are for groups of ten; --candidates %lld is not", (long long)c->candidates);
	if (!c->json)
		printf("%lld prompts of %lld; two people agree on %.1f %% of random pairs (inverse temperature %.3f); %g s to read, %g s to read again,\n"
		       "%g s to decide; seed %lld\n\n"
		       "| Design | questions | s/prompt | pair accuracy | expected | top-1 | expected | top-1 per hour |\n|---|---|---|---|---|---|---|---|\n",
		       (long long)c->prompts, (long long)c->candidates, 100 * c->agreement, beta, c->first, c->again, c->decision, (long long)c->seed);
	json_t *list = json_array();
	for (uint32_t i = 0; i < count; i++) {
		struct simulate_result r;
		simulate_run(&r, &d[i], (uint64_t)c->seed, (uint32_t)c->prompts, (uint32_t)c->candidates, beta, &s);
		if (!c->json) {
			printf("| %s | %.1f | %.0f | %.3f ±%.3f | %.3f | %.2f ±%.2f | %.2f | %.2f |\n", d[i].name, r.questions, r.seconds, r.accuracy,
			       r.accuracy_error, r.expected, r.top, r.top_error, r.expected_top, 3600 * r.top / r.seconds);
			fflush(stdout);
		}
		json_array_append_new(list, json_pack("{s:s,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "design", d[i].name, "questions", r.questions, "seconds", r.seconds,
						      "pair_accuracy", r.accuracy, "pair_accuracy_error", r.accuracy_error, "top", r.top, "top_error",
						      r.top_error, "pair_accuracy_expected", r.expected));
	}
	if (c->json) {
		json_dumpf(list, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
		puts("");
	}
	json_decref(list);
	return 0;
}

static int people(const struct crowd_command *c, struct err *e)
{
	double beta = simulate_beta(c->agreement);
	struct simulate_campaign g = {.people = (uint32_t)c->people, .adversaries = (uint32_t)c->adversaries, .labels = (uint32_t)c->labels,
				      .overlap = c->overlap, .gold = c->gold, .qualification = (uint32_t)c->qualification, .beta = beta,
				      .adversary = c->adversary * beta};
	struct simulate_flags f;
	if (c->adversaries > c->people || c->people < 1) return err_set(e, ERR_RANGE, "%lld adversaries among %lld people", (long long)c->adversaries, (long long)c->people);
	int rc = simulate_adversary(&f, &g, (uint64_t)c->seed, (uint32_t)c->seeds, e);
	if (rc < 0) return rc;
	if (c->json) {
		json_t *j = json_pack("{s:i,s:i,s:i,s:i,s:i,s:i,s:f,s:f}", "seeds", (int)f.seeds, "adversaries", (int)f.adversaries, "flagged", (int)f.flagged,
				      "honest", (int)f.honest, "false_flags", (int)f.false_flags, "seeds_with_false_flags", (int)f.false_seeds,
				      "weight_adversary", f.weight_adversary, "weight_honest", f.weight_honest);
		json_dumpf(j, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
		puts("");
		json_decref(j);
		return 0;
	}
	printf("%u seeds of %lld people, %lld of them dishonest (inverse temperature %.2f against %.2f), %lld labels each, %lld known prompts first,\n"
	       "%.0f %% of the others go to everybody, %.0f %% are gold:\n"
	       "flagged %u of %u; honest ones flagged %u of %u, in %u seeds; mean weight %.4f against %.4f\n",
	       f.seeds, (long long)c->people, (long long)c->adversaries, g.adversary, beta, (long long)c->labels, (long long)c->qualification,
	       100 * c->overlap, 100 * c->gold, f.flagged, f.adversaries, f.false_flags, f.honest, f.false_seeds, f.weight_adversary, f.weight_honest);
	return 0;
}

static int label(const struct crowd_command *c, struct err *e)
{
	int64_t given;
	if (!c->labels_file || !c->run) return err_set(e, ERR_FORMAT, "crowd label needs --file FILE (the labels.db) and --from RUN");
	struct crowd_label_options o = {.labels = c->labels_file, .run = c->run, .campaign = c->campaign, .truth = c->truth, .first = (uint32_t)c->skip,
					.prompts = (uint32_t)c->prompts, .people = (uint32_t)c->people, .adversaries = (uint32_t)c->adversaries,
					.overlap = c->overlap, .temperature = c->temperature, .seed = (uint64_t)c->seed};
	int rc = crowd_label(&o, &given, e);
	if (rc < 0) return rc;
	printf("%lld labels of %u people about %u prompts\n", (long long)given, o.people, o.prompts);
	return 0;
}

int command_crowd(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	struct crowd_command c = {.seed = 1, .prompts = 2000, .candidates = 10, .seeds = 200, .people = 5, .adversaries = 1, .labels = 60, .qualification = 3,
				  .agreement = 0.73, .adversary = -1, .overlap = 0.2, .gold = 0.05, .temperature = 3, .campaign = "simulated", .truth = "verifier", .first = 25, .again = 7, .decision = 4};
	const struct option table[] = {
		{"agreement", OPTION_FLOAT, &c.agreement, "SHARE", "Of random pairs on which two honest people agree (0.73)."},
		{"seed", OPTION_INT, &c.seed, "N", "Of all that is drawn (1)."},
		{"prompts", OPTION_INT, &c.prompts, "N", "designs, label: prompts (2000)."},
		{"candidates", OPTION_INT, &c.candidates, "N", "designs: of a prompt (10)."},
		{"seeds", OPTION_INT, &c.seeds, "N", "people: campaigns simulated (200)."},
		{"people", OPTION_INT, &c.people, "N", "people: of a campaign (5)."},
		{"adversaries", OPTION_INT, &c.adversaries, "N", "people: of them, those who are dishonest (1)."},
		{"at-random", OPTION_FLAG, &c.at_random, NULL, "people: the dishonest answer at random instead of the opposite."},
		{"labels", OPTION_INT, &c.labels, "N", "people: of each person (60)."},
		{"qualification", OPTION_INT, &c.qualification, "N", "people: known prompts that everybody has first (3)."},
		{"overlap", OPTION_FLOAT, &c.overlap, "SHARE", "people: of prompts that go to everybody (0.2)."},
		{"gold", OPTION_FLOAT, &c.gold, "SHARE", "people: of prompts whose best and worst are known (0.05)."},
		{"file", OPTION_TEXT, &c.labels_file, "FILE", "label: the labels.db to write to; made when missing."},
		{"from", OPTION_TEXT, &c.run, "RUN", "label: folder of the run whose groups are labelled."},
		{"campaign", OPTION_TEXT, &c.campaign, "NAME", "label: campaign (simulated)."},
		{"truth", OPTION_TEXT, &c.truth, "NAME", "label: what people want: verifier, or shorter (verifier)."},
		{"skip", OPTION_INT, &c.skip, "N", "label: groups of the run that are left out before (0)."},
		{"temperature", OPTION_FLOAT, &c.temperature, "X", "label: log odds of a candidate of truth 1 against one of truth 0 (3)."},
		OPTION_JSON(&c.json),
	};
	const struct options_use use = {
		.line = "crowd designs|people|label [options]",
		.about = "A simulated crowd. `designs`: the ranking of ten that each design of comparisons recovers, and its assumed seconds\n"
			 "(25 to read a candidate, 7 to read it again, 4 to decide). `people`: whether dishonest labellers are flagged.\n"
			 "`label`: labels the groups of a run in a labels.db: for trials and tests.",
		.table = table,
		.count = sizeof table / sizeof table[0],
		.at_least = 1,
		.at_most = 1,
	};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (c.at_random) c.adversary = 0;
	if (c.agreement <= 0.5 || c.agreement > 0.95) return err_set(e, ERR_RANGE, "--agreement %g: between 0.5 (chance) and 0.95", c.agreement);
	if (!strcmp(rest.item[0], "designs")) return designs(&c, e);
	if (!strcmp(rest.item[0], "people")) return people(&c, e);
	if (!strcmp(rest.item[0], "label")) return label(&c, e);
	return err_set(e, ERR_FORMAT, "crowd: '%s' is none of designs, people and label", rest.item[0]);
}
