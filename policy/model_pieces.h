/* What model_file.c (arenas to files and back) and model_source.c (where in a file
 * a matrix is) share. */
#ifndef TENFOLD_POLICY_MODEL_PIECES_H
#define TENFOLD_POLICY_MODEL_PIECES_H

#include "policy/model_file.h"
#include "policy/safetensors_internal.h"

enum { PIECE_NAME = 192 };

struct piece { /* one matrix of one arena, as on disk */
	char name[PIECE_NAME];
	int ndim, turned;        /* turned: the arena has it transposed */
	int64_t shape[2];
	int64_t expert, experts; /* which of how many it is in its stack */
	float *data;             /* NULL: only looked for, or */
	const uint16_t *half;    /* to be written from bf16 */
	int head;
	const struct safetensors_tensor *from; /* where it was found; NULL: nowhere */
	int64_t first;           /* element of `from` that it starts at */
};

struct pieces {
	struct piece *list;
	size_t count;
};

/* All matrices of all arenas, by table; list is to be freed. */
void pieces_make(struct pieces *out, const struct params *p, const struct params_arena *arenas, int n);
/* Finds each in the file and checks shape, type, and that the file has nothing else. shape NULL: under its own name only. */
int pieces_find(struct pieces *all, const struct safetensors *s, const struct shape *shape, const char *path, int flags, struct err *e);

#endif
