/* A batch: token rows of one or more groups as the model takes them.
 *
 * Rows are tokens in packed order, prompt first, then each completion without
 * its last token (which predicts nothing) unless asked for. Attention sees pages
 * of 64 positions: a group's prompt pages are shared by its completions, and
 * the page where the prompt ends is copied to each of them, so that a
 * completion's keys are laid out exactly as if it stood alone.
 *
 * A batch is built in host arrays of this struct and then lives in backend
 * memory (batch_upload). Arrays are planned (batch_plan), or grow to the largest
 * batch seen, and stay. */
#ifndef TENFOLD_POLICY_BATCH_H
#define TENFOLD_POLICY_BATCH_H

#include "core/base/group.h"
#include "core/tensor/ops.h"

struct batch_arrays {
	int32_t *ids, *pos, *seq;              /* [rows] */
	int32_t *tables;                       /* [seqs, stride] */
	int32_t *write_row, *write_page, *write_slot; /* [writes] */
	int32_t *out_row, *target, *forbidden; /* [outs]: row that predicts, token predicted, token not allowed there (-1) */
};

struct batch {
	struct backend *backend;
	int64_t rows, seqs, stride, writes, outs, pages, sets;
	int64_t cap_rows, cap_seqs, cap_stride, cap_writes, cap_outs, cap_sets;
	int64_t *set_rows;      /* host, [sets+1] */
	struct batch_arrays host, device; /* device: parts of the block below, after batch_upload */
	int32_t *block;         /* backend, [cap_block] */
	int32_t *stage;         /* host, [cap_block]: what goes up, in one piece */
	int64_t cap_block;
	int any_forbidden;
};

/* How large a batch can become. */
struct batch_sizes {
	int64_t rows, seqs, stride, writes, outs, pages, sets;
};

enum batch_flags {
	BATCH_WHOLE = 1,       /* keep the last token's row of every completion (reward models read it) */
	BATCH_PROMPT_LOSS = 2, /* outs also for the prompt's own tokens (supervised training on all) */
	BATCH_LAST = 4,        /* one out per completion, at its last token's row, target -1; an empty completion has the prompt's last row */
};

void batch_open(struct batch *b, struct backend *backend);
void batch_close(struct batch *b);
/* Empties it. `stride`: pages a sequence may need, ceil(max positions used / 64). */
void batch_reset(struct batch *b, int64_t stride);
/* Adds prompt and completions: tokens packed [P + sum R]. With end_token >= 0 and min_new > 0 the first min_new
 * outs of a completion forbid it. Outs come in packed order of the response tokens. A completion shorter than
 * after_below keeps its last row too and gets one more out there, with target -1 (the state after the end). */
void batch_add(struct batch *b, const int32_t *tokens, int64_t prompt_tokens, const uint32_t *length, int64_t completions, int flags,
	       int32_t end_token, int64_t min_new, int64_t after_below);
/* Sends it to the backend, in one transfer. */
void batch_upload(struct batch *b);
/* The largest batch of `groups` groups with prompts and responses up to these lengths, whatever the flags. */
struct batch_sizes batch_most(int64_t groups, int64_t prompt, int64_t completions, int64_t response);
/* Room for batches up to these sizes, so that none takes memory later. ERR_MEMORY. */
int batch_plan(struct batch *b, const struct batch_sizes *, struct err *e);
/* Room for at least these (contents kept); used by the generator, which fills the arrays itself. */
void batch_reserve(struct batch *b, int64_t rows, int64_t seqs, int64_t writes, int64_t outs, int64_t sets);

#endif
