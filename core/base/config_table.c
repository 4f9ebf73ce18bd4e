/* The table of all configuration keys: the only list of them. The reader,
 * --set, --help, docs/configuration.md and the copy saved with a run are driven
 * by it, so a new key is one field in config.h and one row here.
 *
 * Defaults describe a small model that learns on two processor cores in
 * minutes; ranges refuse what cannot work, not what is merely unwise. Ranges
 * are inclusive and, being doubles, exact up to 2^53. */
#include "core/base/config_internal.h"

#define AT(field) offsetof(struct config, field)
#define INT(name, field, standard, low, high, help) {name, CONFIG_INT, AT(field), standard, low, high, NULL, help}
#define FLOAT(name, field, standard, low, high, help) {name, CONFIG_FLOAT, AT(field), standard, low, high, NULL, help}
#define BOOL(name, field, standard, help) {name, CONFIG_BOOL, AT(field), standard, 0, 1, NULL, help}
#define TEXT(name, field, standard, help) {name, CONFIG_TEXT, AT(field), standard, 0, 0, NULL, help}
#define CHOICE(name, field, standard, choices, help) {name, CONFIG_CHOICE, AT(field), standard, 0, 0, choices, help}

#define BIG 9007199254740992.0 /* 2^53 */

/* The optimiser of a stage: the same keys under two sections. */
#define OPTIM(section, peak, course, rise) \
	FLOAT(#section ".optim.lr", section.optim.lr, peak, 0, 10, "Peak learning rate."), \
	FLOAT(#section ".optim.weight_decay", section.optim.weight_decay, "0", 0, 1, \
		"Decoupled weight decay (AdamW), on the matrices only."), \
	FLOAT(#section ".optim.beta1", section.optim.beta1, "0.9", 0, 0.999999, "Decay of the first moment."), \
	FLOAT(#section ".optim.beta2", section.optim.beta2, "0.95", 0, 0.999999, "Decay of the second moment."), \
	FLOAT(#section ".optim.eps", section.optim.eps, "1e-8", 0, 1, "Term added to the root of the second moment."), \
	FLOAT(#section ".optim.max_grad_norm", section.optim.max_grad_norm, "1", 0, 1e9, \
		"Global norm above which gradients are scaled down; 0: never."), \
	CHOICE(#section ".optim.schedule", section.optim.schedule, course, "constant|linear|cosine", \
		"Course of the learning rate after the warm-up: constant, or down to 0 at the stage's last step."), \
	INT(#section ".optim.warmup", section.optim.warmup, rise, 0, 1e9, \
		"Steps in which the learning rate rises linearly from 0."), \
	CHOICE(#section ".optim.adam", section.optim.adam, "pytorch", "pytorch|tensorflow", \
		"Where eps goes: pytorch adds it to the bias-corrected root, tensorflow to the uncorrected one (as OpenAI's 2019 code does).")

static const struct config_key table[] = {
	TEXT("run.name", run.name, "", "Name of the run, shown in reports; empty: the configuration file's name."),
	TEXT("run.stages", run.stages, "sft, ppo, eval", "Stages in order, separated by commas: sft, collect, fit-reward, ppo, eval."),
	INT("run.seed", run.seed, "1", 0, BIG, "Seed of everything random except the task's own data."),
	CHOICE("run.device", run.device, "auto", "auto|cpu|cuda", "Where the model runs; auto takes a GPU where there is one."),
	CHOICE("run.precision", run.precision, "f32", "f32|bf16",
		"What matrix products multiply: f32, or weights and inputs rounded to bf16, whose sums, activations and gradients are f32; what learns keeps its weights in f32. Part of the result's bits."),
	CHOICE("run.isa", run.isa, "auto", "auto|avx2|avx512|generic", "Instruction set of the CPU kernels; auto takes the best this processor has."),
	INT("run.threads", run.threads, "0", 0, 256, "Threads a process; 0: processors divided by the roles that compute at once."),
	INT("run.workers", run.workers, "2", 1, 256, "Rollout workers that `tenfold run` starts."),
	INT("run.services", run.services, "1", 1, 64, "Reward services that `tenfold run` starts."),
	BOOL("run.recompute", run.recompute, "false", "PPO's backward computes activations again, layer by layer, instead of keeping them: less memory, more time, the same bits."),
	INT("run.keep_checkpoints", run.keep_checkpoints, "2", 2, 1000, "Checkpoints kept; older ones are removed."),

	TEXT("model.init", model.init, "", "Folder of a model to start from, its own layout or a checkpoint of transformers (docs/models.md); empty: from scratch with the shape below."),
	CHOICE("model.save_dtype", model.save_dtype, "f32", "f32|f16|bf16", "Type of the weights in the folders models/STAGE that sft, pretrain and ppo write; anything but f32 is rounded, also for the stage that starts from it."),
	INT("model.width", model.width, "128", 8, 65536, "Width of the residual stream."),
	INT("model.layers", model.layers, "3", 1, 256, "Transformer layers."),
	INT("model.heads", model.heads, "4", 1, 256, "Query heads."),
	INT("model.kv_heads", model.kv_heads, "4", 1, 256, "Key and value heads; fewer than heads: grouped-query attention."),
	INT("model.head_dim", model.head_dim, "32", 2, 1024, "Width of a head; even, for the rotary positions."),
	INT("model.experts", model.experts, "64", 1, 4096, "Routed experts a layer."),
	INT("model.experts_per_token", model.experts_per_token, "4", 1, 64, "Routed experts that each token goes through."),
	INT("model.expert_width", model.expert_width, "64", 1, 65536, "Hidden width of an expert (SwiGLU)."),
	INT("model.shared_experts", model.shared_experts, "1", 0, 64, "Experts that every token goes through, as one of this many times the expert width."),
	INT("model.dense_layers", model.dense_layers, "0", 0, 256, "The first so many layers have a dense feed-forward instead of experts."),
	INT("model.dense_width", model.dense_width, "256", 1, 262144, "Hidden width of those dense layers."),
	CHOICE("model.router", model.router, "softmax", "softmax|sigmoid", "Function from router logits to expert weights."),
	BOOL("model.router_normalize", model.router_normalize, "true", "The chosen experts' weights are divided by their sum."),
	BOOL("model.router_bias", model.router_bias, "false", "A bias per expert takes part in the choice only (loss-free balancing)."),
	FLOAT("model.router_scale", model.router_scale, "1", 0, 1000, "Factor on the routed experts' weights."),
	FLOAT("model.rope_theta", model.rope_theta, "10000", 1, 1e12, "Base of the rotary position embedding."),
	FLOAT("model.norm_eps", model.norm_eps, "1e-5", 1e-12, 1, "Term under the root of RMS norms."),
	FLOAT("model.init_std", model.init_std, "0.02", 0, 10, "Standard deviation of the initial weights."),
	BOOL("model.qk_norm", model.qk_norm, "false", "Norms on queries and keys before the rotary positions."),
	BOOL("model.tie_embeddings", model.tie_embeddings, "false", "The output layer is the embedding, transposed."),
	INT("model.max_positions", model.max_positions, "2048", 8, 1048576, "Longest prompt and completion together, tokens."),

	INT("lora.r", lora.r, "0", 0, 4096, "Rank of the adapters that are trained in place of the weights (LoRA); 0: the weights themselves are trained."),
	FLOAT("lora.alpha", lora.alpha, "32", 0, 1e6, "What an adapter adds is scaled by this divided by the rank."),
	BOOL("lora.rslora", lora.rslora, "false", "Divided by the root of the rank instead (rsLoRA)."),
	FLOAT("lora.dropout", lora.dropout, "0", 0, 0.99, "Share of an adapter's inputs that supervised training and the fit of a reward model drop, by position; PPO drops none, so that sampler and learner have one distribution."),
	TEXT("lora.targets", lora.targets, "q_proj, v_proj", "Modules with adapters, separated by commas: the end of their path, a pattern of the path (model.layers.0.*), experts, or all-linear (all but routers, embeddings and heads)."),
	TEXT("lora.modules_to_save", lora.modules_to_save, "", "Modules trained whole beside the adapters: lm_head (embed_out); heads of values and scores always are."),
	TEXT("lora.stages", lora.stages, "sft, fit-reward, ppo", "Stages that train adapters; the others train all weights."),

	TEXT("tokenizer.path", tokenizer.path, "", "Folder or file of an existing tokenizer; empty: that of model.init when it has one, else trained from the task's text."),
	INT("tokenizer.vocab_size", tokenizer.vocab_size, "448", 258, 1048576, "Vocabulary of a tokenizer trained here: 256 bytes, the special tokens, and merges up to this size."),

	CHOICE("task.name", task.name, "stack", "stack|prompts", "stack: write programs in the built-in stack language; prompts: your own files."),
	TEXT("task.prompts", task.prompts, "", "Files of the task prompts, separated by commas, also patterns (*.csv) and .gz: prompts, examples or comparisons in task.format."),
	TEXT("task.completions", task.completions, "", "JSONL of {\"prompt\": …, \"completion\": …}: further examples for supervised training with the task prompts."),
	CHOICE("task.format", task.format, "tenfold", "tenfold|hh|trl|prompts|alpaca|sharegpt|gsm8k|csv|tsv|text|export", "Layout of task.prompts and task.heldout_files (docs/data.md)."),
	TEXT("task.columns", task.columns, "", "Formats csv and tsv: which column is what, \"prompt=question, chosen=better, rejected=worse\"."),
	CHOICE("task.chat", task.chat, "none", "none|own|chatml|hh", "Prompts as the user's turn of a conversation: by the tokenizer's own chat template, by ChatML, or as \"Human: … Assistant:\"; none: as they stand."),
	TEXT("task.heldout_files", task.heldout_files, "", "Files whose records are held out, as task.prompts."),
	FLOAT("task.heldout_share", task.heldout_share, "0", 0, 0.9, "Share of the prompts (dialogues, topics: of their keys) held out, drawn by task.seed; 0 and no held-out files: the last task.heldout prompts."),
	INT("task.max_bad", task.max_bad, "0", 0, 1e9, "Bad records in the files that are left out and reported; more are an error."),
	INT("task.max_tokens", task.max_tokens, "0", 0, 1048576, "Longest prompt with a completion (at least rollout.max_new_tokens) of the task prompts; longer records are left out and counted; 0: model.max_positions."),
	TEXT("task.content_warning", task.content_warning, "", "Shown when a stage begins and at the top of the report."),
	INT("task.seed", task.seed, "7", 0, BIG, "Seed of the generated task, apart from the run's."),
	INT("task.train", task.train, "4000", 1, 1e8, "Training prompts."),
	INT("task.heldout", task.heldout, "1024", 1, 1e8, "Held-out prompts; of other program structures than the training ones."),
	INT("task.supervised", task.supervised, "4000", 0, 1e8, "Examples for supervised training."),
	INT("task.levels", task.levels, "4", 1, 4, "Levels of difficulty generated, from the easiest."),
	INT("task.tests", task.tests, "16", 1, 256, "Hidden tests a program has to pass."),
	FLOAT("task.wrong", task.wrong, "0.4", 0, 1, "Share of the supervised examples that are wrong."),

	TEXT("pretrain.sources", pretrain.sources, "", "Texts of `tenfold pretrain` with their weights, \"path:weight, path:weight\" (a path alone has weight 1): plain text, whose documents are paragraphs, or .jsonl of {\"text\": …}; a path with * stands for all files that match."),
	INT("pretrain.sequence", pretrain.sequence, "256", 2, 1048576, "Tokens predicted a sequence."),
	FLOAT("pretrain.heldout", pretrain.heldout, "0.02", 0, 0.9, "Share of the documents kept for the held-out loss, drawn by their hash."),
	INT("pretrain.eval_sequences", pretrain.eval_sequences, "64", 1, 1e6, "Sequences of the held-out documents that are measured, at most."),
	OPTIM(pretrain, "0.001", "cosine", "20"),
	INT("pretrain.steps", pretrain.steps, "300", 1, 1e9, "Optimiser steps."),
	INT("pretrain.batch", pretrain.batch, "32", 1, 1e6, "Sequences a step."),
	FLOAT("pretrain.load_balance_coef", pretrain.load_balance_coef, "0.01", 0, 1000, "Weight of the load-balance loss of the router."),
	FLOAT("pretrain.z_loss_coef", pretrain.z_loss_coef, "0", 0, 1000, "Weight of the router's z-loss (squared log-sum-exp of its logits)."),
	FLOAT("pretrain.router_bias_rate", pretrain.router_bias_rate, "0", 0, 1, "Step of the loss-free balancing bias per optimiser step; 0: the bias stays."),
	INT("pretrain.eval_every", pretrain.eval_every, "0", 0, 1e9, "Steps between checkpoints, with a measurement of the held-out loss; 0: at the end only."),

	OPTIM(sft, "0.002", "cosine", "20"),
	INT("sft.steps", sft.steps, "300", 1, 1e9, "Optimiser steps of supervised training."),
	INT("sft.batch", sft.batch, "64", 1, 1e6, "Sequences a step."),
	CHOICE("sft.loss_on", sft.loss_on, "completion", "completion|all", "Tokens that the loss counts."),
	FLOAT("sft.load_balance_coef", sft.load_balance_coef, "0.01", 0, 1000, "Weight of the load-balance loss of the router."),
	FLOAT("sft.z_loss_coef", sft.z_loss_coef, "0", 0, 1000, "Weight of the router's z-loss (squared log-sum-exp of its logits)."),
	FLOAT("sft.router_bias_rate", sft.router_bias_rate, "0", 0, 1, "Step of the loss-free balancing bias per optimiser step; 0: the bias stays."),
	INT("sft.eval_every", sft.eval_every, "0", 0, 1e9, "Steps between measurements of the held-out loss; 0: at the end only."),

	INT("rollout.group_size", rollout.group_size, "10", 2, 64, "Completions a prompt: the size of a group."),
	INT("rollout.max_new_tokens", rollout.max_new_tokens, "32", 1, 1048576, "Longest completion, tokens."),
	INT("rollout.min_new_tokens", rollout.min_new_tokens, "0", 0, 1048576, "Tokens before which the end token cannot be drawn."),
	FLOAT("rollout.temperature", rollout.temperature, "1", 0.001, 100, "Divides the logits; log-probabilities are those of the resulting distribution."),
	FLOAT("rollout.top_p", rollout.top_p, "1", 0.000001, 1, "Smallest set of tokens with this share of the probability; 1: all."),
	INT("rollout.top_k", rollout.top_k, "0", 0, 1048576, "Most probable tokens kept; 0: all."),
	TEXT("rollout.stop", rollout.stop, "", "Text that ends a completion; empty: only the end token does."),
	INT("rollout.batch_groups", rollout.batch_groups, "32", 1, 65536, "Groups that one worker decodes together."),
	FLOAT("rollout.lease_seconds", rollout.lease_seconds, "60", 0.1, 86400, "Time after which a leased prompt that has not come back goes to another worker."),
	INT("rollout.set_aside", rollout.set_aside, "3", 0, 1000, "Losses of one prompt, to workers that crash on it or hold it beyond their lease, after which it is set aside and its place gets another; 0: never."),
	BOOL("rollout.fetch_weights", rollout.fetch_weights, "false", "Workers fetch weights over the wire even where they can read the learner's file."),

	TEXT("reward.terms", reward.terms, "verifier:1.0", "Weighted sum of named terms, \"name:weight, name:weight\"; a name alone has weight 1; each is logged."),
	TEXT("reward.command", reward.command, "", "Program for the term `command`: JSONL on stdin, one line of scores a group on stdout."),
	CHOICE("reward.scorer", reward.scorer, "pointwise", "pointwise|group", "What the stage fit-reward makes: a model that sees one candidate at a time, or one in which the candidates of a group see each other."),
	TEXT("reward.model", reward.model, "", "Folder of the reward model that gives the term `model`; empty: the run's own, from the stage fit-reward."),
	FLOAT("reward.timeout_seconds", reward.timeout_seconds, "2.5", 0.01, 86400, "Wait for a service's answer before asking again."),
	INT("reward.retries", reward.retries, "3", 0, 1000, "Attempts at that pace before backing off."),
	FLOAT("reward.backoff_max_seconds", reward.backoff_max_seconds, "32", 0.01, 86400, "Longest pause between further attempts; the pause doubles up to it."),
	INT("reward.batch_groups", reward.batch_groups, "64", 1, 65536, "Groups that a service scores at once."),
	BOOL("reward.shuffle", reward.shuffle, "false", "Control: the rewards are permuted within each group, so that nothing can be learned."),
	BOOL("reward.live", reward.live, "false", "During the stage ppo the reward model is fitted anew to the labels of fit.labels so far; each version and its last label event are recorded, so that the run can be replayed."),
	INT("reward.live_every", reward.live_every, "10", 1, 1e9, "Steps between those fits."),
	FLOAT("reward.clip", reward.clip, "0", 0, 1e30, "Rewards are limited to plus and minus this; 0: not limited."),

	INT("collect.prompts", collect.prompts, "2000", 1, 1e8, "Groups that the stage collect samples, one a training prompt, in a seeded order; beyond the prompts there are, prompts return. Not with the judge stored: it takes all groups of the files."),
	CHOICE("collect.judge", collect.judge, "verifier", "verifier|command|stored", "Who ranks: the task's verifier; the program collect.command; or nobody, as the task's files hold ranked groups."),
	TEXT("collect.command", collect.command, "", "Program for the judge command: as reward.command, its scores rank the group."),
	INT("collect.step_groups", collect.step_groups, "64", 1, 65536, "Groups sampled, ranked and stored together; an interrupted collection goes on after the last stored step."),

	OPTIM(fit, "0.0005", "linear", "0"),
	TEXT("fit.labels", fit.labels, "", "labels.db to whose human labels the reward model is fitted; empty: to the groups of the stage collect."),
	TEXT("fit.campaign", fit.campaign, "", "Campaign of the labels; empty: all campaigns of the file."),
	INT("fit.criterion", fit.criterion, "0", 0, 1000, "Criterion of the labels, by number from 0."),
	INT("fit.labels_event", fit.labels_event, "0", 0, 1e15, "Last event of the labels that is looked at; 0: the newest at the start, which the run records and keeps."),
	CHOICE("fit.loss", fit.loss, "pairs", "pairs|plackett_luce|best_of|answers", "pairs: Bradley-Terry over all pairs of a group; plackett_luce: the whole ranking as choices; best_of: softmax on the best; answers: the likelihood of the human answers themselves, weighed by person."),
	INT("fit.epochs", fit.epochs, "1", 1, 1000, "Passes over the ranked groups."),
	INT("fit.batch", fit.batch, "16", 1, 65536, "Groups an optimiser step."),
	INT("fit.gradient_block", fit.gradient_block, "4", 1, 65536, "Groups computed together, whose gradient is reduced alone before the blocks are added in order: more are faster and need more memory; part of the result's bits."),
	FLOAT("fit.heldout", fit.heldout, "0.15", 0.001, 0.9, "Share of the prompts whose groups are kept for the evaluation."),
	FLOAT("fit.selection", fit.selection, "0", 0, 0.9, "Share of the prompts whose groups are not fitted, but choose the step whose weights each member keeps: that of their lowest loss; 0: the last step is kept."),
	INT("fit.select_every", fit.select_every, "25", 1, 1e9, "Steps between those measurements; there is one after the last step too."),
	FLOAT("fit.label_smoothing", fit.label_smoothing, "0", 0, 0.5, "Probability that a label is wrong, assumed by the losses pairs and best_of."),
	FLOAT("fit.margin", fit.margin, "0", 0, 1000, "The loss pairs asks for a score difference of this times how much better the better one is."),
	INT("fit.ensemble", fit.ensemble, "1", 1, 8, "Members with other seeds of head and order; their mean is the score, their spread the term model_std."),
	INT("fit.reference", fit.reference, "256", 2, 1e6, "Completions of the fitted groups on which scores are brought to mean 0 and standard deviation 1, before and after fitting."),

	CHOICE("ppo.preset", ppo.preset, "none", "none|oai2019|nplus2024|trl", "Details of a published system by name, for the keys not written here or by --set (table below)."),
	OPTIM(ppo, "0.0003", "constant", "0"),
	INT("ppo.steps", ppo.steps, "200", 1, 1e9, "Steps of the run; each samples, scores and learns from one batch."),
	INT("ppo.prompts", ppo.prompts, "32", 1, 65536, "Prompts a step, each with a group of completions."),
	INT("ppo.epochs", ppo.epochs, "1", 1, 1000, "Passes over a step's batch."),
	INT("ppo.minibatches", ppo.minibatches, "2", 1, 65536, "Optimiser steps a pass: the prompts are divided into so many parts, whole groups each."),
	INT("ppo.gradient_block", ppo.gradient_block, "8", 1, 65536, "Groups whose gradient is reduced alone before the blocks are added in order; part of the result's bits."),
	INT("ppo.micro_batch", ppo.micro_batch, "8", 1, 65536, "Groups computed together, limited by memory; does not change the result."),
	CHOICE("ppo.advantage", ppo.advantage, "gae", "gae|group|group_mean|leave_one_out", "gae: with a critic; group: (r-mean)/std of the group (GRPO); group_mean: without std (Dr. GRPO); leave_one_out: against the others' mean (RLOO)."),
	FLOAT("ppo.gamma", ppo.gamma, "1", 0, 1, "Discount a token."),
	FLOAT("ppo.lambda", ppo.lambda, "0.95", 0, 1, "GAE's lambda."),
	FLOAT("ppo.clip", ppo.clip, "0.2", 0.000001, 1e6, "The policy's ratio is clipped to 1 minus this."),
	FLOAT("ppo.clip_high", ppo.clip_high, "0", 0, 1e6, "The policy's ratio is clipped to 1 plus this (clip-higher, DAPO); 0: the same as clip."),
	FLOAT("ppo.value_clip", ppo.value_clip, "0.2", 0, 1e6, "Values may move by this from the ones at sampling; 0: not clipped."),
	FLOAT("ppo.value_coef", ppo.value_coef, "0.1", 0, 1000, "Weight of the value loss (half the squared error)."),
	FLOAT("ppo.entropy_coef", ppo.entropy_coef, "0", -1000, 1000, "Weight of the entropy bonus."),
	FLOAT("ppo.dual_clip", ppo.dual_clip, "0", 0, 1000, "Lower limit of the objective for negative advantages, as a multiple of them (Ye et al. 2020; 3 in verl); 0: off."),
	FLOAT("ppo.kl_coef", ppo.kl_coef, "0.02", 0, 1000, "Weight of the divergence from the reference policy; the start value under adaptive control."),
	CHOICE("ppo.kl_estimator", ppo.kl_estimator, "k1", "k1|k2|k3", "k1: log ratio; k2: half its square; k3: exp(-k1)-1+k1."),
	CHOICE("ppo.kl_in", ppo.kl_in, "reward", "reward|loss", "The divergence is subtracted from each token's reward, or added to the loss."),
	CHOICE("ppo.kl_control", ppo.kl_control, "fixed", "fixed|adaptive", "adaptive: the weight follows kl_target (Ziegler et al. 2019, section 2.2)."),
	FLOAT("ppo.kl_target", ppo.kl_target, "6", 0.000001, 1e6, "Divergence per completion that adaptive control aims at, nats."),
	FLOAT("ppo.kl_horizon", ppo.kl_horizon, "10000", 1, 1e12, "Completions over which adaptive control corrects."),
	FLOAT("ppo.kl_stop", ppo.kl_stop, "0", 0, 1e6, "Approximate divergence from the sampling policy above which the step's remaining minibatches are skipped; 0: never."),
	CHOICE("ppo.whiten_rewards", ppo.whiten_rewards, "none", "none|keep_mean|full", "Token rewards are scaled to variance 1, with the mean kept or removed."),
	CHOICE("ppo.whiten_advantages", ppo.whiten_advantages, "minibatch", "none|minibatch|batch", "Advantages are brought to mean 0 and variance 1 over each minibatch or the whole batch."),
	CHOICE("ppo.eos_rule", ppo.eos_rule, "replace", "none|replace|subtract", "A completion without its end token: score kept, replaced by minus eos_penalty, or lowered by it."),
	FLOAT("ppo.eos_penalty", ppo.eos_penalty, "0", 0, 1e6, "See eos_rule. With replace, 0 scores an unfinished completion like a program that fails every test."),
	CHOICE("ppo.score_at", ppo.score_at, "last", "last|eos_plus_one", "Token that receives the score: the last one, or the one after it (where the summarisation code of 2024 puts it)."),
	CHOICE("ppo.loss_average", ppo.loss_average, "token", "token|sequence", "Mean over all tokens of the minibatch, or mean of per-completion means."),
	CHOICE("ppo.critic", ppo.critic, "head", "separate|head|none", "Values from a model of their own, from a head on the policy, or none (advantages of the group kinds)."),
	CHOICE("ppo.critic_init", ppo.critic_init, "policy", "policy|reward", "What a separate critic starts from: the policy, with values of 0, or the pointwise reward model of the term `model`, with its scores times the term's weight as values."),
	INT("ppo.critic_warmup", ppo.critic_warmup, "0", 0, 1e9, "First steps in which only the critic learns."),
	FLOAT("ppo.critic_lr", ppo.critic_lr, "0", 0, 10, "The critic's learning rate; 0: the policy's."),
	FLOAT("ppo.load_balance_coef", ppo.load_balance_coef, "0.01", 0, 1000, "Weight of the load-balance loss of the router."),
	FLOAT("ppo.z_loss_coef", ppo.z_loss_coef, "0", 0, 1000, "Weight of the router's z-loss."),
	FLOAT("ppo.router_bias_rate", ppo.router_bias_rate, "0", 0, 1, "Step of the loss-free balancing bias per optimiser step; 0: the bias stays."),
	INT("ppo.lag", ppo.lag, "0", 0, 16, "Step k samples from the weights of step k-1-lag; above 0, sampling and learning overlap."),
	INT("ppo.checkpoint_every", ppo.checkpoint_every, "20", 1, 1e9, "Steps between checkpoints."),
	INT("ppo.eval_every", ppo.eval_every, "20", 0, 1e9, "Steps between measurements of the held-out pass rate; 0: at the end only."),
	INT("ppo.stale_steps", ppo.stale_steps, "2", 1, 1e6, "Groups handed in later than this many steps are dropped, and said so."),

	INT("eval.tasks", eval.tasks, "0", 0, 1e8, "Held-out prompts evaluated; 0: all."),
	INT("eval.best_of", eval.best_of, "10", 0, 64, "Samples a prompt for the best-of baseline; 0: no baseline."),
	INT("eval.continued_sft", eval.continued_sft, "0", 0, 1e9, "Supervised steps by which the start is trained on, for the baseline of continued supervised training; 0: no baseline."),

	TEXT("net.learner", net.learner, "", "Endpoint that the learner binds and workers connect to; empty: private to the run, on this machine."),
	TEXT("net.rewards", net.rewards, "", "Endpoints of the reward services, separated by commas; empty: private to the run."),
	INT("net.max_message_mib", net.max_message_mib, "64", 1, 2047, "Largest message accepted, MiB."),
	FLOAT("net.heartbeat_seconds", net.heartbeat_seconds, "1", 0.05, 3600, "Time between signs of life of a role."),

	TEXT("web.address", web.address, "127.0.0.1", "Numeric address that `tenfold web` listens on."),
	INT("web.port", web.port, "8300", 0, 65535, "Port; 0: any free one."),
	TEXT("web.public_url", web.public_url, "", "https://NAME of the proxy that stands in front; its Host and Origin are then accepted too. Empty: none."),
	TEXT("web.trusted_proxy", web.trusted_proxy, "", "Address of that proxy, whose X-Forwarded-For is believed for limits; empty: nobody's is."),
	TEXT("web.certificate", web.certificate, "", "PEM file of a certificate for HTTPS without a proxy; empty: plain HTTP."),
	TEXT("web.private_key", web.private_key, "", "PEM file of its private key."),
};

_Static_assert(sizeof table / sizeof table[0] <= CONFIG_KEYS_MAX, "raise CONFIG_KEYS_MAX");

const struct config_key *config_keys(size_t *count)
{
	*count = sizeof table / sizeof table[0];
	return table;
}
