/* Gradient of attention in the order of cpu/kernels/attention_backward.c: dQ is a
 * chain over a query's pages and keys in order, dK and dV of a page are chains
 * over the queries that see it, in packed order, the heads of a row side by side.
 *
 * Three steps. delta = dO·O for each query head. A list of the distinct pages of
 * each set of rows, made by one block a set: a page belongs to the first row that
 * sees it. Then a block has a part of one page of one key/value head and goes
 * through its queries, 16 at a time: together they make P and dS, then each
 * thread adds to its own elements. dQ is a warp for each query head.
 *   dV_j += Σ p_j dO,  dS = p (dO·V − dO·O) scale,  dQ += Σ_j dS_j K_j,  dK_j += dS_j Q. */
#include "core/tensor/cuda/kernels/attention.h"

enum { THREADS = 256, WARPS = THREADS / 32, TILE = 16, SPAN = 128, KEYS = 32, VALUES = HEAD_MAX / 32, SPLIT = 64 };

struct page_item {
	int32_t row, block; /* the first row that sees the page, and where in its sequence */
};

struct backward_launch {
	struct attention_args a; /* set_rows: not for the device */
	const int64_t *sets;     /* [sets+1] */
	int64_t *count;          /* [sets] items of each set */
	struct page_item *item;  /* a set's items from its first row · table_stride on */
	float *delta;            /* [T, H] */
};

/* Half a warp has a query head. */
KERNEL(backward_delta, struct backward_launch, THREADS)
{
	const struct attention_args *a = &arg.a;
	int64_t n = global_thread() / 16;
	int lane = threadIdx.x % 16, live = n < a->q.rows * a->heads;
	const float *o = (const float *)a->out.data + n * a->dv, *d = (const float *)a->dout.data + n * a->dv;
	float s = 0;
	for (int i = lane; live && i < a->dv; i += 16) s = d_fma(d[i], o[i], s);
	s = lanes_sum(s);
	if (live && lane == 0) arg.delta[n] = s;
}

/* 1 when row t of the set sees `page` at block b (whatever the block list says). */
DEVICE int sees(const struct attention_args *a, int64_t t, int b, int32_t page)
{
	return a->row_pos[t] >= b * KV_PAGE && a->tables[(int64_t)a->row_seq[t] * a->table_stride + b] == page;
}

/* 1 when no earlier row of the set sees row t's block b. */
DEVICE int is_first(const struct attention_args *a, int64_t first, int64_t t, int b)
{
	int32_t page = a->tables[(int64_t)a->row_seq[t] * a->table_stride + b];
	if (t > first && sees(a, t - 1, b, page)) return 0;
	for (int64_t e = first; e < t; e++)
		if (sees(a, e, b, page)) return 0;
	return 1;
}

KERNEL(backward_list, struct backward_launch, THREADS)
{
	SHARED int room[33];
	const struct attention_args *a = &arg.a;
	int64_t first = arg.sets[blockIdx.x], n = (arg.sets[blockIdx.x + 1] - first) * a->table_stride, count = 0;
	struct page_item *item = arg.item + first * a->table_stride;
	for (int64_t at = 0; at < n; at += THREADS) {
		int64_t i = at + threadIdx.x, t = first + i / a->table_stride;
		int b = (int)(i % a->table_stride), total, mine = i < n && b <= a->row_pos[t] / KV_PAGE && is_first(a, first, t, b);
		int rank = block_rank(mine, room, &total);
		if (mine) item[count + rank].row = (int32_t)t, item[count + rank].block = b;
		count += total;
	}
	if (threadIdx.x == 0) arg.count[blockIdx.x] = count;
}

/* Where sets begin comes as arguments, so that the host waits for no transfer. */
enum { SETS_AT_ONCE = 128 };
struct sets_launch {
	int64_t *to;
	int64_t n, row[SETS_AT_ONCE];
};

KERNEL(backward_sets, struct sets_launch, SETS_AT_ONCE)
{
	if ((int64_t)threadIdx.x < arg.n) arg.to[threadIdx.x] = arg.row[threadIdx.x];
}

static void send_sets(struct backend *b, int64_t *to, const int64_t *row, int64_t n)
{
	for (int64_t at = 0; at < n; at += SETS_AT_ONCE) {
		struct sets_launch l = {.to = to + at, .n = n - at < (int64_t)SETS_AT_ONCE ? n - at : (int64_t)SETS_AT_ONCE};
		memcpy(l.row, row + at, (size_t)l.n * sizeof *row);
		LAUNCH(b, backward_sets, 1, 1, 1, SETS_AT_ONCE, l);
	}
}

/* p and dS of one query head against one key of page and head `at`; the key is visible. */
struct slope {
	float p, ds;
};
DEVICE struct slope key_slope(const struct attention_args *a, const float *q, const float *dout, int64_t at, int key, float lse, float delta, const int half)
{
	float s = 0, dp = 0;
	int64_t k0 = at * a->dk * KV_PAGE + key, v0 = (at * KV_PAGE + key) * a->dv;
	for (int d = 0; d < a->dk; d++) s = d_fma(q[d], page_at(a->k_pages, k0 + d * KV_PAGE, half), s);
	for (int d = 0; d < a->dv; d++) dp = d_fma(dout[d], page_at(a->v_pages, v0 + d, half), dp);
	float p = d_exp(s * a->scale - lse);
	struct slope r = {p, p * (dp - delta) * a->scale};
	return r;
}

struct page_shared {
	int32_t row[THREADS]; /* rows of this chunk that see the page, in order */
	int room[33];
	float w[TILE][KV_PAGE]; /* p for the values' gradient, dS for the keys' */
};

/* What a block of backward_pages works on: `keys` of it is 1 for dK, 0 for dV. */
struct page_part {
	int64_t page, at; /* at: page · kv_heads + j */
	int j, block, keys, d0, per;
};

/* w of up to TILE query heads, numbers n0.. of the chunk's list. */
DEVICE void page_weights(const struct backward_launch *l, struct page_shared *s, const struct page_part *m, int n0, int n, const int half)
{
	const struct attention_args *a = &l->a;
	int key = (int)threadIdx.x % KV_PAGE;
	for (int r = (int)threadIdx.x / KV_PAGE; r < n; r += THREADS / KV_PAGE) {
		int64_t t = s->row[(n0 + r) / m->per], h = m->j * m->per + (n0 + r) % m->per, query = t * a->heads + h;
		struct slope x = {0, 0};
		if (key <= a->row_pos[t] - m->block * KV_PAGE)
			x = key_slope(a, (const float *)a->q.data + query * a->dk, (const float *)a->dout.data + query * a->dv, m->at, key, a->lse[query], l->delta[query],
				      half);
		s->w[r][key] = m->keys ? x.ds : x.p;
	}
}

/* This thread's elements: column d, 32 keys from key0. */
DEVICE float *page_element(const struct attention_args *a, const struct page_part *m, int d, int key)
{
	return m->keys ? a->dk_pages + (m->at * a->dk + d) * KV_PAGE + key : a->dv_pages + (m->at * KV_PAGE + key) * a->dv + d;
}

DEVICE void page_gradient(const struct backward_launch *l, struct page_shared *s, const struct page_part *m, int64_t first, int64_t last, const int half)
{
	const struct attention_args *a = &l->a;
	int size = m->keys ? a->dk : a->dv, d = m->d0 + (int)threadIdx.x % SPAN, key0 = (int)threadIdx.x / SPAN * KEYS;
	const float *x = m->keys ? (const float *)a->q.data : (const float *)a->dout.data;
	float acc[KEYS];
	UNROLL
	for (int k = 0; k < KEYS; k++) acc[k] = d < size ? *page_element(a, m, d, key0 + k) : 0;
	for (int64_t at = first; at < last; at += THREADS) {
		int64_t t = at + threadIdx.x;
		int total, mine = t < last && sees(a, t, m->block, (int32_t)m->page) && attention_visits(a, t, m->j, m->block);
		int rank = block_rank(mine, s->room, &total);
		if (mine) s->row[rank] = (int32_t)t;
		block_sync();
		for (int n0 = 0; n0 < total * m->per; n0 += TILE) {
			int n = total * m->per - n0 < TILE ? total * m->per - n0 : TILE;
			page_weights(l, s, m, n0, n, half);
			block_sync();
			for (int r = 0; d < size && r < n; r++) {
				int64_t query = (int64_t)s->row[(n0 + r) / m->per] * a->heads + m->j * m->per + (n0 + r) % m->per;
				float y = x[query * size + d];
				UNROLL
				for (int k = 0; k < KEYS; k++) acc[k] = d_fma(s->w[r][key0 + k], y, acc[k]);
			}
			block_sync();
		}
	}
	UNROLL
	for (int k = 0; k < KEYS; k++)
		if (d < size) *page_element(a, m, d, key0 + k) = acc[k];
}

/* Block (set · SPLIT + part, key/value head, span of dK or dV). */
DEVICE void backward_page_parts(const struct backward_launch *l, struct page_shared *s, const int half)
{
	const struct attention_args *a = &l->a;
	int64_t set = blockIdx.x / SPLIT, first = l->sets[set];
	int spans = (a->dk + SPAN - 1) / SPAN, z = (int)blockIdx.z;
	for (int64_t i = blockIdx.x % SPLIT; i < l->count[set]; i += SPLIT) {
		struct page_item item = l->item[first * a->table_stride + i];
		struct page_part m;
		m.page = a->tables[(int64_t)a->row_seq[item.row] * a->table_stride + item.block];
		m.j = (int)blockIdx.y;
		m.at = m.page * a->kv_heads + m.j;
		m.block = item.block;
		m.keys = z < spans;
		m.d0 = (z < spans ? z : z - spans) * SPAN;
		m.per = a->heads / a->kv_heads;
		page_gradient(l, s, &m, item.row, l->sets[set + 1], half);
		block_sync();
	}
}

KERNEL(backward_pages, struct backward_launch, THREADS)
{
	SHARED struct page_shared s;
	backward_page_parts(&arg, &s, 0);
}

KERNEL(backward_pages_bf16, struct backward_launch, THREADS)
{
	SHARED struct page_shared s;
	backward_page_parts(&arg, &s, 1);
}

struct query_shared {
	float ds[KV_PAGE];
};

DEVICE void backward_query(const struct backward_launch *l, struct query_shared *shared, const int half)
{
	const struct attention_args *a = &l->a;
	int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, h = (int)blockIdx.y, j = h / (a->heads / a->kv_heads);
	int64_t t = (int64_t)blockIdx.x * WARPS + warp, query = t * a->heads + h;
	if (t >= a->q.rows) return;
	const float *q = (const float *)a->q.data + query * a->dk, *dout = (const float *)a->dout.data + query * a->dv;
	float *dq = (float *)a->dq.data + query * a->dk, acc[VALUES], *ds = shared[warp].ds;
	int pos = a->row_pos[t];
	UNROLL
	for (int c = 0; c < VALUES; c++) acc[c] = c * 32 + lane < a->dk ? dq[c * 32 + lane] : 0;
	for (int b = 0; b <= pos / KV_PAGE; b++) {
		if (!attention_visits(a, t, j, b)) continue;
		int64_t at = (int64_t)a->tables[(int64_t)a->row_seq[t] * a->table_stride + b] * a->kv_heads + j;
		int valid = pos - b * KV_PAGE + 1 < KV_PAGE ? pos - b * KV_PAGE + 1 : KV_PAGE;
		int64_t k0 = at * a->dk * KV_PAGE;
		for (int key = lane; key < valid; key += 32) ds[key] = key_slope(a, q, dout, at, key, a->lse[query], l->delta[query], half).ds;
		warp_sync();
		UNROLL
		for (int c = 0; c < VALUES; c++) {
			int d = c * 32 + lane;
			if (c * 32 >= a->dk) break;
			for (int k = 0; d < a->dk && k < valid; k++) acc[c] = d_fma(ds[k], page_at(a->k_pages, k0 + d * KV_PAGE + k, half), acc[c]);
		}
		warp_sync();
	}
	UNROLL
	for (int c = 0; c < VALUES; c++)
		if (c * 32 + lane < a->dk) dq[c * 32 + lane] = acc[c];
}

KERNEL(backward_queries, struct backward_launch, THREADS)
{
	SHARED struct query_shared shared[WARPS];
	backward_query(&arg, shared, 0);
}

KERNEL(backward_queries_bf16, struct backward_launch, THREADS)
{
	SHARED struct query_shared shared[WARPS];
	backward_query(&arg, shared, 1);
}

CUDA_API size_t K(attention_scratch)(int64_t rows, int64_t sets, int64_t table_stride, int64_t heads)
{
	return (size_t)((2 * sets + 1) * 8 + rows * table_stride * 8 + rows * heads * 4);
}

CUDA_API void K(attention_backward)(struct backend *b, const struct attention_args *a)
{
	attention_check(a);
	CHECK(a->sets > 0 && a->set_rows[a->sets] == a->q.rows, "attention backward: %lld sets must cover %lld rows", (long long)a->sets,
	      (long long)a->q.rows);
	int64_t rows = a->q.rows, places = rows * a->table_stride;
	struct backward_launch l = {.a = *a};
	char *room = (char *)K(cuda_scratch)(b, K(attention_scratch)(rows, a->sets, a->table_stride, a->heads));
	send_sets(b, (int64_t *)room, a->set_rows, a->sets + 1);
	l.sets = (const int64_t *)room;
	l.count = (int64_t *)room + a->sets + 1;
	l.item = (struct page_item *)(l.count + a->sets);
	l.delta = (float *)(l.item + places);
	int spans = (a->dk + SPAN - 1) / SPAN + (a->dv + SPAN - 1) / SPAN;
	LAUNCH(b, backward_delta, cuda_blocks(rows * a->heads * 16, THREADS), 1, 1, THREADS, l);
	LAUNCH(b, backward_list, a->sets, 1, 1, THREADS, l);
	if (a->pages == DTYPE_BF16) {
		LAUNCH(b, backward_pages_bf16, a->sets * SPLIT, a->kv_heads, spans, THREADS, l);
		LAUNCH(b, backward_queries_bf16, cuda_blocks(rows, WARPS), a->heads, 1, THREADS, l);
	} else {
		LAUNCH(b, backward_pages, a->sets * SPLIT, a->kv_heads, spans, THREADS, l);
		LAUNCH(b, backward_queries, cuda_blocks(rows, WARPS), a->heads, 1, THREADS, l);
	}
}
