/* The baseline "supervised training continued": what the start would have become
 * with more of what made it, instead of PPO. The examples go on in their order
 * and the learning rate on its schedule, as if the stage sft had been that much
 * longer; the moments of the optimiser start anew. Short, so it is made anew
 * when interrupted, and its model is not kept. */
#include "app/options.h"
#include "app/progress.h"
#include "app/stages.h"

#include "policy/adapter.h"
#include "policy/sft.h"

int baseline_continued_sft(struct session *s, struct model *start, struct pass_rate *out, struct err *e)
{
	struct config_sft c = s->config.sft;
	struct sft *sft = NULL;
	struct model *adapted = NULL;
	struct sft_report r;
	struct progress p;
	int rc = 0;
	c.steps += s->config.eval.continued_sft;
	if (config_lora(&s->config, "sft")) TRY(adapter_open(&adapted, start, HEAD_LM, &s->config.lora, (uint64_t)s->config.run.seed, STREAM_POLICY, e));
	struct model *m = adapted ? adapted : start;
	TRY(sft_open(&sft, m, &c, (uint64_t)s->config.run.seed, s->task->example, s->task->examples, e));
	sft_state(sft)->step = s->config.sft.steps;
	progress_open(&p, stderr, "eval, sft continued", "steps", s->config.eval.continued_sft, 0);
	while (rc >= 0 && sft_state(sft)->step < c.steps) {
		if (atomic_load(s->stop)) rc = err_set(e, ERR_STOPPED, "stopped in the baseline of continued supervised training; --resume makes it anew");
		else rc = sft_step(sft, &r, e);
		if (rc >= 0) progress_show(&p, r.step - s->config.sft.steps, NULL);
	}
	progress_close(&p, sft_state(sft)->step - s->config.sft.steps);
	if (rc >= 0) rc = session_pass_rate(s, m, out, e);
out:
	sft_close(sft);
	model_close(adapted);
	return rc;
}
