/* Alpaca (Taori et al. 2023): {"instruction", "input", "output"}, a JSON array or
 * JSON lines, in the two prompt texts of the original: with and without input. */
#include "store/data_internal.h"

static const char WITH[] = "Below is an instruction that describes a task, paired with an input that provides further context. "
			   "Write a response that appropriately completes the request.\n\n### Instruction:\n%s\n\n### Input:\n%s\n\n### Response:\n";
static const char WITHOUT[] = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
			      "### Instruction:\n%s\n\n### Response:\n";

static int take(struct data_reader *r, const json_t *j)
{
	const char *instruction = data_member(j, "instruction"), *input = data_member(j, "input"), *output = data_member(j, "output");
	if (!instruction || !instruction[0] || !output) return data_bad(r, "it has no texts \"instruction\" and \"output\"", NULL);
	const char *prompt = input && input[0] ? arena_printf(r->arena, WITH, instruction, input) : arena_printf(r->arena, WITHOUT, instruction);
	struct data_record x = {.kind = DATA_EXAMPLE, .prompt = prompt, .count = 1, .completion = {output}};
	return data_emit(r, &x);
}

const struct data_format data_format_alpaca = {{"alpaca", "Alpaca: {\"instruction\", \"input\", \"output\"}"}, .take_json = take};
