/* The data formats of TRL (huggingface.co/docs/trl/dataset_formats), told apart
 * by their members: preference with and without a prompt of its own, as texts or
 * as lists of messages; prompt and completion; prompt alone; a dialogue
 * ("messages"). A prompt that is only implied is what chosen and rejected have in
 * common, cut as TRL's extract_prompt cuts it: before the blank in front of the
 * first difference. */
#include "store/data_internal.h"

#include <string.h>

static const char MIXED[] = "texts and lists of messages are mixed";

static int emit_pair(struct data_reader *r, const char *prompt, const char *chosen, const char *rejected)
{
	if (!strcmp(chosen, rejected)) return data_bad(r, "chosen and rejected are the same", NULL);
	if (!prompt[0]) return data_bad(r, "chosen and rejected have no beginning in common, and there is no prompt", NULL);
	struct data_record x = {.kind = DATA_GROUP, .prompt = prompt, .count = 2, .completion = {chosen, rejected}, .rank = {1, 2},
				.key = data_dialogue_key(r, prompt)};
	return data_emit(r, &x);
}

/* Texts without a prompt. */
static int implicit_texts(struct data_reader *r, const char *chosen, const char *rejected)
{
	size_t n = 0;
	while (chosen[n] && chosen[n] == rejected[n]) n++;
	while (n && ((unsigned char)chosen[n] & 0xC0) == 0x80) n--; /* not within a character */
	if (n && chosen[n - 1] == ' ') n--;
	return emit_pair(r, arena_printf(r->arena, "%.*s", (int)n, chosen), chosen + n, rejected + n);
}

/* An answer: messages from `from` on, of which the first is the assistant's; its opening belongs to the prompt. */
static const char *answer(struct data_reader *r, const json_t *list, size_t from, const char **what)
{
	size_t n = json_array_size(list);
	const char *role = from < n ? data_role(json_array_get(list, from)) : NULL;
	if (!role || strcmp(role, DATA_ASSISTANT)) {
		*what = "an answer does not begin with an assistant's message";
		return NULL;
	}
	const char *text = data_dialogue(r, list, from, n, 0, what);
	return text ? text + sizeof DATA_ASSISTANT - 1 : NULL;
}

/* Lists of messages; prompt NULL: what both begin with. */
static int message_pair(struct data_reader *r, const json_t *prompt, const json_t *chosen, const json_t *rejected)
{
	const char *what = NULL;
	size_t from = 0;
	if (!prompt) {
		size_t n = json_array_size(chosen), m = json_array_size(rejected);
		while (from < n && from < m && json_equal(json_array_get(chosen, from), json_array_get(rejected, from))) from++;
		prompt = chosen;
	}
	const char *p = data_dialogue(r, prompt, 0, prompt == chosen ? from : json_array_size(prompt), 1, &what);
	const char *a = p ? answer(r, chosen, from, &what) : NULL, *b = a ? answer(r, rejected, from, &what) : NULL;
	return b ? emit_pair(r, p, a, b) : data_bad(r, what, NULL);
}

static int preference(struct data_reader *r, const json_t *j, const json_t *prompt)
{
	const json_t *chosen = json_object_get(j, "chosen"), *rejected = json_object_get(j, "rejected");
	if (json_is_string(chosen) && json_is_string(rejected)) {
		if (prompt && !json_is_string(prompt)) return data_bad(r, MIXED, NULL);
		if (!prompt) return implicit_texts(r, json_string_value(chosen), json_string_value(rejected));
		return emit_pair(r, json_string_value(prompt), json_string_value(chosen), json_string_value(rejected));
	}
	if (!json_is_array(chosen) || !json_is_array(rejected) || (prompt && !json_is_array(prompt))) return data_bad(r, MIXED, NULL);
	return message_pair(r, prompt, chosen, rejected);
}

static int example(struct data_reader *r, const json_t *prompt, const json_t *completion)
{
	const char *what = NULL, *p, *c;
	if (json_is_string(prompt) && json_is_string(completion)) {
		p = json_string_value(prompt);
		c = json_string_value(completion);
	} else if (json_is_array(prompt) && json_is_array(completion)) {
		p = data_dialogue(r, prompt, 0, json_array_size(prompt), 1, &what);
		c = p ? answer(r, completion, 0, &what) : NULL;
	} else {
		return data_bad(r, MIXED, NULL);
	}
	if (!p || !c) return data_bad(r, what, NULL);
	if (!p[0]) return data_bad(r, "the prompt is empty", NULL);
	struct data_record x = {.kind = DATA_EXAMPLE, .prompt = p, .count = 1, .completion = {c}, .key = data_dialogue_key(r, p)};
	return data_emit(r, &x);
}

static int prompt_only(struct data_reader *r, const json_t *prompt)
{
	const char *what = "\"prompt\" is neither a text nor a list of messages", *p = NULL;
	if (json_is_string(prompt)) p = json_string_value(prompt);
	else if (json_is_array(prompt)) p = data_dialogue(r, prompt, 0, json_array_size(prompt), 1, &what);
	if (!p) return data_bad(r, what, NULL);
	if (!p[0]) return data_bad(r, "the prompt is empty", NULL);
	struct data_record x = {.kind = DATA_PROMPT, .prompt = p, .key = data_dialogue_key(r, p)};
	return data_emit(r, &x);
}

static int take(struct data_reader *r, const json_t *j)
{
	const json_t *prompt = json_object_get(j, "prompt"), *completion = json_object_get(j, "completion"), *messages = json_object_get(j, "messages");
	if (json_object_get(j, "chosen") && json_object_get(j, "rejected")) return preference(r, j, prompt);
	if (json_object_get(j, "label")) return data_bad(r, "it is one labelled answer (\"label\"), which ranks nothing", NULL);
	if (prompt && completion) return example(r, prompt, completion);
	if (prompt) return prompt_only(r, prompt);
	if (messages) return data_format_sharegpt.take_json(r, j);
	return data_bad(r, "it has neither chosen and rejected, nor prompt, nor messages", NULL);
}

const struct data_format data_format_trl = {{"trl", "TRL: preference (plain, conversational, implicit prompt), prompt-completion, prompt, messages"},
					    .take_json = take};
