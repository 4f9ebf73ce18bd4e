/* Vocabulary, merges and the encoding of one piece; see tokenizer_internal.h.
 *
 * A piece starts as one symbol per byte (byte level) or character. A heap holds
 * the pairs that may merge, ordered by rank, then place; a popped pair that has
 * changed meanwhile is passed over. So a piece of n symbols costs n log n, which
 * matters where a whole text is one piece. Common pieces come from the cache. */
#include "policy/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

static int out_of_memory(struct err *e)
{
	return err_set(e, ERR_MEMORY, "out of memory for the tokenizer");
}

static size_t spelling_hash(const char *s, size_t n)
{
	return hash_u64(s, n);
}

static void vocab_insert(struct bpe *b, int32_t id)
{
	size_t i = spelling_hash(b->token[id], b->bytes[id]) & b->vocab_mask;
	while (b->vocab_slot[i] >= 0) i = (i + 1) & b->vocab_mask;
	b->vocab_slot[i] = id;
}

static int vocab_grow(struct bpe *b)
{
	size_t size = b->vocab_slot ? 2 * (b->vocab_mask + 1) : 1024;
	int32_t *slot = malloc(size * sizeof *slot);
	if (!slot) return -1;
	free(b->vocab_slot);
	memset(slot, 0xFF, size * sizeof *slot);
	b->vocab_slot = slot;
	b->vocab_mask = size - 1;
	for (int32_t id = 0; id < b->size; id++)
		if (b->token[id]) vocab_insert(b, id);
	return 0;
}

static int ids_grow(struct bpe *b, int32_t id)
{
	int32_t room = b->room ? b->room : 512;
	while (room <= id) room *= 2;
	char **token = realloc(b->token, (size_t)room * sizeof *token);
	if (token) b->token = token;
	uint32_t *bytes = realloc(b->bytes, (size_t)room * sizeof *bytes);
	if (bytes) b->bytes = bytes;
	if (!token || !bytes) return -1;
	b->room = room;
	return 0;
}

int bpe_add_token(struct bpe *b, const char *spelling, size_t bytes, int32_t id, struct err *e)
{
	if (id < 0 || id >= 1 << 26) return err_set(e, ERR_RANGE, "token \"%s\": id %d is out of range", spelling, id);
	if (bpe_id(b, spelling, bytes) >= 0) return err_set(e, ERR_FORMAT, "token \"%s\" is in the vocabulary twice", spelling);
	if (id < b->size && b->token[id]) return err_set(e, ERR_FORMAT, "tokens \"%s\" and \"%s\" have the same id %d", b->token[id], spelling, id);
	if (id >= b->room && ids_grow(b, id)) return out_of_memory(e);
	char *copy = arena_alloc(b->arena, bytes + 1);
	if (!copy) return out_of_memory(e);
	memcpy(copy, spelling, bytes);
	copy[bytes] = 0;
	for (; b->size <= id; b->size++) b->token[b->size] = NULL, b->bytes[b->size] = 0;
	b->token[id] = copy;
	b->bytes[id] = (uint32_t)bytes;
	b->vocab_count++;
	if (!b->vocab_slot || 2 * b->vocab_count > b->vocab_mask) return vocab_grow(b) ? out_of_memory(e) : 0;
	vocab_insert(b, id);
	return 0;
}

int32_t bpe_id(const struct bpe *b, const char *spelling, size_t bytes)
{
	if (!b->vocab_slot) return -1;
	for (size_t i = spelling_hash(spelling, bytes) & b->vocab_mask;; i = (i + 1) & b->vocab_mask) {
		int32_t id = b->vocab_slot[i];
		if (id < 0) return -1;
		if (b->bytes[id] == bytes && !memcmp(b->token[id], spelling, bytes)) return id;
	}
}

/* ---- merges ---- */

static size_t pair_hash(int32_t left, int32_t right)
{
	uint64_t x = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15ull;
	return (size_t)(x ^ x >> 32);
}

/* Rank of a pair; -1: not merged. */
static int32_t merge_find(const struct bpe *b, int32_t left, int32_t right)
{
	if (!b->merge_slot) return -1;
	for (size_t i = pair_hash(left, right) & b->merge_mask;; i = (i + 1) & b->merge_mask) {
		int32_t m = b->merge_slot[i];
		if (m < 0 || (b->merge[m].left == left && b->merge[m].right == right)) return m;
	}
}

static void merge_insert(struct bpe *b, int32_t rank)
{
	size_t i = pair_hash(b->merge[rank].left, b->merge[rank].right) & b->merge_mask;
	while (b->merge_slot[i] >= 0) i = (i + 1) & b->merge_mask;
	b->merge_slot[i] = rank;
}

/* Doubles the room; the slots are twice the room. */
static int merges_grow(struct bpe *b)
{
	uint32_t room = b->merges_room ? 2 * b->merges_room : 512;
	struct bpe_merge *merge = realloc(b->merge, room * sizeof *merge);
	if (!merge) return -1;
	b->merge = merge;
	int32_t *slot = malloc(2 * (size_t)room * sizeof *slot);
	if (!slot) return -1;
	free(b->merge_slot);
	memset(slot, 0xFF, 2 * (size_t)room * sizeof *slot);
	b->merge_slot = slot;
	b->merge_mask = 2 * (size_t)room - 1;
	b->merges_room = room;
	for (uint32_t i = 0; i < b->merges; i++) merge_insert(b, (int32_t)i);
	return 0;
}

int bpe_add_merge(struct bpe *b, const char *left, size_t left_bytes, const char *right, size_t right_bytes, struct err *e)
{
	int rc = 0;
	struct bpe_merge m = { bpe_id(b, left, left_bytes), bpe_id(b, right, right_bytes), -1 };
	char *whole = malloc(left_bytes + right_bytes + 1);
	if (!whole) return out_of_memory(e);
	memcpy(whole, left, left_bytes);
	memcpy(whole + left_bytes, right, right_bytes);
	whole[left_bytes + right_bytes] = 0;
	m.id = bpe_id(b, whole, left_bytes + right_bytes);
	if (m.left < 0 || m.right < 0 || m.id < 0)
		rc = err_set(e, ERR_FORMAT, "merge %u (\"%.*s\" + \"%.*s\"): %s is not in the vocabulary", b->merges, (int)left_bytes, left,
			     (int)right_bytes, right, m.left < 0 ? "the left part" : m.right < 0 ? "the right part" : "the result");
	else if (merge_find(b, m.left, m.right) >= 0)
		rc = err_set(e, ERR_FORMAT, "merge %u: \"%s\" is merged twice", b->merges, whole);
	else if (b->merges == b->merges_room && merges_grow(b))
		rc = out_of_memory(e);
	free(whole);
	if (rc) return rc;
	b->merge[b->merges] = m;
	merge_insert(b, (int32_t)b->merges++);
	return 0;
}

int bpe_finish(struct bpe *b, struct err *e)
{
	for (int i = 0; i < 256; i++) {
		char byte = (char)i, s[3];
		size_t n = alphabet_spell(&byte, 1, s);
		b->byte_id[i] = bpe_id(b, s, n);
		char name[8];
		snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
		b->fallback_id[i] = bpe_id(b, name, 6);
	}
	if (!b->cache) b->cache = calloc(BPE_CACHE, sizeof *b->cache);
	return b->cache ? 0 : out_of_memory(e);
}

void bpe_free(struct bpe *b)
{
	free(b->token);
	free(b->bytes);
	free(b->vocab_slot);
	free(b->merge);
	free(b->merge_slot);
	free(b->cache);
	free(b->symbol);
	free(b->heap);
	free(b->spelling);
	arena_close(b->arena);
}

/* ---- one piece ---- */

/* Scratch for a piece of n bytes: at most n symbols, n-1 pairs at first and two more for each of n-1 merges. */
static int scratch(struct bpe *b, size_t n, struct err *e)
{
	if (n <= b->symbols_room) return 0;
	size_t room = n < 256 ? 256 : n + n / 2;
	struct bpe_symbol *symbol = realloc(b->symbol, room * sizeof *symbol);
	if (symbol) b->symbol = symbol;
	struct bpe_candidate *heap = realloc(b->heap, 3 * room * sizeof *heap);
	if (heap) b->heap = heap;
	char *spelling = realloc(b->spelling, 2 * room + 1);
	if (spelling) b->spelling = spelling;
	if (!symbol || !heap || !spelling) return out_of_memory(e);
	b->symbols_room = room;
	return 0;
}

static int before(struct bpe_candidate x, struct bpe_candidate y)
{
	return x.rank != y.rank ? x.rank < y.rank : x.at < y.at;
}

static void heap_push(struct bpe_candidate *h, size_t *n, struct bpe_candidate x)
{
	size_t i = (*n)++;
	for (; i && before(x, h[(i - 1) / 2]); i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
	h[i] = x;
}

static struct bpe_candidate heap_pop(struct bpe_candidate *h, size_t *n)
{
	struct bpe_candidate top = h[0], last = h[--*n];
	size_t i = 0;
	for (size_t c; (c = 2 * i + 1) < *n; i = c) {
		if (c + 1 < *n && before(h[c + 1], h[c])) c++;
		if (!before(h[c], last)) break;
		h[i] = h[c];
	}
	h[i] = last;
	return top;
}

static void push_pair(struct bpe *b, size_t *n, int32_t at)
{
	int32_t next = at < 0 ? -1 : b->symbol[at].next;
	if (next < 0) return;
	int32_t rank = merge_find(b, b->symbol[at].id, b->symbol[next].id);
	if (rank >= 0) heap_push(b->heap, n, (struct bpe_candidate){ (uint32_t)rank, at });
}

/* What a character that is no token becomes: its bytes, the unknown token, or an error. *unknown: an unknown token
 * that waits, since the reference puts it only before the next token of the vocabulary, and joins those that follow
 * each other when fuse_unk says so. */
static int put_unknown(struct bpe *b, const char *s, size_t len, int32_t *n, int *unknown, struct err *e)
{
	size_t known = 0;
	while (b->byte_fallback && known < len && b->fallback_id[(unsigned char)s[known]] >= 0) known++;
	if (known == len) {
		for (size_t i = 0; i < len; i++) b->symbol[(*n)++].id = b->fallback_id[(unsigned char)s[i]];
		return 0;
	}
	if (b->unk < 0) return err_set(e, ERR_RANGE, "the tokenizer's vocabulary has no token for \"%.*s\"", (int)len, s);
	if (*unknown && !b->fuse_unk) b->symbol[(*n)++].id = b->unk;
	*unknown = 1;
	return 0;
}

/* The symbols before merging; returns their number. */
static int64_t first_symbols(struct bpe *b, const char *piece, size_t bytes, struct err *e)
{
	int32_t n = 0, code;
	int unknown = 0;
	for (size_t i = 0, len; i < bytes; i += len) {
		char spelled[3];
		const char *s = piece + i;
		unsigned char byte = (unsigned char)*s;
		size_t spelled_len = len = b->byte_level ? 1 : utf8_next(s, bytes - i, &code);
		int32_t id = b->byte_level ? b->byte_id[byte] : bpe_id(b, s, len);
		if (id >= 0) {
			if (unknown) b->symbol[n++].id = b->unk;
			unknown = 0;
			b->symbol[n++].id = id;
			continue;
		}
		if (b->byte_level && b->unk < 0 && !b->byte_fallback)
			return err_set(e, ERR_RANGE, "the tokenizer's vocabulary has no token for the byte 0x%02X", byte);
		if (b->byte_level) spelled_len = alphabet_spell((const char *)&byte, 1, spelled), s = spelled;
		int rc = put_unknown(b, s, spelled_len, &n, &unknown, e);
		if (rc) return rc;
	}
	if (unknown) b->symbol[n++].id = b->unk;
	for (int32_t i = 0; i < n; i++) b->symbol[i].prev = i - 1, b->symbol[i].next = i + 1;
	b->symbol[n - 1].next = -1;
	return n;
}

static void merge_symbols(struct bpe *b, int64_t count)
{
	size_t n = 0;
	for (int32_t i = 0; i < count; i++) push_pair(b, &n, i);
	while (n) {
		struct bpe_candidate c = heap_pop(b->heap, &n);
		const struct bpe_merge *m = &b->merge[c.rank];
		struct bpe_symbol *s = &b->symbol[c.at];
		if (s->id != m->left || s->next < 0 || b->symbol[s->next].id != m->right) continue;
		struct bpe_symbol *gone = &b->symbol[s->next];
		s->id = m->id;
		s->next = gone->next;
		gone->id = -1;
		if (s->next >= 0) b->symbol[s->next].prev = c.at;
		push_pair(b, &n, s->prev);
		push_pair(b, &n, c.at);
	}
}

/* Encodes past the cache; the ids come to lie in the heap's memory, which is free by then. */
static int64_t encode_piece(struct bpe *b, const char *piece, size_t bytes, struct err *e)
{
	int rc = scratch(b, b->byte_level && b->byte_fallback ? 2 * bytes : bytes, e);
	if (rc) return rc;
	int32_t *ids = (int32_t *)b->heap;
	if (b->ignore_merges) {
		size_t n = bytes;
		if (b->byte_level) n = alphabet_spell(piece, bytes, b->spelling);
		ids[0] = bpe_id(b, b->byte_level ? b->spelling : piece, n);
		if (ids[0] >= 0) return 1;
	}
	int64_t count = first_symbols(b, piece, bytes, e);
	if (count < 0) return count;
	merge_symbols(b, count);
	int64_t n = 0;
	for (int32_t i = 0; i >= 0; i = b->symbol[i].next) ids[n++] = b->symbol[i].id;
	return n;
}

int64_t bpe_encode(struct bpe *b, const char *piece, size_t bytes, const int32_t **ids, struct err *e)
{
	if (!bytes) return 0;
	if (bytes > INT32_MAX / 4) return err_set(e, ERR_RANGE, "a piece of %zu bytes is too long for the tokenizer", bytes);
	struct bpe_cached *c = NULL;
	if (bytes <= BPE_CACHE_KEY) {
		uint64_t h = hash_u64(piece, bytes);
		c = &b->cache[h % BPE_CACHE];
		if (c->hash == h && c->bytes == bytes && !memcmp(c->key, piece, bytes)) {
			*ids = c->ids;
			return c->count;
		}
		c->hash = h;
	}
	int64_t n = encode_piece(b, piece, bytes, e);
	if (n < 0) {
		if (c) c->bytes = 0;
		return n;
	}
	*ids = (int32_t *)b->heap;
	if (c) {
		c->bytes = n <= BPE_CACHE_IDS ? (uint8_t)bytes : 0;
		if (c->bytes) {
			c->count = (uint8_t)n;
			memcpy(c->key, piece, bytes);
			memcpy(c->ids, *ids, (size_t)n * sizeof **ids);
		}
	}
	return n;
}
