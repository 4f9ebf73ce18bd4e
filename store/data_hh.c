/* hh-rlhf (Bai et al. 2022, arXiv 2204.05862): JSON lines of {"chosen",
 * "rejected"}, two whole dialogues "\n\nHuman: …\n\nAssistant: …" with a common
 * beginning. The prompt ends with the last "\n\nAssistant:" that both have in
 * common; what follows are the completions, with the blank in front. Where the
 * dialogues part earlier than in the last answer, the completions hold the
 * further turns: that is noted in the report. */
#include "store/data_internal.h"

#include <string.h>

/* Length of the prompt that both texts have; 0: none. */
static size_t common_prompt(const char *a, const char *b)
{
	size_t same = 0, n = sizeof DATA_ASSISTANT - 1, prompt = 0;
	while (a[same] && a[same] == b[same]) same++;
	for (size_t i = 0; i + n <= same; i++)
		if (a[i] == '\n' && !memcmp(a + i, DATA_ASSISTANT, n)) prompt = i + n;
	return prompt;
}

static int take(struct data_reader *r, const json_t *j)
{
	const char *chosen = data_member(j, "chosen"), *rejected = data_member(j, "rejected");
	if (!chosen || !rejected) return data_bad(r, "it has no texts \"chosen\" and \"rejected\"", NULL);
	if (!strcmp(chosen, rejected)) return data_bad(r, "chosen and rejected are the same", NULL);
	size_t n = common_prompt(chosen, rejected);
	if (n == 0) return data_bad(r, "chosen and rejected have no turn \"\\n\\nAssistant:\" in common", NULL);
	const char *prompt = arena_printf(r->arena, "%.*s", (int)n, chosen);
	struct data_record x = {.kind = DATA_GROUP, .prompt = prompt, .count = 2, .completion = {chosen + n, rejected + n}, .rank = {1, 2},
				.key = data_dialogue_key(r, prompt)};
	r->report->notes += strstr(chosen + n, DATA_HUMAN) || strstr(rejected + n, DATA_HUMAN);
	return data_emit(r, &x);
}

const struct data_format data_format_hh = {{"hh", "hh-rlhf: {\"chosen\", \"rejected\"}, whole dialogues"}, .take_json = take};
