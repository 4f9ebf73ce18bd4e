/* Conversations as one text: the chat template of a tokenizer, or one by name.
 *
 * A template comes from tokenizer_config.json or chat_template.jinja and is run
 * (jinja.h): the text is the one that transformers' apply_chat_template gives.
 * By name there are "chatml" (<|im_start|>role … <|im_end|>) and "hh" (the plain
 * "\n\nHuman: … \n\nAssistant: …" of the hh-rlhf data), for tokenizers without one
 * and as the way out where a template is refused. */
#ifndef TENFOLD_POLICY_CHAT_H
#define TENFOLD_POLICY_CHAT_H

#include "policy/tokenizer.h"

#include <jansson.h>

struct chat;

/* name: "chatml" or "hh"; NULL: the tokenizer's own template. ERR_NOT_FOUND when it has none; ERR_FORMAT, with the line
 * and what is not known, when it cannot be run. */
int chat_open(struct chat **out, const struct tokenizer *t, const char *name, struct err *e);
void chat_close(struct chat *c);
/* messages: a list of {"role": …, "content": …}. more: further variables of the template (tools, enable_thinking, …), an
 * object, or NULL. reply: end with the opening of the assistant's next turn. *text is malloc'ed, NUL-terminated, without
 * tokens put around it: encode it with tokenizer_encode. */
int chat_render(const struct chat *c, const json_t *messages, const json_t *more, int reply, char **text, size_t *bytes,
		struct err *e);

#endif
