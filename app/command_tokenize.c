/* `tenfold tokenize`: text on standard input to ids and back. */
#include "app/commands.h"
#include "app/options.h"

#include "policy/chat.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct job {
	struct tokenizer *tokenizer;
	struct chat *chat; /* NULL: plain text */
	int decode, jsonl, bare, skip, render, reply;
	int32_t *ids;
	size_t room;
	char *text;
	size_t text_room;
};

/* All of standard input; *bytes of it, with a NUL beyond. */
static int read_input(char **out, size_t *bytes, struct err *e)
{
	size_t n = 0, room = 1 << 16;
	char *data = malloc(room);
	while (data) {
		n += fread(data + n, 1, room - n - 1, stdin);
		if (n < room - 1) break;
		room *= 2;
		char *more = realloc(data, room);
		if (!more) free(data);
		data = more;
	}
	if (!data) return err_set(e, ERR_MEMORY, "no memory for the input");
	data[n] = 0;
	*out = data;
	*bytes = n;
	return 0;
}

static int ids_room(struct job *j, size_t n, struct err *e)
{
	if (n <= j->room) return 0;
	int32_t *ids = realloc(j->ids, 2 * n * sizeof *ids);
	if (!ids) return err_set(e, ERR_MEMORY, "no memory for %zu tokens", n);
	j->ids = ids;
	j->room = 2 * n;
	return 0;
}

static void print_ids(const int32_t *ids, size_t n, int *first)
{
	for (size_t i = 0; i < n; i++) {
		if (!*first) putchar(',');
		*first = 0;
		/* printf would be most of the time. */
		char digits[12], *at = digits + sizeof digits;
		uint32_t v = (uint32_t)ids[i];
		do *--at = (char)('0' + v % 10);
		while (v /= 10);
		fwrite(at, 1, (size_t)(digits + sizeof digits - at), stdout);
	}
}

static int encode(struct job *j, const char *s, size_t bytes, struct err *e)
{
	const int32_t *before, *behind;
	size_t n_before, n_behind;
	int rc = ids_room(j, bytes / 2 + 16, e), first = 1;
	if (rc) return rc;
	int64_t n = tokenizer_encode(j->tokenizer, s, bytes, j->ids, j->room, e);
	if (n > (int64_t)j->room) {
		rc = ids_room(j, (size_t)n, e);
		if (rc) return rc;
		n = tokenizer_encode(j->tokenizer, s, bytes, j->ids, j->room, e);
	}
	if (n < 0) return (int)n;
	tokenizer_wrap(j->tokenizer, &before, &n_before, &behind, &n_behind);
	putchar('[');
	if (!j->bare) print_ids(before, n_before, &first);
	print_ids(j->ids, (size_t)n, &first);
	if (!j->bare) print_ids(behind, n_behind, &first);
	puts("]");
	return 0;
}

static int print_text(const char *s, size_t bytes, struct err *e)
{
	json_t *line = json_stringn(s, bytes);
	if (!line) return err_set(e, ERR_MEMORY, "no memory for the text");
	json_dumpf(line, stdout, JSON_ENCODE_ANY);
	putchar('\n');
	json_decref(line);
	return 0;
}

/* Ids as JSON or separated by blanks or commas. */
static int decode(struct job *j, const char *s, size_t bytes, struct err *e)
{
	size_t n = 0;
	for (const char *at = s; at < s + bytes;) {
		if (strchr("[], \t\r\n", *at) && *at) {
			at++;
			continue;
		}
		char *end;
		long v = strtol(at, &end, 10);
		if (end == at || v < 0 || v > INT32_MAX) return err_set(e, ERR_FORMAT, "'%.20s' at byte %td is no token id", at, at - s);
		int rc = ids_room(j, n + 1, e);
		if (rc) return rc;
		j->ids[n++] = (int32_t)v;
		at = end;
	}
	int flags = (j->skip ? TOKENIZER_SKIP_SPECIAL : 0) | (j->jsonl ? TOKENIZER_UTF8 : 0);
	int64_t len = tokenizer_decode(j->tokenizer, j->ids, n, flags, j->text, j->text_room, e);
	if (len < 0) return (int)len;
	if ((size_t)len + 1 > j->text_room) {
		char *text = realloc(j->text, 2 * (size_t)len + 64);
		if (!text) return err_set(e, ERR_MEMORY, "no memory for the text");
		j->text = text;
		j->text_room = 2 * (size_t)len + 64;
		tokenizer_decode(j->tokenizer, j->ids, n, flags, j->text, j->text_room, e);
	}
	if (!j->jsonl) {
		fwrite(j->text, 1, (size_t)len, stdout);
		return 0;
	}
	return print_text(j->text, (size_t)len, e);
}

/* A conversation: a list of messages, or an object with "messages" and what else the template shall see. */
static int converse(struct job *j, const json_t *line, struct err *e)
{
	const json_t *messages = json_is_object(line) ? json_object_get(line, "messages") : line;
	json_t *more = NULL;
	char *text = NULL;
	size_t bytes = 0;
	if (!json_is_array(messages)) return err_set(e, ERR_FORMAT, "neither a list of messages nor an object with \"messages\"");
	if (json_is_object(line)) more = json_copy((json_t *)(uintptr_t)line);
	json_object_del(more, "messages");
	int rc = chat_render(j->chat, messages, more, j->reply, &text, &bytes, e);
	if (!rc) rc = j->render ? print_text(text, bytes, e) : encode(j, text, bytes, e);
	free(text);
	json_decref(more);
	return rc;
}

static int line_to_ids(struct job *j, const char *s, size_t bytes, struct err *e)
{
	json_error_t je;
	json_t *line = json_loadb(s, bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
	const json_t *text = json_is_object(line) ? json_object_get(line, "text") : line;
	int rc;
	if (!line) rc = err_set(e, ERR_FORMAT, "%s", je.text);
	else if (j->chat) rc = converse(j, line, e);
	else if (!json_is_string(text)) rc = err_set(e, ERR_FORMAT, "neither a JSON text nor an object with a \"text\"");
	else rc = encode(j, json_string_value(text), json_string_length(text), e);
	json_decref(line);
	return rc;
}

static int each_line(struct job *j, const char *data, size_t bytes, struct err *e)
{
	size_t number = 0;
	for (const char *s = data, *end; s < data + bytes; s = end + 1) {
		end = memchr(s, '\n', (size_t)(data + bytes - s));
		if (!end) end = data + bytes;
		number++;
		if (end == s) continue;
		int rc = j->decode ? decode(j, s, (size_t)(end - s), e) : line_to_ids(j, s, (size_t)(end - s), e);
		if (rc) return err_prefix(e, "line %zu of the input", number);
	}
	return 0;
}

int command_tokenize(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	struct job j = {0};
	const char *model = NULL, *template = NULL;
	int chat = 0;
	char *data = NULL;
	size_t bytes = 0;
	const struct option table[] = {
		{"model", OPTION_TEXT, &model, "DIR", "A folder with tokenizer.json or with vocab.json and merges.txt, or a tokenizer.json."},
		{"decode", OPTION_FLAG, &j.decode, NULL, "Ids (a JSON list, or numbers) to text."},
		{"jsonl", OPTION_FLAG, &j.jsonl, NULL, "Every line by itself: a JSON text or {\"text\": …} to ids; with --decode, ids to a JSON text."},
		{"bare", OPTION_FLAG, &j.bare, NULL, "Without the special tokens that the post-processor puts around a text."},
		{"chat", OPTION_FLAG, &chat, NULL, "Conversations (JSON: a list of messages, or {\"messages\": …, …}) by the chat template."},
		{"template", OPTION_TEXT, &template, "NAME", "With --chat: chatml or hh instead of the tokenizer's own template."},
		{"reply", OPTION_FLAG, &j.reply, NULL, "With --chat: end with the opening of the assistant's next turn."},
		{"render", OPTION_FLAG, &j.render, NULL, "With --chat: the text, as JSON, instead of its ids."},
		{"skip-special", OPTION_FLAG, &j.skip, NULL, "With --decode: leave special tokens out."},
	};
	const struct options_use use = {
		.line = "tokenize --model DIR [options]",
		.about = "Standard input, as one text, to a line of JSON ids: those that transformers gives for it.",
		.table = table, .count = sizeof table / sizeof *table};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (!model) return err_set(e, ERR_FORMAT, "tokenize needs --model DIR");
	TRY(tokenizer_open(&j.tokenizer, model, e));
	if (chat || template) {
		TRY(chat_open(&j.chat, j.tokenizer, template, e));
		j.bare = 1; /* the template says itself what stands in front */
	}
	TRY(read_input(&data, &bytes, e));
	rc = j.jsonl ? each_line(&j, data, bytes, e) : j.decode ? decode(&j, data, bytes, e) : j.chat ? line_to_ids(&j, data, bytes, e) : encode(&j, data, bytes, e);
out:
	chat_close(j.chat);
	free(data);
	free(j.ids);
	free(j.text);
	tokenizer_close(j.tokenizer);
	return rc;
}
