/* `tenfold label rank`: what the labels say of each prompt's candidates, as a
 * posterior: scores with their uncertainty, in log odds of an average honest
 * person, and the chance of each to be the best. People are weighed as for a
 * reward model (reward/crowd.h). */
#include "app/label.h"
#include "app/options.h"
#include "core/base/fs.h"
#include "reward/label_set.h"

#include <math.h>
#include <stdlib.h>

enum { TOP_SEED = 1 };

struct ranking {
	const struct label_set *set;
	uint32_t at; /* of the set's items */
	FILE *out;
	json_t *line;
	const struct posterior *p;
	const double *top;
};

static int add_texts(void *ctx, const struct labels_item *it)
{
	struct ranking *r = ctx;
	json_t *list = json_object_get(r->line, "candidates");
	json_object_set_new(r->line, "number", json_integer(it->number));
	json_object_set_new(r->line, "role", json_string(it->role));
	json_object_set_new(r->line, "prompt", json_string(it->prompt));
	for (uint32_t k = 0; k < r->p->n; k++)
		json_array_append_new(list, json_pack("{s:s,s:s,s:f,s:f,s:f}", "text", it->candidate[k].text, "source", it->candidate[k].source, "score", r->p->mean[k], "sd",
			sqrt(r->p->covariance[k * r->p->n + k]), "best", r->top[k]));
	return 0;
}

static int write_prompt(struct ranking *r, struct labels *l, struct err *e)
{
	const struct label_set *s = r->set;
	const struct crowd_item *it = &s->item[r->at];
	struct posterior p;
	double top[GROUP_MAX], trusted = 0;
	uint8_t order[GROUP_MAX];
	int64_t answers = 0;
	for (size_t i = it->begin; i < it->begin + it->count; i++) {
		if (s->judgement[i].person == s->people) continue; /* the owner's knowledge of a gold item */
		answers++;
		trusted += s->crowd.weight[s->judgement[i].person];
	}
	posterior_fit(&p, &s->model, s->judgement + it->begin, it->count, it->candidates);
	posterior_top(&p, TOP_SEED, top);
	posterior_order(&p, order);
	json_t *list = json_array();
	for (uint32_t k = 0; k < p.n; k++) json_array_append_new(list, json_integer(order[k]));
	r->line = json_pack("{s:I,s:f,s:o,s:o}", "answers", (json_int_t)answers, "trusted", trusted, "order", list, "candidates", json_array());
	r->p = &p;
	r->top = top;
	int rc = labels_item_get(l, s->item_id[r->at], add_texts, r, e);
	if (rc == 0 && json_dumpf(r->line, r->out, JSON_COMPACT | JSON_REAL_PRECISION(6)) == 0) fputc('\n', r->out);
	json_decref(r->line);
	return rc;
}

int label_rank(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	const char *name = "", *out = NULL;
	char *text = NULL;
	size_t bytes = 0;
	int64_t criterion = 0;
	struct labels *l = NULL;
	struct label_set set = {0};
	struct ranking r = {.set = &set};
	const struct option table[] = {
		{"name", OPTION_TEXT, &name, "NAME", "Campaign; default: all."},
		{"criterion", OPTION_INT, &criterion, "N", "Number of the criterion, from 0 (0)."},
		{"out", OPTION_TEXT, &out, "FILE", "File to write; default: standard output."},
	};
	const struct options_use use = {.line = "label rank DIR [--name NAME] [--criterion N] [--out FILE]",
		.about = "Writes for each labelled prompt the candidates' scores with their uncertainty (log odds of an average honest\n"
			 "person) and the chance of each to be the best, one JSON object a line. Works while the server runs.",
		.table = table, .count = 3, .at_least = 1, .at_most = 1};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	TRY(label_open(&l, rest.item[0], 0, e));
	TRY(label_set_people(&set, l, &(struct label_set_options){.campaign = name, .criterion = (uint32_t)criterion}, 0, e));
	if (!(r.out = open_memstream(&text, &bytes))) TRY(err_set(e, ERR_MEMORY, "no memory for the ranking"));
	for (r.at = 0; rc == 0 && r.at < set.items; r.at++) rc = write_prompt(&r, l, e);
	if (fclose(r.out) != 0 && rc == 0) rc = err_set(e, ERR_MEMORY, "no memory for the ranking");
	if (rc < 0) goto out;
	if (out) TRY(fs_write_atomic(out, text, bytes, e));
	else if (fwrite(text, 1, bytes, stdout) != bytes) rc = err_set(e, ERR_IO, "cannot write to the standard output");
out:
	free(text);
	label_set_free(&set);
	labels_close(l);
	return rc;
}
