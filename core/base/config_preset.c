/* Presets: the details of three published PPO systems, by name.
 *
 * A preset sets how the algorithm works: optimiser, clipping, KL, whitening,
 * the rule for missing end tokens, the sampling temperature. It does not set
 * how large things are: model, steps, batch, length. A preset owns its keys
 * only while nobody has written them, so a configuration may start from a
 * preset and change one detail, in any order of file and --set.
 *
 * oai2019: "Fine-Tuning Language Models from Human Preferences" (Ziegler et al.
 * 2019) and its code, openai/lm-human-preferences. nplus2024: "The N+
 * Implementation Details of RLHF with PPO" (Huang et al. 2024), code
 * vwxyzjn/summarize_from_feedback_details; its AdamW keeps PyTorch's default
 * weight decay. trl: the defaults of TRL's PPOConfig from version 2 of its
 * trainer on, with the missing_eos_penalty of its summarisation example (the
 * default there is none). Gradients are not clipped in any of the three. */
#include "core/base/config_internal.h"

#include <stddef.h>
#include <string.h>

static const char *const names[CONFIG_PRESETS] = {"oai2019", "nplus2024", "trl"};

static const struct config_preset_row rows[] = {
	{"rollout.temperature", {"0.7", "0.7", "0.7"}},
	{"rollout.top_p", {"1", "1", "1"}},
	{"rollout.top_k", {"0", "0", "0"}},
	{"ppo.optim.lr", {"1e-5", "3e-6", "3e-6"}},
	{"ppo.optim.weight_decay", {"0", "0.01", "0"}},
	{"ppo.optim.beta1", {"0.9", "0.9", "0.9"}},
	{"ppo.optim.beta2", {"0.999", "0.999", "0.999"}},
	{"ppo.optim.eps", {"1e-5", "1e-5", "1e-8"}},
	{"ppo.optim.max_grad_norm", {"0", "0", "0"}},
	{"ppo.optim.schedule", {"linear", "linear", "linear"}},
	{"ppo.optim.warmup", {"0", "0", "0"}},
	{"ppo.optim.adam", {"tensorflow", "pytorch", "pytorch"}},
	{"ppo.epochs", {"4", "4", "4"}},
	{"ppo.minibatches", {"1", "1", "1"}},
	{"ppo.advantage", {"gae", "gae", "gae"}},
	{"ppo.gamma", {"1", "1", "1"}},
	{"ppo.lambda", {"0.95", "0.95", "0.95"}},
	{"ppo.clip", {"0.2", "0.2", "0.2"}},
	{"ppo.clip_high", {"0", "0", "0"}},
	{"ppo.value_clip", {"0.2", "0.2", "0.2"}},
	{"ppo.value_coef", {"0.1", "0.1", "0.1"}},
	{"ppo.entropy_coef", {"0", "0", "0"}},
	{"ppo.dual_clip", {"0", "0", "0"}},
	{"ppo.kl_coef", {"0.15", "0.05", "0.05"}},
	{"ppo.kl_estimator", {"k1", "k1", "k1"}},
	{"ppo.kl_in", {"reward", "reward", "reward"}},
	{"ppo.kl_control", {"adaptive", "fixed", "fixed"}},
	{"ppo.kl_target", {"6", "6", "6"}},
	{"ppo.kl_horizon", {"10000", "10000", "10000"}},
	{"ppo.kl_stop", {"0", "0", "0"}},
	{"ppo.whiten_rewards", {"keep_mean", "none", "none"}},
	{"ppo.whiten_advantages", {"minibatch", "batch", "batch"}},
	{"ppo.eos_rule", {"replace", "replace", "subtract"}},
	{"ppo.eos_penalty", {"1", "1", "1"}},
	{"ppo.score_at", {"last", "eos_plus_one", "eos_plus_one"}},
	{"ppo.loss_average", {"token", "token", "token"}},
	{"ppo.critic", {"head", "separate", "separate"}},
	{"ppo.critic_warmup", {"0", "0", "0"}},
	{"ppo.critic_lr", {"0", "0", "0"}},
};

const char *config_preset_name(int column)
{
	return names[column];
}

const struct config_preset_row *config_preset_rows(size_t *count)
{
	*count = sizeof rows / sizeof rows[0];
	return rows;
}

void config_preset_apply(struct config *c)
{
	int column = -1;
	for (int i = 0; i < CONFIG_PRESETS; i++)
		if (!strcmp(c->ppo.preset, names[i])) column = i;
	size_t count;
	const struct config_key *keys = config_keys(&count);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct config_key *key = config_find(rows[i].key);
		CHECK(key, "the presets name %s, which is no key", rows[i].key);
		size_t at = (size_t)(key - keys);
		if (c->given[at]) continue;
		struct err e;
		int rc = config_assign(c, key, column < 0 ? key->standard : rows[i].value[column], 0, "preset", &e);
		CHECK(rc == 0, "%s", e.msg);
		c->given[at] = 0;
	}
}
