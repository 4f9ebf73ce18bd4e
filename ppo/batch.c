/* Layout of a step's rollouts; see batch.h. */
#include "ppo/batch.h"

#include <string.h>

void ppo_batch_open(struct ppo_batch *b, const struct config *c, const struct group *groups, int64_t n, struct arena *a)
{
	int after = !strcmp(c->ppo.score_at, "eos_plus_one");
	memset(b, 0, sizeof *b);
	b->groups = n;
	b->size = n ? groups[0].size : 0;
	b->group = groups;
	b->sequences = n * b->size;
	b->first = arena_must(a, (size_t)b->sequences + 1, sizeof *b->first);
	b->ended = arena_must(a, (size_t)b->sequences + 1, 1);
	b->score = arena_must(a, (size_t)b->sequences + 1, sizeof *b->score);
	for (int64_t g = 0; g < n; g++)
		for (uint32_t i = 0; i < groups[g].size; i++) {
			int64_t s = g * b->size + i, extra = after && groups[g].length[i] > 0 && groups[g].length[i] < c->rollout.max_new_tokens;
			b->ended[s] = groups[g].finish[i] != GROUP_FINISH_LENGTH;
			b->first[s + 1] = b->first[s] + groups[g].length[i] + extra;
		}
	b->tokens = b->first[b->sequences];
	float **arrays[] = {&b->old, &b->ref, &b->value, &b->kl, &b->reward, &b->advantage, &b->returns};
	for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) *arrays[i] = arena_must(a, (size_t)b->tokens + 1, sizeof(float));
	b->chosen = arena_must(a, (size_t)b->tokens + 1, 1);
	for (int64_t g = 0; g < n; g++) {
		const float *lp = groups[g].logprobs;
		for (uint32_t i = 0; i < groups[g].size; i++) {
			int64_t s = g * b->size + i, r = groups[g].length[i];
			if (r == 0) continue; /* a group without tokens may have no array at all */
			memcpy(b->old + b->first[s], lp, (size_t)r * sizeof *lp);
			memset(b->chosen + b->first[s], 1, (size_t)r);
			lp += r;
		}
	}
}
