/* Evaluation where nothing verifies a completion: by the run's own reward model. */
#ifndef TENFOLD_APP_EVAL_MODEL_H
#define TENFOLD_APP_EVAL_MODEL_H

#include "app/session.h"

/* Scores groups of completions of held-out prompts (eval.tasks of them; 0: all) sampled from models/sft and models/ppo
 * with models/reward, and puts means, their difference, the share of pairs that the end wins, and the best of a group of
 * the start, with 95 % intervals over prompts, into `out` ("by_model") and the record. Nothing when one of the three
 * folders or the held-out prompts are missing. It is the score that PPO optimised, not a judgement by people, and says so. */
int eval_by_model(struct session *s, struct json_t *out, struct err *e);

#endif
