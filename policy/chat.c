/* Chat templates; see chat.h. */
#include "policy/chat.h"

#include "policy/jinja.h"

#include <stdlib.h>
#include <string.h>

struct chat {
	struct jinja *jinja;
	json_t *names; /* bos_token, eos_token, pad_token */
};

static const struct {
	const char *name, *text;
} known[] = {
	{ "chatml", "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
		    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}" },
	{ "hh", "{% for message in messages %}{% if message['role'] == 'user' %}{{ '\\n\\nHuman: ' + message['content'] }}"
		"{% elif message['role'] == 'assistant' %}{{ '\\n\\nAssistant: ' + message['content'] }}"
		"{% else %}{{ raise_exception('hh knows the roles user and assistant') }}{% endif %}{% endfor %}"
		"{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}" },
};

static void put_token(struct chat *c, const struct tokenizer *t, const char *name, int32_t id)
{
	if (id >= 0) json_object_set_new(c->names, name, json_string(tokenizer_token(t, id)));
}

int chat_open(struct chat **out, const struct tokenizer *t, const char *name, struct err *e)
{
	const char *text = name ? NULL : tokenizer_chat_template(t);
	*out = NULL;
	for (size_t i = 0; name && i < sizeof known / sizeof *known; i++)
		if (!strcmp(known[i].name, name)) text = known[i].text;
	if (!text && name) return err_set(e, ERR_NOT_FOUND, "there is no chat template \"%s\" (chatml, hh)", name);
	if (!text) return err_set(e, ERR_NOT_FOUND, "the tokenizer has no chat template: choose chatml or hh, or put a chat_template.jinja beside tokenizer.json");
	struct chat *c = calloc(1, sizeof *c);
	if (!c) return err_set(e, ERR_MEMORY, "out of memory for the chat template");
	c->names = json_object();
	put_token(c, t, "bos_token", tokenizer_bos(t));
	put_token(c, t, "eos_token", tokenizer_eos(t));
	put_token(c, t, "pad_token", tokenizer_pad(t));
	int rc = jinja_open(&c->jinja, text, e);
	if (rc) {
		chat_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

void chat_close(struct chat *c)
{
	if (!c) return;
	jinja_close(c->jinja);
	json_decref(c->names);
	free(c);
}

int chat_render(const struct chat *c, const json_t *messages, const json_t *more, int reply, char **text, size_t *bytes,
		struct err *e)
{
	json_t *names = json_copy(c->names);
	if (!names) return err_set(e, ERR_MEMORY, "out of memory for a conversation");
	json_object_set_new(names, "tools", json_null());
	json_object_set_new(names, "documents", json_null());
	if (more) json_object_update(names, (json_t *)(uintptr_t)more);
	json_object_set(names, "messages", (json_t *)(uintptr_t)messages);
	json_object_set_new(names, "add_generation_prompt", json_boolean(reply));
	int rc = jinja_render(c->jinja, names, text, bytes, e);
	json_decref(names);
	return rc;
}
