/* The vocabulary: log-probability and entropy of given tokens, their gradient,
 * and sampling; the distribution is described in cpu/kernels/head.c. All three
 * see a row of logits through the same functions.
 *
 * A block has a row. Exponentials are made by all threads, a piece of the row at
 * a time, and added by sixteen of them as the sixteen lanes of the CPU's kernel;
 * the sampler's cumulative sum is one chain in token order. A top-k or top-p set
 * is found by sorting the row: keys are (value descending, token ascending), all
 * different, so the order is one whatever the sort does. */
#include "core/tensor/cuda/kernels/product.h"

enum { THREADS = 256, PIECE = 1024 };

struct head_launch {
	struct head_args a;
	int64_t first, rows; /* of this chunk */
	float *logits;       /* [rows, V] */
	uint64_t *keys;      /* [blocks, room]; NULL: nothing is truncated */
	int64_t room;        /* V rounded up to a power of two */
	int backward;
	struct sample_args s;
};

/* What the block shares about its row. */
struct row_shared {
	float first[PIECE], second[PIECE];
	float lane[THREADS / 32];
	int at[THREADS / 32];
	float sum, weighted, max;
	int64_t keep, pick;
};

struct row_stats {
	float max, sum, lse, weighted;
};

DEVICE float block_max(float x, struct row_shared *r)
{
	x = lanes_max(x, 32);
	if (threadIdx.x % 32 == 0) r->lane[threadIdx.x / 32] = x;
	block_sync();
	x = r->lane[0];
	for (int w = 1; w < THREADS / 32; w++) x = d_max(x, r->lane[w]);
	block_sync();
	return x;
}

/* Sums of exp(x - max) and of exp(x - max)·(x - max) over the row. */
DEVICE struct row_stats row_reduce(const float *x, int64_t vocab, struct row_shared *r)
{
	struct row_stats s;
	float max = -INFINITY, total = 0, weighted = 0;
	for (int64_t i = threadIdx.x; i < vocab; i += THREADS) max = d_max(max, x[i]);
	s.max = block_max(max, r);
	for (int64_t at = 0; at < vocab; at += PIECE) {
		int n = vocab - at < PIECE ? (int)(vocab - at) : PIECE;
		for (int i = (int)threadIdx.x; i < n; i += THREADS) {
			float v = x[at + i] - s.max;
			r->first[i] = d_exp(v);
			r->second[i] = d_max(-1e30f, v); /* a removed token has x = -inf and e = 0: its product counts as 0 */
		}
		block_sync();
		for (int i = (int)threadIdx.x; threadIdx.x < 16 && i < n; i += 16) {
			total += r->first[i];
			weighted = d_fma(r->first[i], r->second[i], weighted);
		}
		block_sync();
	}
	total = lanes_sum(total);
	weighted = lanes_sum(weighted);
	if (threadIdx.x == 0) r->sum = total, r->weighted = weighted;
	block_sync();
	s.sum = r->sum;
	s.weighted = r->weighted;
	s.lse = s.max + d_log(s.sum);
	return s;
}

/* Ascending keys are values descending, then tokens ascending. */
DEVICE uint64_t rank_key(float x, int64_t token)
{
	uint32_t bits = (uint32_t)d_bits_of(x == 0 ? 0.0f : x);
	uint32_t rising = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
	return (uint64_t)~rising << 32 | (uint32_t)token;
}

/* Sorts keys[n], n a power of two (Batcher's bitonic network). */
DEVICE void block_sort(uint64_t *keys, int64_t n)
{
	for (int64_t width = 2; width <= n; width *= 2)
		for (int64_t apart = width / 2; apart > 0; apart /= 2) {
			block_sync();
			for (int64_t i = threadIdx.x; i < n / 2; i += THREADS) {
				int64_t p = i / apart * apart * 2 + i % apart, q = p + apart;
				uint64_t x = keys[p], y = keys[q];
				if ((x > y) == ((p & width) == 0)) keys[p] = y, keys[q] = x;
			}
		}
	block_sync();
}

/* How many of the `limit` best tokens are kept: the fewest that reach top_p of their sum. */
DEVICE int64_t row_nucleus(const float *x, const uint64_t *keys, int64_t limit, float top_p, struct row_shared *r)
{
	float best = x[(uint32_t)keys[0]], sum = 0, seen = 0;
	int64_t keep = 0;
	for (int pass = 0; pass < 2; pass++)
		for (int64_t at = 0; at < limit; at += PIECE) {
			int n = limit - at < PIECE ? (int)(limit - at) : PIECE;
			block_sync();
			for (int i = (int)threadIdx.x; i < n; i += THREADS) r->first[i] = d_exp(x[(uint32_t)keys[at + i]] - best);
			block_sync();
			if (threadIdx.x) continue;
			for (int i = 0; pass == 0 && i < n; i++) sum += r->first[i];
			for (int i = 0; pass == 1 && i < n && seen < top_p * sum; i++) seen += r->first[i], keep++;
		}
	if (threadIdx.x == 0) r->keep = keep;
	block_sync();
	return r->keep;
}

/* x := x / temperature, and -inf outside the top-k / top-p set. */
DEVICE void row_shape(float *x, int64_t vocab, float temperature, int top_k, float top_p, uint64_t *keys, int64_t room, struct row_shared *r)
{
	for (int64_t i = threadIdx.x; i < vocab; i += THREADS) x[i] = x[i] / temperature;
	block_sync();
	if ((top_k <= 0 || top_k >= vocab) && top_p >= 1.0f) return;
	for (int64_t i = threadIdx.x; i < room; i += THREADS) keys[i] = i < vocab ? rank_key(x[i], i) : ~(uint64_t)0;
	block_sort(keys, room);
	int64_t keep = top_k > 0 && top_k < vocab ? top_k : vocab;
	if (top_p < 1.0f) keep = row_nucleus(x, keys, keep, top_p, r);
	block_sync();
	for (int64_t i = keep + threadIdx.x; i < vocab; i += THREADS) x[(uint32_t)keys[i]] = -INFINITY;
	block_sync();
}

/* d logp / dx_i = [i = target] − p_i;  dH / dx_i = −p_i (log p_i + H) */
DEVICE void row_gradient(const struct head_args *a, int64_t t, float *x, struct row_stats s, float entropy)
{
	float dl = a->dlogprob[t], dh = a->dentropy ? a->dentropy[t] : 0.0f, xt = x[a->target[t]], inverse = 1.0f / a->temperature;
	block_sync();
	for (int64_t c = threadIdx.x; c < a->w.rows; c += THREADS) {
		float lp = d_max(-1e30f, x[c] - s.lse), p = d_exp(lp);
		float g = d_fma(-dh, p * (lp + entropy), -dl * p) * inverse;
		x[c] = c == a->target[t] && xt > -INFINITY ? g + dl / a->temperature : g;
	}
}

DEVICE void head_row(const struct head_launch *h, int64_t i, struct row_shared *r)
{
	const struct head_args *a = &h->a;
	int64_t t = h->first + i, vocab = a->w.rows;
	float *x = h->logits + i * vocab;
	if (a->target[t] < 0) {
		for (int64_t c = threadIdx.x; h->backward && c < vocab; c += THREADS) x[c] = 0;
		if (!h->backward && threadIdx.x == 0) a->logprob[t] = a->entropy[t] = 0;
		return;
	}
	DEVICE_CHECK(a->target[t] < vocab);
	if (threadIdx.x == 0 && a->forbidden && a->forbidden[t] >= 0) x[a->forbidden[t]] = -INFINITY;
	block_sync();
	row_shape(x, vocab, a->temperature, a->top_k, a->top_p, h->keys + (int64_t)blockIdx.x * h->room, h->room, r);
	struct row_stats s = row_reduce(x, vocab, r);
	float entropy = d_log(s.sum) - s.weighted / s.sum;
	if (h->backward) {
		row_gradient(a, t, x, s, entropy);
	} else if (threadIdx.x == 0) {
		a->logprob[t] = x[a->target[t]] - s.lse;
		a->entropy[t] = entropy;
	}
}

KERNEL(head_rows, struct head_launch, THREADS)
{
	SHARED struct row_shared r;
	for (int64_t i = blockIdx.x; i < arg.rows; i += gridDim.x) {
		head_row(&arg, i, &r);
		block_sync();
	}
}

static int64_t keys_room(int64_t vocab)
{
	int64_t room = 2;
	while (room < vocab) room *= 2;
	return room;
}

/* Blocks when rows are truncated: each needs keys, so there are not more than run at once. */
static int64_t sorting_blocks(const struct cuda_backend *b, int64_t rows)
{
	int64_t most = (int64_t)b->processors * 4;
	return rows < most ? rows : most;
}

CUDA_API size_t K(head_scratch)(struct backend *b, int64_t rows, int64_t vocab)
{
	return (size_t)(sorting_blocks(cuda_of(b), rows) * keys_room(vocab)) * sizeof(uint64_t);
}

/* Blocks for `rows` rows and, when rows are truncated, their keys. */
static int64_t head_blocks(struct backend *b, struct head_launch *l, int64_t rows, int64_t vocab, int truncates)
{
	l->room = keys_room(vocab);
	if (!truncates) return rows;
	l->keys = (uint64_t *)K(cuda_scratch)(b, K(head_scratch)(b, rows, vocab));
	return sorting_blocks(cuda_of(b), rows);
}

static void head_chunks(struct backend *b, const struct head_args *a, int backward)
{
	int64_t vocab = a->w.rows, width = a->w.cols;
	const void *w = a->w.data;
	int half = a->w.dtype == DTYPE_BF16;
	CHECK(a->x.cols == width && a->work_rows > 0 && a->temperature > 0, "head: x of %lld, w of %lld, %lld rows of work", (long long)a->x.cols,
	      (long long)width, (long long)a->work_rows);
	for (int64_t first = 0; first < a->x.rows; first += a->work_rows) {
		struct head_launch l = {.a = *a, .first = first, .rows = a->x.rows - first < a->work_rows ? a->x.rows - first : a->work_rows,
					.logits = a->work, .backward = backward};
		const float *x = (const float *)a->x.data + first * width;
		struct product p = {.m = l.rows, .n = vocab, .k = width, .a = x, .a_row = width, .b = w, .b_half = half, .b_row = width, .b_turned = 1, .c = a->work,
				    .c_row = vocab};
		K(product_run)(b, &p);
		int64_t blocks = head_blocks(b, &l, l.rows, vocab, a->top_k > 0 || a->top_p < 1.0f);
		LAUNCH(b, head_rows, blocks, 1, 1, THREADS, l);
		if (backward && a->dx.data) {
			struct product dx = {.m = l.rows, .n = width, .k = vocab, .a = a->work, .a_row = vocab, .b = w, .b_half = half, .b_row = width,
					     .c = (float *)a->dx.data + first * width, .c_row = width, .add = 1};
			K(product_run)(b, &dx);
		}
		if (backward && a->dw.data) {
			struct product dw = {.m = vocab, .n = width, .k = l.rows, .a = a->work, .a_row = vocab, .a_turned = 1, .b = x, .b_row = width,
					     .c = (float *)a->dw.data, .c_row = width, .add = 1};
			K(product_run)(b, &dw);
		}
	}
}

CUDA_API void K(head_forward)(struct backend *b, const struct head_args *a)
{
	head_chunks(b, a, 0);
}

CUDA_API void K(head_backward)(struct backend *b, const struct head_args *a)
{
	head_chunks(b, a, 1);
}

/* The first token of the greatest value. */
DEVICE int64_t row_greatest(const float *x, int64_t vocab, float max, struct row_shared *r)
{
	int at = (int)vocab;
	for (int64_t i = threadIdx.x; i < vocab && at == (int)vocab; i += THREADS)
		if (x[i] == max) at = (int)i;
	for (int s = 16; s > 0; s /= 2) {
		int other = d_bits_of(shuffle_xor(d_float_of(at), s));
		at = other < at ? other : at;
	}
	if (threadIdx.x % 32 == 0) r->at[threadIdx.x / 32] = at;
	block_sync();
	for (int w = 0; w < THREADS / 32; w++) at = r->at[w] < at ? r->at[w] : at;
	block_sync();
	return at < vocab ? at : 0; /* logits that are not numbers have no greatest */
}

/* One thread goes on adding first[0..n), the piece of the row from `at` on, until the sum passes the goal. Eight terms at a time:
 * none is negative, so that the sum passes within them when it is beyond at their end. Returns the sum. */
DEVICE float piece_draw(struct row_shared *r, int64_t at, int n, float seen, float goal)
{
	enum { STEP = 8 };
	int i = 0, last = -1;
	for (; i + STEP <= n; i += STEP) {
		float sum = seen;
		int positive = last;
		UNROLL
		for (int k = 0; k < STEP; k++) {
			sum += r->first[i + k];
			positive = r->first[i + k] > 0 ? i + k : positive;
		}
		if (sum > goal) break;
		seen = sum;
		last = positive;
	}
	for (; i < n; i++) {
		if (r->first[i] > 0) last = i;
		seen += r->first[i];
		if (seen > goal) {
			r->keep = 1;
			break;
		}
	}
	if (last >= 0) r->pick = at + last;
	return seen;
}

/* Inverse of the cumulative sum, in token order; the last kept token when rounding leaves a gap. */
DEVICE int64_t row_draw(const float *x, int64_t vocab, struct row_stats s, float uniform, struct row_shared *r)
{
	float goal = uniform * s.sum, seen = 0;
	if (threadIdx.x == 0) r->pick = r->keep = 0; /* keep: 1 when the token is found */
	for (int64_t at = 0; at < vocab; at += PIECE) {
		int n = vocab - at < PIECE ? (int)(vocab - at) : PIECE;
		block_sync();
		if (r->keep) break;
		for (int i = (int)threadIdx.x; i < n; i += THREADS) r->first[i] = d_exp(x[at + i] - s.max);
		block_sync();
		if (threadIdx.x == 0) seen = piece_draw(r, at, n, seen, goal);
	}
	block_sync();
	return r->pick;
}

KERNEL(sample_rows, struct head_launch, THREADS)
{
	SHARED struct row_shared r;
	const struct sample_args *a = &arg.s;
	int64_t vocab = a->logits.cols;
	int greedy = a->temperature <= 0;
	for (int64_t i = blockIdx.x; i < a->logits.rows; i += gridDim.x) {
		float *x = (float *)a->logits.data + i * vocab;
		if (threadIdx.x == 0 && a->forbidden && a->forbidden[i] >= 0) x[a->forbidden[i]] = -INFINITY;
		block_sync();
		row_shape(x, vocab, greedy ? 1.0f : a->temperature, greedy ? 0 : a->top_k, greedy ? 1.0f : a->top_p, arg.keys + (int64_t)blockIdx.x * arg.room,
			  arg.room, &r);
		struct row_stats s = row_reduce(x, vocab, &r);
		int64_t pick = greedy ? row_greatest(x, vocab, s.max, &r) : row_draw(x, vocab, s, a->uniform[i], &r);
		if (threadIdx.x == 0) {
			a->token[i] = (int32_t)pick;
			a->logprob[i] = x[pick] - s.lse;
		}
		block_sync();
	}
}

CUDA_API void K(sample)(struct backend *b, const struct sample_args *a)
{
	struct head_launch l = {.s = *a};
	int64_t blocks = head_blocks(b, &l, a->logits.rows, a->logits.cols, a->temperature > 0 && (a->top_k > 0 || a->top_p < 1.0f));
	LAUNCH(b, sample_rows, blocks, 1, 1, THREADS, l);
}
