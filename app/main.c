/* The program: a table of subcommands. A new command is one row here and one
 * line in commands.h. Only this file turns an error into text and an exit
 * status. */
#include "app/commands.h"
#include "app/options.h"
#include "core/base/fault.h"
#include "core/base/log.h"

#include <stdio.h>
#include <string.h>

#ifndef TENFOLD_VERSION
#define TENFOLD_VERSION "unknown"
#endif

static const struct command {
	const char *name, *help;
	int (*run)(int argc, char **argv, struct err *e);
} commands[] = {
	{"run", "Run all stages of a configuration on this machine.", command_run},
	{"pretrain", "Train a model on plain text from weighted sources.", command_pretrain},
	{"sft", "The stage sft by hand: supervised training.", command_sft},
	{"collect", "The stage collect by hand: ranked groups for a reward model.", command_collect},
	{"fit-reward", "The stage fit-reward by hand: a reward model from them.", command_fit_reward},
	{"eval", "The stage eval by hand: held-out pass rates.", command_eval},
	{"learner", "The learner of the stage ppo, alone.", command_learner},
	{"rollout", "A rollout worker, here or on another machine.", command_rollout},
	{"reward", "A scoring service, here or on another machine.", command_reward},
	{"model", "What a checkpoint is; the same in another type.", command_model},
	{"logits", "The logits that a checkpoint gives for token ids.", command_logits},
	{"generate", "Completions of a prompt with log-probabilities and scores.", command_generate},
	{"tokenizer", "Train a tokenizer on a text file.", command_tokenizer},
	{"tokenize", "Text to token ids and back, with any supported tokenizer.", command_tokenize},
	{"config", "Print the complete configuration, or the reference of all keys.", command_config},
	{"report", "Write a run's report (or several runs overlaid) as one HTML page.", command_report},
	{"diff", "Compare two runs: identical up to which step, and the first difference.", command_diff},
	{"digest", "Print the hash of everything exact in a run.", command_digest},
	{"bench", "Measure this machine's limits and how near to them the program comes.", command_bench},
	{"faults", "List the fault points of a test build.", command_faults},
	{"import", "Read a data set of another layout, check it, and write it in ours.", command_import},
	{"crowd", "Simulate labellers: what a design of comparisons is worth; dishonest ones.", command_crowd},
	{"web", "Serve the labelling page over a folder.", command_web},
	{"label", "Make a labelling campaign; import and export labels.", command_label},
	{"export", "Write a run's comparisons or metrics as CSV, JSONL or TensorBoard files.", command_export},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *f)
{
	fputs("Tenfold aligns Mixture-of-Experts language models with PPO and groups of ten.\n\nUsage: tenfold COMMAND [arguments]\n\nCommands:\n", f);
	for (int i = 0; i < COMMANDS; i++) fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
	fputs("\n`tenfold COMMAND --help` says more; docs/guide.md explains the parts and the exit codes.\n", f);
}

static int unknown(const char *name)
{
	const char *names[COMMANDS];
	for (int i = 0; i < COMMANDS; i++) names[i] = commands[i].name;
	fprintf(stderr, "tenfold: there is no command '%s'; the nearest is '%s' (tenfold --help lists all)\n", name,
		options_nearest(name, names, COMMANDS));
	return err_exit_status(ERR_FORMAT);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		print_help(stderr);
		return err_exit_status(ERR_FORMAT);
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("tenfold " TENFOLD_VERSION);
		return 0;
	}
	for (int i = 0; i < COMMANDS; i++) {
		if (strcmp(argv[1], commands[i].name)) continue;
		struct err e = {0};
		int rc = fault_check(&e);
		if (rc == 0) rc = commands[i].run(argc - 1, argv + 1, &e);
		if (fflush(stdout) != 0 && rc >= 0) rc = err_set(&e, ERR_IO, "cannot write to the standard output");
		if (rc >= 0) return rc;
		fprintf(stderr, "tenfold %s: %s\n", commands[i].name, e.msg);
		log_setup(commands[i].name, LOG_SILENT); /* into the run's log too, where it was open: the dashboard says why a run has failed */
		if (rc != ERR_STOPPED) log_error("%s", e.msg);
		return err_exit_status(rc);
	}
	return unknown(argv[1]);
}
