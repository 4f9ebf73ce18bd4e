/* `tenfold label`: new, import, export, rank. While `tenfold web` runs it is the writer
 * of labels.db, so new and import ask for it to be stopped for the moment. */
#include "app/commands.h"
#include "app/label.h"
#include "app/options.h"
#include "app/web/campaign.h"
#include "core/base/fs.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int label_open(struct labels **l, const char *dir, int writer, struct err *e)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof path, "%s/labels.db", dir) >= (int)sizeof path) return err_set(e, ERR_RANGE, "path too long: %s", dir);
	int rc = writer ? fs_mkdirs(dir, e) : 0;
	return rc < 0 ? rc : labels_open(l, path, writer, e);
}

struct making {
	const char *name, *from, *guidelines, *warning, *stage, *language;
	struct option_list criteria, sets;
	int all;
	int64_t limit;
};

/* --criterion "NAME: QUESTION" and --set KEY=NUMBER over the defaults. */
static int read_options(const struct making *m, struct campaign_options *o, struct err *e)
{
	json_t *j, *list = json_array();
	campaign_defaults(o);
	o->pick.seed = (uint64_t)time(NULL);
	j = campaign_write(o);
	int rc = 0;
	for (int i = 0; i < m->criteria.count && rc == 0; i++) {
		const char *text = m->criteria.item[i], *colon = strchr(text, ':');
		if (!colon) rc = err_set(e, ERR_FORMAT, "--criterion needs \"NAME: QUESTION\", not '%.100s'", text);
		else json_array_append_new(list, json_pack("{s:s%,s:s}", "name", text, (size_t)(colon - text), "question", colon + 1 + strspn(colon + 1, " ")));
	}
	if (json_array_size(list)) json_object_set(j, "criteria", list);
	if (m->warning) json_object_set_new(j, "warning", json_string(m->warning));
	for (int i = 0; i < m->sets.count && rc == 0; i++) {
		char key[64], *end;
		const char *equal = strchr(m->sets.item[i], '=');
		double x = equal ? strtod(equal + 1, &end) : 0;
		if (!equal || end == equal + 1 || *end || equal - m->sets.item[i] >= (ptrdiff_t)sizeof key)
			rc = err_set(e, ERR_FORMAT, "--set needs KEY=NUMBER, not '%.100s'", m->sets.item[i]);
		else {
			snprintf(key, sizeof key, "%.*s", (int)(equal - m->sets.item[i]), m->sets.item[i]);
			int whole = json_is_integer(json_object_get(j, key)) && x == floor(x);
			json_object_set_new(j, key, whole ? json_integer((json_int_t)x) : json_real(x));
		}
	}
	if (rc == 0) rc = campaign_read_json(o, j, e);
	json_decref(list);
	json_decref(j);
	return rc;
}

static int is_folder_of_run(const char *path)
{
	char db[PATH_MAX];
	size_t n = strlen(path);
	if (n > 3 && !strcmp(path + n - 3, ".db")) return 1;
	return snprintf(db, sizeof db, "%s/run.db", path) < (int)sizeof db && fs_exists(db);
}

static int fill(struct labels *l, const struct making *m, const struct campaign_options *o, const char *guidelines, int64_t *campaign, int64_t *n,
                struct err *e)
{
	json_t *j = campaign_write(o);
	char *options = json_dumps(j, JSON_COMPACT);
	json_decref(j);
	int rc = options ? labels_begin(l, e) : err_set(e, ERR_MEMORY, "no memory for a campaign");
	if (rc == 0) {
		rc = labels_campaign_put(l, m->name, options, guidelines, campaign, e);
		if (rc == 0)
			rc = is_folder_of_run(m->from) ? label_items_from_run(l, *campaign, m->from, m->stage, m->all, m->limit, n, e)
						       : label_items_from_file(l, *campaign, m->from, m->language, n, e);
		if (rc == 0 && *n == 0) rc = err_set(e, ERR_RANGE, "%s has nothing to compare", m->from);
		rc = labels_end(l, rc, e);
	}
	free(options);
	return rc;
}

int label_new(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	struct making m = {.stage = "ppo", .language = ""};
	struct campaign_options o;
	struct campaign_estimate x;
	struct labels *l = NULL;
	char *guidelines = NULL;
	int64_t campaign = 0, n = 0;
	size_t bytes;
	const struct option table[] = {
		{"from", OPTION_TEXT, &m.from, "RUN|FILE", "A run's folder, or a JSONL file of prompts with candidates (2 to 64), from whatever system."},
		{"name", OPTION_TEXT, &m.name, "NAME", "Name of the campaign; people see it."},
		{"guidelines", OPTION_TEXT, &m.guidelines, "FILE", "Text (a little markdown) that people read and accept before they start."},
		{"criterion", OPTION_LIST, &m.criteria, "NAME: QUESTION", "What is asked; may be repeated. Default \"overall: Which answer is better?\"."},
		{"warning", OPTION_TEXT, &m.warning, "TEXT", "A warning about the content, shown with a way out."},
		{"language", OPTION_TEXT, &m.language, "CODE", "Language of items that do not say theirs; people get those of their languages."},
		{"stage", OPTION_TEXT, &m.stage, "NAME", "Of a run: groups of this stage. Default ppo."},
		{"all-steps", OPTION_FLAG, &m.all, NULL, "Of a run: groups of all steps, not of the newest."},
		{"limit", OPTION_INT, &m.limit, "N", "Of a run: at most so many groups; 0: all."},
		{"set", OPTION_LIST, &m.sets, "KEY=NUMBER", "labels_each, overlap, overlap_labels, gold, repeats, qualification, pass, uniform, seed, … (docs/labelling.md)."},
	};
	const struct options_use use = {
		.line = "label new DIR --name NAME --from RUN|FILE [--guidelines FILE] [options]",
		.about = "Makes a campaign in DIR/labels.db and says how much work it is.",
		.table = table, .count = sizeof table / sizeof table[0], .at_least = 1, .at_most = 1};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (!m.name || !m.from) return err_set(e, ERR_FORMAT, "--name and --from are needed");
	TRY(read_options(&m, &o, e));
	if (m.guidelines) TRY(fs_read(m.guidelines, LABELS_TEXT_MAX, &guidelines, &bytes, e));
	TRY(label_open(&l, rest.item[0], 1, e));
	TRY(fill(l, &m, &o, guidelines ? guidelines : "Choose the answer that you would rather have been given.", &campaign, &n, e));
	TRY(campaign_estimate(l, campaign, &o, &x, e));
	printf("campaign %lld '%s': %lld items, of them %lld prompts for %lld people's sittings; at most %lld questions, about %.1f hours;\n"
	       "accuracy of pairs to expect: %.0f %%. Next: tenfold web %s\n",
		(long long)campaign, m.name, (long long)n, (long long)x.items, (long long)x.people_items, (long long)x.questions, x.hours, 100 * x.accuracy, rest.item[0]);
out:
	labels_close(l);
	free(guidelines);
	return rc;
}

int command_label(int argc, char **argv, struct err *e)
{
	static const struct {
		const char *name, *help;
		int (*run)(int argc, char **argv, struct err *e);
	} parts[] = {
		{"new", "Make a campaign from a run or a file.", label_new},
		{"import", "Make a campaign with the labels of another program.", label_import},
		{"export", "Write the labels for other programs.", label_export},
		{"rank", "Write the ranking that the labels imply, with its uncertainty.", label_rank},
	};
	enum { PARTS = sizeof parts / sizeof parts[0] };
	for (int i = 0; argc > 1 && i < PARTS; i++)
		if (!strcmp(argv[1], parts[i].name)) return parts[i].run(argc - 1, argv + 1, e);
	int asked = argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));
	if (!asked) return err_set(e, ERR_FORMAT, argc > 1 ? "there is no 'label %.40s' (tenfold label --help)" : "say what to do (tenfold label --help)", argc > 1 ? argv[1] : "");
	puts("Usage: tenfold label COMMAND [arguments]\n\nCommands:");
	for (int i = 0; i < PARTS; i++) printf("  %-8s %s\n", parts[i].name, parts[i].help);
	return 0;
}
