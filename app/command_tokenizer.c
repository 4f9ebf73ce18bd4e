/* `tenfold tokenizer train | encode | decode`. */
#include "app/commands.h"
#include "app/options.h"

#include "core/base/fs.h"
#include "policy/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static int train(const char *input, const char *output, int64_t vocab, struct err *e)
{
	struct tokenizer *t = NULL;
	struct tokenizer_text text;
	char *data = NULL;
	const char *specials[] = {"<|endoftext|>"};
	int rc = 0;
	TRY(fs_read(input, (size_t)1 << 32, &data, &text.bytes, e));
	text.data = data;
	TRY(tokenizer_train(&t, &text, 1, (int32_t)vocab, specials, 1, e));
	TRY(tokenizer_save(t, output, e));
	printf("%d tokens in %s\n", tokenizer_vocab_size(t), output);
out:
	tokenizer_close(t);
	free(data);
	return rc;
}

static int encode(struct tokenizer *t, const char *data, size_t bytes, struct err *e)
{
	int64_t n = tokenizer_encode(t, data, bytes, NULL, 0, e);
	if (n < 0) return (int)n;
	int32_t *ids = malloc((size_t)(n + 1) * sizeof *ids);
	if (!ids) return err_set(e, ERR_MEMORY, "no memory for %lld tokens", (long long)n);
	tokenizer_encode(t, data, bytes, ids, (size_t)n, e);
	putchar('[');
	for (int64_t i = 0; i < n; i++) printf("%s%d", i ? "," : "", ids[i]);
	puts("]");
	free(ids);
	return 0;
}

/* Ids as JSON or separated by blanks or commas. */
static int decode(const struct tokenizer *t, char *data, struct err *e)
{
	size_t n = 0, room = 1024;
	int32_t *ids = malloc(room * sizeof *ids);
	int rc = 0;
	CHECK(ids, "out of memory for tokens");
	for (char *at = data; *at;) {
		if (strchr("[], \t\r\n", *at)) {
			at++;
			continue;
		}
		char *end;
		long v = strtol(at, &end, 10);
		if (end == at || v < 0 || v > INT32_MAX) {
			rc = err_set(e, ERR_FORMAT, "'%.20s' at byte %td of the input is no token id", at, at - data);
			goto out;
		}
		if (n == room) {
			room *= 2;
			ids = realloc(ids, room * sizeof *ids);
			CHECK(ids, "out of memory for tokens");
		}
		ids[n++] = (int32_t)v;
		at = end;
	}
	int64_t bytes = tokenizer_decode(t, ids, n, 0, NULL, 0, e);
	if (bytes < 0) {
		rc = (int)bytes;
		goto out;
	}
	char *text = malloc((size_t)bytes + 1);
	CHECK(text, "out of memory for the text");
	tokenizer_decode(t, ids, n, 0, text, (size_t)bytes + 1, e);
	fwrite(text, 1, (size_t)bytes, stdout);
	free(text);
out:
	free(ids);
	return rc;
}

int command_tokenizer(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	struct tokenizer *t = NULL;
	int64_t vocab = 512;
	char *data = NULL;
	size_t bytes = 0;
	int rc;
	const struct option table[] = {{"vocab", OPTION_INT, &vocab, "N", "train: size of the vocabulary, special token and bytes included (512)."}};
	const struct options_use use = {
		.line = "tokenizer train TEXT OUT.json | encode TOKENIZER | decode TOKENIZER",
		.about = "train: byte-level BPE from a text file, written in the layout of tokenizer.json. encode: text on standard input to\n"
			 "JSON ids; decode: ids on standard input to text. TOKENIZER is a tokenizer.json or a folder that has one.",
		.table = table, .count = 1, .at_least = 2, .at_most = 3};
	rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (!strcmp(rest.item[0], "train")) {
		if (rest.count != 3) return err_set(e, ERR_FORMAT, "tokenizer train needs a text file and the file to write");
		return train(rest.item[1], rest.item[2], vocab, e);
	}
	int encoding = !strcmp(rest.item[0], "encode");
	if (!encoding && strcmp(rest.item[0], "decode")) return err_set(e, ERR_FORMAT, "tokenizer knows train, encode and decode, not %s", rest.item[0]);
	TRY(tokenizer_open(&t, rest.item[1], e));
	TRY(read_input(&data, &bytes, e));
	rc = encoding ? encode(t, data, bytes, e) : decode(t, data, e);
out:
	free(data);
	tokenizer_close(t);
	return rc;
}
