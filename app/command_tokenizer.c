/* `tenfold tokenizer train`. */
#include "app/commands.h"
#include "app/options.h"

#include "core/base/fs.h"
#include "policy/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

int command_tokenizer(int argc, char **argv, struct err *e)
{
	struct option_list rest;
	int64_t vocab = 512;
	const struct option table[] = {{"vocab", OPTION_INT, &vocab, "N", "Size of the vocabulary, special token and bytes included (512)."}};
	const struct options_use use = {
		.line = "tokenizer train TEXT OUT.json",
		.about = "Trains byte-level BPE on a text file and writes it in the layout of tokenizer.json. To use one: tenfold tokenize.",
		.table = table, .count = 1, .at_least = 3, .at_most = 3};
	int rc = options_parse(&use, argc, argv, &rest, e);
	if (rc) return rc < 0 ? rc : 0;
	if (strcmp(rest.item[0], "train")) return err_set(e, ERR_FORMAT, "tokenizer knows train, not %s", rest.item[0]);
	return train(rest.item[1], rest.item[2], vocab, e);
}
