/* GSM8K (Cobbe et al. 2021, arXiv 2110.14168): {"question", "answer"}; the answer
 * is worked out in sentences and ends in "#### " and a number. That number goes
 * with the record: a completion is right when it ends in the same one
 * (reward/verify_number.h). */
#include "store/data_internal.h"

#include <string.h>

static int take(struct data_reader *r, const json_t *j)
{
	const char *question = data_member(j, "question"), *answer = data_member(j, "answer");
	if (!question || !question[0] || !answer) return data_bad(r, "it has no texts \"question\" and \"answer\"", NULL);
	const char *mark = strstr(answer, "#### ");
	size_t n = mark ? strcspn(mark + 5, " \n") : 0;
	if (n == 0 || strspn(mark + 5, "0123456789.,-") != n || !strpbrk(mark + 5, "0123456789")) return data_bad(r, "the answer does not end in \"#### \" and a number", NULL);
	struct data_record x = {.kind = DATA_EXAMPLE, .prompt = arena_printf(r->arena, "%s\n", question), .count = 1, .completion = {answer},
				.answer = arena_printf(r->arena, "%.*s", (int)n, mark + 5)};
	return data_emit(r, &x);
}

const struct data_format data_format_gsm8k = {{"gsm8k", "GSM8K: {\"question\", \"answer\"} with a number after \"####\""}, .take_json = take};
