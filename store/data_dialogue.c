/* Dialogues: lists of messages {role, content} (TRL, chat formats) or {from,
 * value} (ShareGPT) become one text in the form of hh-rlhf, "\n\nHuman: …
 * \n\nAssistant: …". It is the form of the published human comparisons, it needs
 * no special tokens, and a prompt that ends in "\n\nAssistant:" asks for an
 * answer. System messages become "\n\nSystem: …". */
#include "store/data_internal.h"

#include <string.h>

const char *data_role(const json_t *message)
{
	static const struct {
		const char *name, *opening;
	} roles[] = {{"user", DATA_HUMAN}, {"human", DATA_HUMAN}, {"assistant", DATA_ASSISTANT}, {"gpt", DATA_ASSISTANT}, {"chatgpt", DATA_ASSISTANT},
		     {"system", DATA_SYSTEM}};
	const char *role = data_member(message, "role");
	if (!role) role = data_member(message, "from");
	for (size_t i = 0; role && i < sizeof roles / sizeof *roles; i++)
		if (!strcmp(role, roles[i].name)) return roles[i].opening;
	return NULL;
}

const char *data_content(const json_t *message)
{
	const char *content = data_member(message, "content");
	return content ? content : data_member(message, "value");
}

const char *data_dialogue(struct data_reader *r, const json_t *list, size_t from, size_t to, int open, const char **what)
{
	size_t bytes = sizeof DATA_ASSISTANT;
	for (size_t i = from; i < to; i++) {
		const json_t *m = json_array_get(list, i);
		const char *role = data_role(m), *content = data_content(m);
		if (!role || !content) {
			*what = role ? "a message has no text" : "a message has an unknown role";
			return NULL;
		}
		bytes += strlen(role) + strlen(content) + 1;
	}
	char *text = arena_must(r->arena, bytes + 1, 1), *at = text;
	for (size_t i = from; i < to; i++) {
		const json_t *m = json_array_get(list, i);
		const char *content = data_content(m);
		at = stpcpy(at, data_role(m));
		if (content[0]) *at++ = ' ';
		at = stpcpy(at, content);
	}
	if (open) strcpy(at, DATA_ASSISTANT);
	return text;
}

const char *data_dialogue_key(struct data_reader *r, const char *prompt)
{
	const char *end = strstr(prompt, DATA_ASSISTANT);
	if (!end || strncmp(prompt, DATA_HUMAN, sizeof DATA_HUMAN - 1)) return NULL;
	return arena_printf(r->arena, "%.*s", (int)(end - prompt), prompt);
}
