/* Byte-pair merges from text; see tokenizer.h. (Sennrich et al., ACL 2016; byte
 * level as in GPT-2.)
 *
 * The texts become distinct pieces with counts. Every adjacent pair has a count
 * and the list of pieces it occurred in; a heap gives the most frequent pair. A
 * merge rewrites the pieces of its list only: their pairs are taken off, the
 * symbols merged, their pairs put on again. Heap entries that no longer tell the
 * pair's count are stale and passed over, since every change pushes a new one. */
#include "policy/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

struct word {
	const char *text;
	uint32_t bytes, n; /* of the piece; symbols now */
	int32_t *symbol;
	int64_t count;
};

struct pair {
	int32_t left, right;
	int64_t count;
	uint32_t *words, n_words, room;
	uint32_t touched; /* merge in which it last changed */
};

struct entry {
	int64_t count;
	uint32_t pair;
};

struct trainer {
	struct arena *arena;
	struct word *word;
	uint32_t words, words_room;
	uint32_t *word_slot; /* index + 1, 0 free */
	size_t word_mask;
	struct pair *pair;
	uint32_t pairs, pairs_room;
	uint32_t *pair_slot;
	size_t pair_mask;
	struct entry *heap;
	size_t heap_n, heap_room;
	uint32_t *changed;   /* pairs that the merge touched */
	uint32_t n_changed, changed_room;
	const char **bytes;  /* of each id */
	uint32_t *length;
	const struct bpe *bpe;
};

static int no_memory(struct err *e)
{
	return err_set(e, ERR_MEMORY, "out of memory while training the tokenizer");
}

/* Room for one more of `size` bytes each; 0, or -1 when memory is out. */
static int grow(void *array, uint32_t n, uint32_t *room, size_t size)
{
	if (n < *room) return 0;
	void **a = array;
	uint32_t more = *room ? 2 * *room : 16;
	void *p = realloc(*a, more * size);
	if (!p) return -1;
	*a = p;
	*room = more;
	return 0;
}

/* ---- words ---- */

static int words_rehash(struct trainer *t)
{
	size_t size = t->word_slot ? 2 * (t->word_mask + 1) : 4096;
	free(t->word_slot);
	t->word_slot = calloc(size, sizeof *t->word_slot);
	if (!t->word_slot) return -1;
	t->word_mask = size - 1;
	for (uint32_t i = 0; i < t->words; i++) {
		size_t k = hash_u64(t->word[i].text, t->word[i].bytes) & t->word_mask;
		while (t->word_slot[k]) k = (k + 1) & t->word_mask;
		t->word_slot[k] = i + 1;
	}
	return 0;
}

static int count_word(void *arg, const char *piece, size_t bytes, int32_t added_id, struct err *e)
{
	struct trainer *t = arg;
	if (added_id >= 0) return 0;
	if (bytes > INT32_MAX) return err_set(e, ERR_RANGE, "a word of %zu bytes is too long to train on", bytes);
	if ((!t->word_slot || 2 * (size_t)t->words > t->word_mask) && words_rehash(t)) return no_memory(e);
	size_t k = hash_u64(piece, bytes) & t->word_mask;
	for (; t->word_slot[k]; k = (k + 1) & t->word_mask) {
		struct word *w = &t->word[t->word_slot[k] - 1];
		if (w->bytes == bytes && !memcmp(w->text, piece, bytes)) {
			w->count++;
			return 0;
		}
	}
	if (grow(&t->word, t->words, &t->words_room, sizeof *t->word)) return no_memory(e);
	char *copy = arena_alloc(t->arena, bytes);
	int32_t *symbol = arena_alloc(t->arena, bytes * sizeof *symbol);
	if (!copy || !symbol) return no_memory(e);
	memcpy(copy, piece, bytes);
	for (size_t i = 0; i < bytes; i++) symbol[i] = t->bpe->byte_id[(unsigned char)piece[i]];
	t->word[t->words] = (struct word){ copy, (uint32_t)bytes, (uint32_t)bytes, symbol, 1 };
	t->word_slot[k] = ++t->words;
	return 0;
}

/* ---- pairs ---- */

static size_t pair_place(const struct trainer *t, int32_t left, int32_t right)
{
	uint64_t x = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15ull;
	size_t k = (x ^ x >> 32) & t->pair_mask;
	for (; t->pair_slot[k]; k = (k + 1) & t->pair_mask) {
		const struct pair *p = &t->pair[t->pair_slot[k] - 1];
		if (p->left == left && p->right == right) break;
	}
	return k;
}

static int pairs_rehash(struct trainer *t)
{
	size_t size = t->pair_slot ? 2 * (t->pair_mask + 1) : 4096;
	free(t->pair_slot);
	t->pair_slot = calloc(size, sizeof *t->pair_slot);
	if (!t->pair_slot) return -1;
	t->pair_mask = size - 1;
	for (uint32_t i = 0; i < t->pairs; i++) t->pair_slot[pair_place(t, t->pair[i].left, t->pair[i].right)] = i + 1;
	return 0;
}

/* Adds `sign` times the word's count to each of its pairs; notes the pairs that changed in merge number `now`. */
static int count_pairs(struct trainer *t, uint32_t index, int sign, uint32_t now)
{
	const struct word *w = &t->word[index];
	for (uint32_t i = 0; i + 1 < w->n; i++) {
		if ((!t->pair_slot || 2 * (size_t)t->pairs > t->pair_mask) && pairs_rehash(t)) return -1;
		size_t k = pair_place(t, w->symbol[i], w->symbol[i + 1]);
		if (!t->pair_slot[k]) {
			if (grow(&t->pair, t->pairs, &t->pairs_room, sizeof *t->pair)) return -1;
			t->pair[t->pairs] = (struct pair){ .left = w->symbol[i], .right = w->symbol[i + 1], .touched = UINT32_MAX };
			t->pair_slot[k] = ++t->pairs;
		}
		uint32_t id = t->pair_slot[k] - 1;
		struct pair *p = &t->pair[id];
		p->count += sign * w->count;
		if (sign > 0 && (!p->n_words || p->words[p->n_words - 1] != index)) {
			if (grow(&p->words, p->n_words, &p->room, sizeof *p->words)) return -1;
			p->words[p->n_words++] = index;
		}
		if (p->touched != now) {
			if (grow(&t->changed, t->n_changed, &t->changed_room, sizeof *t->changed)) return -1;
			t->changed[t->n_changed++] = id;
			p->touched = now;
		}
	}
	return 0;
}

/* ---- the heap: the most frequent pair, then the greater bytes ---- */

static int compare_bytes(const struct trainer *t, int32_t x, int32_t y)
{
	uint32_t n = t->length[x] < t->length[y] ? t->length[x] : t->length[y];
	int c = memcmp(t->bytes[x], t->bytes[y], n);
	return c ? c : t->length[x] < t->length[y] ? -1 : t->length[x] > t->length[y];
}

static int ahead(const struct trainer *t, struct entry x, struct entry y)
{
	if (x.count != y.count) return x.count > y.count;
	const struct pair *p = &t->pair[x.pair], *q = &t->pair[y.pair];
	int c = compare_bytes(t, p->left, q->left);
	return (c ? c : compare_bytes(t, p->right, q->right)) > 0;
}

static int heap_push(struct trainer *t, struct entry x)
{
	if (t->heap_n == t->heap_room) {
		size_t room = t->heap_room ? 2 * t->heap_room : 4096;
		struct entry *h = realloc(t->heap, room * sizeof *h);
		if (!h) return -1;
		t->heap = h;
		t->heap_room = room;
	}
	size_t i = t->heap_n++;
	for (; i && ahead(t, x, t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
	t->heap[i] = x;
	return 0;
}

static struct entry heap_pop(struct trainer *t)
{
	struct entry top = t->heap[0], last = t->heap[--t->heap_n];
	size_t i = 0;
	for (size_t c; (c = 2 * i + 1) < t->heap_n; i = c) {
		if (c + 1 < t->heap_n && ahead(t, t->heap[c + 1], t->heap[c])) c++;
		if (!ahead(t, t->heap[c], last)) break;
		t->heap[i] = t->heap[c];
	}
	t->heap[i] = last;
	return top;
}

static int push_changed(struct trainer *t)
{
	for (uint32_t i = 0; i < t->n_changed; i++) {
		struct entry x = { t->pair[t->changed[i]].count, t->changed[i] };
		if (x.count > 0 && heap_push(t, x)) return -1;
	}
	t->n_changed = 0;
	return 0;
}

/* ---- merging ---- */

static int word_has(const struct word *w, int32_t left, int32_t right)
{
	for (uint32_t i = 0; i + 1 < w->n; i++)
		if (w->symbol[i] == left && w->symbol[i + 1] == right) return 1;
	return 0;
}

static int merge_words(struct trainer *t, uint32_t pair, int32_t id, uint32_t now)
{
	int32_t left = t->pair[pair].left, right = t->pair[pair].right;
	for (uint32_t i = 0; i < t->pair[pair].n_words; i++) {
		uint32_t index = t->pair[pair].words[i], n = 0;
		struct word *w = &t->word[index];
		if (!word_has(w, left, right)) continue;
		if (count_pairs(t, index, -1, now)) return -1;
		for (uint32_t k = 0; k < w->n; k++) {
			int whole = k + 1 < w->n && w->symbol[k] == left && w->symbol[k + 1] == right;
			w->symbol[n++] = whole ? id : w->symbol[k];
			k += (uint32_t)whole;
		}
		w->n = n;
		if (count_pairs(t, index, 1, now)) return -1;
	}
	return push_changed(t);
}

/* Makes the merge of a pair, and its token with the id `fresh` unless those bytes are a token already. Returns the
 * token's id. */
static int32_t add_merge(struct trainer *t, struct bpe *b, const struct pair *p, int32_t fresh, struct err *e)
{
	uint32_t n = t->length[p->left] + t->length[p->right];
	char *whole = arena_alloc(t->arena, n), *spelling = arena_alloc(t->arena, 2 * (size_t)n + 1);
	if (!whole || !spelling) return no_memory(e);
	memcpy(whole, t->bytes[p->left], t->length[p->left]);
	memcpy(whole + t->length[p->left], t->bytes[p->right], t->length[p->right]);
	size_t spelled = alphabet_spell(whole, n, spelling);
	int32_t id = bpe_id(b, spelling, spelled);
	int rc = 0;
	if (id < 0) {
		id = fresh;
		t->bytes[id] = whole;
		t->length[id] = n;
		rc = bpe_add_token(b, spelling, spelled, id, e);
	}
	if (!rc) rc = bpe_add_merge(b, b->token[p->left], b->bytes[p->left], b->token[p->right], b->bytes[p->right], e);
	return rc ? rc : id;
}

static int train_merges(struct trainer *t, struct bpe *b, int32_t vocab_size, struct err *e)
{
	for (uint32_t i = 0; i < t->words; i++)
		if (count_pairs(t, i, 1, UINT32_MAX - 1)) return no_memory(e);
	if (push_changed(t)) return no_memory(e);
	while (b->size < vocab_size && t->heap_n) {
		struct entry top = heap_pop(t);
		if (top.count != t->pair[top.pair].count) continue;
		struct pair p = t->pair[top.pair];
		int32_t id = add_merge(t, b, &p, b->size, e);
		if (id < 0) return id;
		if (merge_words(t, top.pair, id, b->merges)) return no_memory(e);
	}
	return 0;
}

/* The specials and the 256 bytes, in GPT-2's order: by character of the alphabet. */
static int first_tokens(struct tokenizer *t, const char *const *specials, size_t n_specials, struct err *e)
{
	int rc = 0;
	int32_t id = 0;
	for (size_t i = 0; i < n_specials && !rc; i++, id++) {
		rc = bpe_add_token(&t->bpe, specials[i], strlen(specials[i]), id, e);
		const struct added_token a = { .content = (char *)(uintptr_t)specials[i], .bytes = (uint32_t)strlen(specials[i]), .id = id, .special = 1 };
		if (!rc) rc = tokenizer_add(t, &a, e);
	}
	for (int32_t code = 0; code <= 0x143 && !rc; code++) {
		char s[4];
		if (alphabet_byte(code) < 0) continue;
		size_t n = utf8_put(s, code);
		s[n] = 0;
		rc = bpe_add_token(&t->bpe, s, n, id++, e);
	}
	if (!rc) rc = tokenizer_set_gpt2(t, e);
	return rc ? rc : tokenizer_finish(t, e);
}

static void trainer_free(struct trainer *t)
{
	for (uint32_t i = 0; i < t->pairs; i++) free(t->pair[i].words);
	free(t->word);
	free(t->word_slot);
	free(t->pair);
	free(t->pair_slot);
	free(t->heap);
	free(t->changed);
	arena_close(t->arena);
}

int tokenizer_train(struct tokenizer **out, const struct tokenizer_text *texts, size_t n, int32_t vocab_size,
		    const char *const *specials, size_t n_specials, struct err *e)
{
	int rc = 0;
	int32_t first = 256 + (int32_t)n_specials;
	struct trainer t = { .arena = arena_open(0) };
	struct tokenizer *k = NULL;
	*out = NULL;
	if (n_specials > 1 << 20 || vocab_size < first || vocab_size > 1 << 24) {
		rc = err_set(e, ERR_RANGE, "a tokenizer of %d tokens: the 256 bytes and %zu special tokens need at least %d (tokenizer.vocab_size)",
			     vocab_size, n_specials, first);
		goto out;
	}
	TRY(tokenizer_new(&k, e));
	TRY(first_tokens(k, specials, n_specials, e));
	t.bpe = &k->bpe;
	t.bytes = arena_must(t.arena, (size_t)vocab_size, sizeof *t.bytes);
	t.length = arena_must(t.arena, (size_t)vocab_size, sizeof *t.length);
	for (int c = 0; c < 256; c++) {
		char *byte = arena_must(t.arena, 1, 1);
		*byte = (char)c;
		t.bytes[k->bpe.byte_id[c]] = byte;
		t.length[k->bpe.byte_id[c]] = 1;
	}
	for (size_t i = 0; i < n; i++) TRY(tokenizer_pieces(k, texts[i].data, texts[i].bytes, count_word, &t, e));
	TRY(train_merges(&t, &k->bpe, vocab_size, e));
	TRY(tokenizer_finish(k, e));
	*out = k;
	k = NULL;
out:
	trainer_free(&t);
	tokenizer_close(k);
	return rc;
}
