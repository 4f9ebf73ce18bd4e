/* The CPU backend: which build of the kernels to use, memory, and the cache of
 * packed weights.
 *
 * Packed panels [out/32][in][32] let 32 outputs advance together while each
 * keeps one accumulator and the reduction stays in order; the gradient by x has
 * panels [in/32][out][32] of the same matrix. A pack is made when a
 * matrix is first used after its weights changed and replaced in place, so after
 * the first step nothing is allocated. Weights that are still packed from a
 * released tensor are dropped with it. In bf16 nothing is packed (gemm_convert.c). */
#include "core/tensor/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

static size_t pack_slot(const struct cpu_pack *packs, size_t slots, uintptr_t key)
{
	size_t i = (key >> 6 ^ key) * 0x9E3779B97F4A7C15ull % slots;
	while (packs[i].key && packs[i].key != key) i = (i + 1) % slots;
	return i;
}

static void pack_grow(struct cpu_backend *b)
{
	size_t slots = b->pack_slots ? b->pack_slots * 2 : 64;
	struct cpu_pack *packs = calloc(slots, sizeof *packs);
	CHECK(packs, "out of memory for the table of packed weights");
	for (size_t i = 0; i < b->pack_slots; i++)
		if (b->packs[i].key) packs[pack_slot(packs, slots, b->packs[i].key)] = b->packs[i];
	free(b->packs);
	b->packs = packs;
	b->pack_slots = slots;
}

struct pack_job {
	const float *w;
	float *out;
	int64_t rows, cols, panels; /* of one matrix */
	int turned;
};

/* A panel is 32 rows of the matrix, or 32 columns when turned; what lies beyond the edge is 0. */
static void pack_task(void *arg, int task, int thread)
{
	(void)thread;
	const struct pack_job *j = arg;
	int64_t matrix = task / j->panels, first = task % j->panels * PANEL, k = j->turned ? j->rows : j->cols;
	const float *w = j->w + matrix * j->rows * j->cols;
	float *out = j->out + (int64_t)task * k * PANEL;
	int64_t n = (j->turned ? j->cols : j->rows) - first;
	if (n < PANEL) memset(out, 0, (size_t)(k * PANEL) * sizeof *out);
	else n = PANEL;
	if (j->turned) {
		for (int64_t r = 0; r < k; r++) memcpy(out + r * PANEL, w + r * j->cols + first, (size_t)n * sizeof *out);
		return;
	}
	for (int64_t c0 = 0; c0 < k; c0 += 16) {
		int64_t c1 = c0 + 16 < k ? c0 + 16 : k;
		for (int64_t r = 0; r < n; r++)
			for (int64_t c = c0; c < c1; c++) out[c * PANEL + r] = w[(first + r) * k + c];
	}
}

const float *cpu_packed(struct cpu_backend *b, struct tensor w, int64_t matrices, int turned)
{
	CHECK(w.dtype == DTYPE_F32, "weights of dtype %d to pack", (int)w.dtype);
	CHECK(matrices > 0 && w.rows % matrices == 0, "%lld rows are not %lld matrices", (long long)w.rows, (long long)matrices);
	if (b->pack_count * 2 >= b->pack_slots) pack_grow(b);
	uintptr_t key = (uintptr_t)w.data | (uintptr_t)(turned != 0);
	struct cpu_pack *p = &b->packs[pack_slot(b->packs, b->pack_slots, key)];
	int64_t rows = w.rows / matrices, panels = ((turned ? w.cols : rows) + PANEL - 1) / PANEL;
	size_t bytes = (size_t)(matrices * panels * PANEL * (turned ? rows : w.cols)) * sizeof(float);
	if (p->key && p->version == b->version && p->matrices == matrices && p->bytes == bytes) return p->data;
	if (!p->key) b->pack_count++;
	if (p->bytes != bytes) {
		free(p->data);
		backend_count(&b->base);
		p->data = aligned_alloc(64, (bytes + 63) / 64 * 64);
		CHECK(p->data, "out of memory: %zu bytes to pack a weight of %lld x %lld", bytes, (long long)w.rows, (long long)w.cols);
	}
	*p = (struct cpu_pack){key, matrices, b->version, bytes, p->data};
	struct pack_job job = {w.data, p->data, rows, w.cols, panels, turned};
	pool_run(b->pool, (int)(matrices * panels), pack_task, &job);
	return p->data;
}

void *cpu_scratch(struct cpu_backend *b, int thread, size_t bytes)
{
	if (b->scratch_bytes[thread] < bytes) {
		free(b->scratch[thread]);
		backend_count(&b->base);
		bytes = (bytes + 4095) / 4096 * 4096;
		b->scratch[thread] = aligned_alloc(64, bytes);
		CHECK(b->scratch[thread], "out of memory: %zu bytes of scratch", bytes);
		b->scratch_bytes[thread] = bytes;
	}
	return b->scratch[thread];
}

/* What each thread needs at most: the kernels say how much (experts, head, attention's backward), the sum's parts are the
 * first thread's. */
int cpu_reserve(struct backend *base, const struct ops_sizes *s)
{
	struct cpu_backend *b = cpu_of(base);
	int64_t most = CPU_EXPERT_ROWS * (s->width + s->expert_width), pages = s->backward ? KV_PAGE * (s->dk + s->dv) : 0, sort = s->truncates ? 2 * s->vocab : 0;
	if (s->expert_width == 0) most = 0;
	if (pages > most) most = pages;
	if (sort > most) most = sort;
	for (int t = 0; t < base->threads; t++) cpu_scratch(b, t, (size_t)most * sizeof(float));
	cpu_scratch(b, 0, (size_t)(s->parameters / CPU_SUM_BLOCK + 2) * sizeof(double));
	return 0;
}

void *cpu_alloc(struct backend *b, size_t bytes)
{
	size_t n = (bytes + 63) / 64 * 64;
	if (n < bytes) return NULL;
	backend_count(b);
	void *p = aligned_alloc(64, n ? n : 64);
	if (p) memset(p, 0, n);
	return p;
}

void cpu_release(struct backend *base, void *p)
{
	(void)base;
	free(p);
	cpu_weights_changed(base, NULL, 0);
}

void cpu_copy(struct backend *b, void *dst, const void *src, size_t bytes)
{
	(void)b;
	if (bytes) memmove(dst, src, bytes);
}

void cpu_zero(struct backend *b, void *dst, size_t bytes)
{
	(void)b;
	memset(dst, 0, bytes);
}

void cpu_wait(struct backend *b)
{
	(void)b;
}

void cpu_weights_changed(struct backend *base, const void *from, size_t bytes)
{
	struct cpu_backend *b = cpu_of(base);
	uintptr_t first = (uintptr_t)from;
	if (!from) b->version++;
	for (size_t i = 0; from && i < b->pack_slots; i++)
		if (b->packs[i].key >= first && b->packs[i].key - first < bytes) b->packs[i].version = 0;
}

static void cpu_close(struct backend *base)
{
	struct cpu_backend *b = cpu_of(base);
	for (size_t i = 0; i < b->pack_slots; i++) free(b->packs[i].data);
	for (int i = 0; b->scratch && i < base->threads; i++) free(b->scratch[i]);
	free(b->packs);
	free(b->scratch);
	free(b->scratch_bytes);
	pool_close(b->pool);
	free(b);
}

static const struct ops *cpu_choose(const char *isa, struct err *e)
{
	int any = !strcmp(isa, "auto");
	int has512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
		     __builtin_cpu_supports("avx512bw");
	int has2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	if (!strcmp(isa, "avx512") || (any && has512)) {
		if (has512) return &cpu_ops_avx512;
		err_set(e, ERR_RANGE, "run.isa: this processor has no AVX-512 (f, vl, dq, bw); use auto");
		return NULL;
	}
	if (!strcmp(isa, "avx2") || (any && has2)) {
		if (has2) return &cpu_ops_avx2;
		err_set(e, ERR_RANGE, "run.isa: this processor has no AVX2 with FMA; use auto");
		return NULL;
	}
	if (!strcmp(isa, "generic") || any) return &cpu_ops_generic;
	err_set(e, ERR_RANGE, "run.isa: %s is none of auto, avx512, avx2, generic", isa);
	return NULL;
}

int cpu_backend_open(struct backend **out, const struct backend_options *o, struct err *e)
{
	const struct ops *ops = cpu_choose(o->isa ? o->isa : "auto", e);
	if (!ops) return ERR_RANGE;
	if (o->threads < 0 || o->threads > 256) return err_set(e, ERR_RANGE, "run.threads: %d is not between 0 and 256", o->threads);
	struct cpu_backend *b = calloc(1, sizeof *b);
	CHECK(b, "out of memory for a backend");
	b->base.ops = ops;
	b->base.close = cpu_close;
	b->pool = pool_open(o->threads);
	b->base.threads = pool_threads(b->pool);
	b->version = 1;
	b->bf16 = o->precision && !strcmp(o->precision, "bf16");
	b->base.on_host = 1;
	b->base.weights = b->bf16 ? DTYPE_BF16 : DTYPE_F32;
	b->scratch = calloc((size_t)b->base.threads, sizeof *b->scratch);
	b->scratch_bytes = calloc((size_t)b->base.threads, sizeof *b->scratch_bytes);
	CHECK(b->scratch && b->scratch_bytes, "out of memory for a backend");
	pack_grow(b);
	*out = &b->base;
	return 0;
}
