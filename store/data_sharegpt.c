/* ShareGPT: {"conversations": [{"from": "human", "value": …}, …]}, as a JSON
 * array or JSON lines; also {"messages": [{"role", "content"}]}. Every answer of
 * the assistant becomes an example, with all that was said before it as prompt;
 * all of one dialogue have one key. */
#include "store/data_internal.h"

#include <string.h>

static int take(struct data_reader *r, const json_t *j)
{
	const json_t *list = json_object_get(j, "conversations");
	if (!list) list = json_object_get(j, "messages");
	if (!json_is_array(list)) return data_bad(r, "it has no list \"conversations\" or \"messages\"", NULL);
	const char *what = NULL, *key = NULL;
	size_t n = json_array_size(list), answers = 0;
	int rc = 0;
	if (!data_dialogue(r, list, 0, n, 0, &what)) return data_bad(r, what, NULL);
	for (size_t i = 1; i < n && rc == 0; i++) {
		if (strcmp(data_role(json_array_get(list, i)), DATA_ASSISTANT)) continue;
		const char *content = data_content(json_array_get(list, i)), *prompt = data_dialogue(r, list, 0, i, 1, &what);
		const char *completion = content[0] ? arena_printf(r->arena, " %s", content) : content;
		if (!key) key = prompt;
		struct data_record x = {.kind = DATA_EXAMPLE, .prompt = prompt, .count = 1, .completion = {completion}, .key = key};
		answers++;
		rc = data_emit(r, &x);
	}
	return answers || rc ? rc : data_bad(r, "it has no answer of the assistant", NULL);
}

const struct data_format data_format_sharegpt = {{"sharegpt", "ShareGPT: {\"conversations\": [{\"from\", \"value\"}]}, or \"messages\""}, .take_json = take};
