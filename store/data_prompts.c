/* Lists of prompts: one a line of a .txt file; any other file is JSON in our own
 * layout, of which {"prompt": …} is a part (data.c chooses by the name). */
#include "store/data_internal.h"

static int take(struct data_reader *r, const char *text)
{
	struct data_record x = {.kind = DATA_PROMPT, .prompt = text};
	return data_emit(r, &x);
}

const struct data_format data_format_prompts = {{"prompts", "prompts: one a line of a .txt file, else JSON {\"prompt\"}"}, .take_line = take};
