/* The stages by hand: `tenfold pretrain`, `tenfold sft`, `tenfold collect`, `tenfold fit-reward`, `tenfold eval`. (`ppo` is several processes:
 * `tenfold run --set run.stages=ppo`, or the roles one by one.) */
#include "app/commands.h"
#include "app/options.h"
#include "app/stages.h"

#include "core/base/log.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static int stage_command(int argc, char **argv, const char *line, const char *about, const char *name, int (*stage)(const struct stage_options *, struct err *),
			 struct err *e)
{
	struct option_list sets = {0}, rest;
	struct stage_options o = {.sets = &sets};
	const char *labels = NULL;
	char path[PATH_MAX], key[PATH_MAX + 16];
	const struct option table[] = {{"out", OPTION_TEXT, &o.folder, "DIR", "Folder of the run."},
				       {"resume", OPTION_FLAG, &o.resume, NULL, "Go on with the run that is in the folder."}, OPTION_SET(&sets),
				       {"labels", OPTION_TEXT, &labels, "FILE", "Fit to the human labels of this labels.db (fit.labels)."}};
	const struct options_use use = {.line = line, .about = about, .table = table, .count = stage == stage_fit ? 4 : 3, .at_least = 1, .at_most = 1};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (!o.folder) return err_set(e, ERR_FORMAT, "%s needs --out DIR: the folder of the run", name);
	if (labels && (!realpath(labels, path) || sets.count == OPTION_LIST_MAX)) return err_set(e, ERR_NOT_FOUND, "--labels %s: there is no such file", labels);
	if (labels) {
		snprintf(key, sizeof key, "fit.labels=%s", path);
		sets.item[sets.count++] = key;
	}
	o.config = rest.item[0];
	log_setup(name, LOG_WARN);
	return stage(&o, e);
}

int command_pretrain(int argc, char **argv, struct err *e)
{
	return stage_command(argc, argv, "pretrain CONFIG --out DIR [--resume] [--set KEY=VALUE]…",
			     "Trains on the texts of pretrain.sources, mixed by their weights; leaves the model and its tokenizer in DIR/models/pretrain\n"
			     "(model.init and tokenizer.path of a later run) and its held-out loss, by source, in DIR/summary.json.", "pretrain", stage_pretrain, e);
}

int command_sft(int argc, char **argv, struct err *e)
{
	return stage_command(argc, argv, "sft CONFIG --out DIR [--resume] [--set KEY=VALUE]…",
			     "Supervised training alone; leaves the model in DIR/models/sft and its held-out pass rate in DIR/summary.json.", "sft", stage_sft, e);
}

int command_collect(int argc, char **argv, struct err *e)
{
	return stage_command(argc, argv, "collect CONFIG --out DIR [--resume] [--set KEY=VALUE]…",
			     "Samples collect.prompts groups from the supervised model and stores them ranked by the task's verifier.", "collect", stage_collect, e);
}

int command_fit_reward(int argc, char **argv, struct err *e)
{
	return stage_command(argc, argv, "fit-reward CONFIG --out DIR [--labels FILE] [--resume] [--set KEY=VALUE]…",
			     "Fits a reward model to the collected groups, or to human labels; leaves it in DIR/models/reward and its held-out pair accuracy in DIR/summary.json.",
			     "fit-reward", stage_fit, e);
}

int command_eval(int argc, char **argv, struct err *e)
{
	return stage_command(argc, argv, "eval CONFIG --out DIR [--resume] [--set KEY=VALUE]…",
			     "Held-out pass rates of the run's models, greedy, and of the best of eval.best_of samples from the start.", "eval", stage_eval, e);
}
