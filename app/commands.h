/* The subcommands of the program. Each parses its own options (options.h), so
 * that `tenfold COMMAND --help` is the command's own page.
 *
 * A command returns 0 when all is well, a positive number to exit with it (diff:
 * 4, that of ERR_MISMATCH, when the runs differ), or a negative err_code with *e filled, which main
 * prints and turns into the exit status (err_exit_status). argv[0] is the
 * command's name. */
#ifndef TENFOLD_APP_COMMANDS_H
#define TENFOLD_APP_COMMANDS_H

#include "core/base/err.h"

int command_run(int argc, char **argv, struct err *e);
int command_pretrain(int argc, char **argv, struct err *e);
int command_sft(int argc, char **argv, struct err *e);
int command_collect(int argc, char **argv, struct err *e);
int command_fit_reward(int argc, char **argv, struct err *e);
int command_eval(int argc, char **argv, struct err *e);
int command_learner(int argc, char **argv, struct err *e);
int command_rollout(int argc, char **argv, struct err *e);
int command_reward(int argc, char **argv, struct err *e);
int command_model(int argc, char **argv, struct err *e);
int command_logits(int argc, char **argv, struct err *e);
int command_generate(int argc, char **argv, struct err *e);
int command_tokenizer(int argc, char **argv, struct err *e);
int command_tokenize(int argc, char **argv, struct err *e);
int command_config(int argc, char **argv, struct err *e);
int command_report(int argc, char **argv, struct err *e);
int command_diff(int argc, char **argv, struct err *e);
int command_digest(int argc, char **argv, struct err *e);
int command_bench(int argc, char **argv, struct err *e);
int command_faults(int argc, char **argv, struct err *e);
int command_import(int argc, char **argv, struct err *e);
int command_crowd(int argc, char **argv, struct err *e);
int command_web(int argc, char **argv, struct err *e);
int command_label(int argc, char **argv, struct err *e);
int command_export(int argc, char **argv, struct err *e);

#endif
