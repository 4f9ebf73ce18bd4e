/* Configuration: one table {section.key, type, default, range, help} (in
 * config_table.c) drives the YAML reader, `--set`, `--help`, the generated
 * docs/configuration.md and the copy saved with a run. An unknown key is an
 * error with its line and the nearest known key.
 *
 * Every field below is one row of the table. Strings are fixed arrays, so that
 * a configuration is one plain value that can be copied. */
#ifndef TENFOLD_BASE_CONFIG_H
#define TENFOLD_BASE_CONFIG_H

#include "core/base/err.h"

#include <stdint.h>
#include <stdio.h>

enum { CONFIG_STRING = 512, CONFIG_KEYS_MAX = 256 };
typedef char config_string[CONFIG_STRING];

struct config_run {
	config_string name;
	config_string stages; /* comma separated: sft, collect, fit-reward, ppo, eval */
	int64_t seed;
	config_string device; /* auto, cpu, cuda */
	config_string precision; /* f32, bf16: what products multiply */
	config_string isa;    /* auto, avx2, avx512, generic: the CPU kernels' instruction set */
	int64_t threads;      /* per process; 0: processors divided by the roles that compute at once */
	int64_t workers, services;
	int64_t keep_checkpoints;
	int64_t recompute; /* activations again in the backward */
};

struct config_model {
	config_string init;              /* folder of a model to start from; empty: from scratch */
	config_string save_dtype;        /* f32, f16, bf16: of models/STAGE */
	int64_t width, layers, heads, kv_heads, head_dim;
	int64_t experts, experts_per_token, expert_width, shared_experts;
	int64_t dense_layers, dense_width; /* the first `dense_layers` layers have a dense feed-forward of this width */
	config_string router;            /* softmax, sigmoid */
	int64_t router_normalize, router_bias;
	double router_scale;
	double rope_theta, norm_eps, init_std;
	int64_t qk_norm, tie_embeddings, max_positions;
};

struct config_lora {
	int64_t r;                     /* 0: off */
	double alpha;
	int64_t rslora;
	double dropout;
	config_string targets;         /* modules, by the end of their path, a pattern, experts, all-linear */
	config_string modules_to_save; /* trained whole */
	config_string stages;          /* sft, fit-reward, ppo */
};

struct config_tokenizer {
	config_string path; /* folder or file of an existing tokenizer; empty: trained from the task's text */
	int64_t vocab_size;
};

struct config_task {
	config_string name;      /* stack: programs in the stack language; prompts: files */
	config_string prompts;   /* files of prompts, examples or comparisons for name: prompts */
	config_string completions; /* files of further examples for supervised training with name: prompts */
	config_string format, columns; /* of `prompts`, and of `heldout_files`: see store/data.h */
	config_string heldout_files;
	config_string chat;      /* none, own, chatml, hh: see policy/chat.h */
	double heldout_share;    /* of the prompts (their keys) */
	int64_t max_bad;         /* bad records that are left out; more are an error */
	int64_t max_tokens;      /* longest prompt with its completion; 0: model.max_positions */
	config_string content_warning; /* shown when a stage begins, and in the report */
	int64_t seed, train, heldout, supervised, levels, tests;
	double wrong; /* share of the supervised examples that are wrong */
};

struct config_optim {
	double lr, weight_decay, beta1, beta2, eps, max_grad_norm;
	config_string schedule; /* constant, linear, cosine */
	int64_t warmup;         /* steps */
	config_string adam;     /* pytorch: eps on the bias-corrected root; tensorflow: eps not corrected */
};

struct config_sft {
	struct config_optim optim;
	int64_t steps, batch;      /* optimiser steps; sequences per step */
	config_string loss_on;     /* completion, all */
	double load_balance_coef, z_loss_coef, router_bias_rate;
	int64_t eval_every;        /* steps; 0: at the end only */
};

struct config_pretrain {
	config_string sources;     /* "path:weight, path:weight" */
	int64_t sequence;          /* tokens predicted a sequence */
	double heldout;            /* share of the documents kept for the held-out loss */
	int64_t eval_sequences;
	struct config_optim optim;
	int64_t steps, batch;      /* optimiser steps; sequences per step */
	double load_balance_coef, z_loss_coef, router_bias_rate;
	int64_t eval_every;        /* steps; 0: at the end only */
};

struct config_rollout {
	int64_t group_size, max_new_tokens, min_new_tokens;
	double temperature, top_p;
	int64_t top_k;
	config_string stop;        /* text that ends a completion; empty: only the end token */
	int64_t batch_groups;      /* groups decoded together by one worker */
	double lease_seconds;
	int64_t fetch_weights, set_aside;
};

struct config_reward {
	config_string terms;   /* "verifier:1.0, length:-0.001": weighted sum of named terms */
	config_string command; /* program for the term `command`: JSONL on stdin, scores on stdout */
	config_string scorer;  /* pointwise, group (learned reward models) */
	config_string model;   /* folder of the reward model for the term `model`; empty: the run's models/reward */
	double timeout_seconds;
	int64_t retries;
	double backoff_max_seconds;
	int64_t batch_groups;  /* groups scored at once */
	int64_t shuffle;       /* control: permute the rewards within each group */
	double clip;           /* rewards limited to ±clip; 0: off */
	int64_t live, live_every; /* the model is fitted anew to the labels so far, every so many steps */
};

struct config_ppo {
	config_string preset; /* none, oai2019, nplus2024, trl */
	struct config_optim optim;
	int64_t steps, prompts;           /* optimisation steps of the run; prompts (groups) a step */
	int64_t epochs, minibatches;
	int64_t gradient_block, micro_batch; /* groups */
	config_string advantage;          /* gae, group (GRPO), group_mean (Dr. GRPO), leave_one_out (RLOO) */
	double gamma, lambda;
	double clip, clip_high, value_clip, value_coef, entropy_coef;
	double dual_clip; /* 0: off */
	double kl_coef;
	config_string kl_estimator; /* k1, k2, k3 */
	config_string kl_in;        /* reward, loss */
	config_string kl_control;   /* fixed, adaptive */
	double kl_target, kl_horizon;
	double kl_stop;             /* approxkl above which the step's remaining minibatches are skipped; 0: off */
	config_string whiten_rewards; /* none, keep_mean, full */
	config_string whiten_advantages; /* none, minibatch, batch */
	config_string eos_rule;     /* none, replace, subtract */
	double eos_penalty;
	config_string score_at;     /* last: the last token; eos_plus_one */
	config_string loss_average; /* token: over all tokens of the minibatch; sequence: mean of per-sequence means */
	config_string critic;       /* separate, head, none */
	config_string critic_init;  /* policy, reward */
	int64_t critic_warmup;      /* steps in which only the critic learns */
	double critic_lr;           /* 0: the policy's */
	double load_balance_coef, z_loss_coef, router_bias_rate;
	int64_t lag;                /* step k samples from the weights of k-1-lag */
	int64_t checkpoint_every, eval_every;
	int64_t stale_steps;        /* hand-ins older than this many steps are dropped */
};

struct config_collect {
	int64_t prompts, step_groups; /* groups in all; groups a step of the record */
	config_string judge;          /* verifier, command, stored */
	config_string command;        /* of the judge `command` */
};

struct config_fit {
	struct config_optim optim;
	config_string labels;      /* labels.db that is fitted to; empty: the groups of the stage collect */
	config_string campaign;    /* of the labels; empty: all */
	int64_t criterion, labels_event; /* number of the criterion; last event looked at, 0: the newest */
	config_string loss;        /* pairs, plackett_luce, best_of, answers */
	int64_t epochs, batch;     /* batch: groups an optimiser step */
	int64_t gradient_block;    /* groups */
	double heldout;            /* share of the prompts that the evaluation keeps */
	double selection;          /* share of the prompts whose groups choose the best step; 0: the last one is kept */
	int64_t select_every;      /* steps between the measurements that choose */
	double label_smoothing, margin;
	int64_t ensemble;          /* members */
	int64_t reference;         /* completions that are brought to mean 0, standard deviation 1 */
};

struct config_eval {
	int64_t tasks;       /* held-out prompts; 0: all */
	int64_t best_of;     /* samples a prompt for the best-of baseline; 0: off */
	int64_t continued_sft; /* supervised steps of that baseline; 0: off */
};

struct config_net {
	config_string learner; /* endpoint the learner binds, workers connect to; empty: private to the run, on this machine */
	config_string rewards; /* comma separated endpoints of the services; empty: private to the run */
	int64_t max_message_mib;
	double heartbeat_seconds;
};

struct config_web {
	config_string address;     /* numeric; 127.0.0.1 unless the server is to be reached without a proxy */
	int64_t port;              /* 0: any free one */
	config_string public_url;  /* "https://labels.example.org" of a proxy in front; empty: none */
	config_string trusted_proxy; /* address of that proxy: its X-Forwarded-For is believed */
	config_string certificate, private_key; /* PEM files for HTTPS of its own; empty: plain HTTP */
};

struct config {
	struct config_run run;
	struct config_model model;
	struct config_lora lora;
	struct config_tokenizer tokenizer;
	struct config_task task;
	struct config_pretrain pretrain;
	struct config_sft sft;
	struct config_rollout rollout;
	struct config_reward reward;
	struct config_collect collect;
	struct config_fit fit;
	struct config_ppo ppo;
	struct config_eval eval;
	struct config_net net;
	struct config_web web;
	uint8_t given[CONFIG_KEYS_MAX]; /* per row of the table: 1 when a file or --set wrote it; presets leave those alone */
};

enum config_type { CONFIG_INT, CONFIG_FLOAT, CONFIG_BOOL, CONFIG_TEXT, CONFIG_CHOICE };

struct config_key {
	const char *name; /* section.key, or section.optim.key */
	enum config_type type;
	size_t offset;            /* in struct config */
	const char *standard;     /* default, as text */
	double low, high;         /* range of numbers, inclusive */
	const char *choices;      /* of CONFIG_CHOICE: "a|b|c" */
	const char *help;         /* one sentence, with the unit and the source where there is one */
};

/* The table; *count rows, grouped by section. */
const struct config_key *config_keys(size_t *count);
/* The row of that name; NULL when there is none. */
const struct config_key *config_find(const char *name);
/* The value of a row as text, as config_write and --set spell it (without quotes). Floats are the shortest digits that
 * read back to the same bits. */
void config_value(const struct config *c, const struct config_key *key, char *out, size_t bytes);
/* Name of the first key whose values differ, in the table's order; NULL when all are equal. */
const char *config_difference(const struct config *a, const struct config *b);
/* All defaults. */
void config_defaults(struct config *c);
/* Reads a YAML file over what is in *c. Duplicate or unknown keys, wrong types and values out of range are
 * ERR_FORMAT / ERR_RANGE naming file, line and key. Text keys also take a list (`stages: [sft, ppo]`): it is joined
 * with ", ". *c may be half written after an error. */
int config_read(struct config *c, const char *path, struct err *e);
/* The same from memory (a run's stored configuration); `name` stands for the file in messages. */
int config_read_text(struct config *c, const char *text, size_t bytes, const char *name, struct err *e);
/* "section.key=value", as `--set` takes it. */
int config_set(struct config *c, const char *assignment, struct err *e);
/* Presets (ppo.preset) need no call: whenever that key is written, by file or --set, in any order, the keys that a
 * preset owns and nobody has written go back to their defaults and then take the preset's values. */

/* Cross-field rules (heads divide, groups fit, paths exist); called once after all reads. Paths are taken from the
 * working directory, as on a command line. */
int config_check(const struct config *c, struct err *e);
/* 1 when run.stages names the stage. */
int config_has_stage(const struct config *c, const char *stage);
/* The adapters that a stage trains; NULL: it trains all weights. */
const struct config_lora *config_lora(const struct config *c, const char *stage);
/* The complete configuration as YAML, readable by config_read to the same value. */
void config_write(const struct config *c, FILE *f);
/* docs/configuration.md: one table a section. */
void config_write_docs(FILE *f);

#endif
