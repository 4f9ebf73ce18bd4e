/* oneDNN's packed matmul, the bar for our own kernel: measured beside it, never
 * used. Weights are packed once in the layout that the library prefers for a large
 * m, as its users do. Compiled to nothing when the library was not found. */
#include "app/bench.h"

#ifdef TENFOLD_ONEDNN
#include <dnnl.h>
#include <stdlib.h>

/* The library's own threads are OpenMP's; libgomp comes with it. */
extern void omp_set_num_threads(int) __attribute__((weak));

struct bar {
	dnnl_engine_t engine;
	dnnl_stream_t stream;
	dnnl_memory_desc_t x, y, any, plain;
	dnnl_primitive_desc_t made, large;
	dnnl_memory_t mx, my, mw, packed;
	dnnl_primitive_t matmul, reorder;
};

static int bar_describe(struct bar *b, int64_t m, int64_t n, int64_t k, dnnl_primitive_desc_t *out)
{
	dnnl_matmul_desc_t d;
	dnnl_dims_t dx = {m, k}, dw = {k, n}, dy = {m, n};
	if (dnnl_memory_desc_init_by_tag(&b->x, 2, dx, dnnl_f32, dnnl_ab) || dnnl_memory_desc_init_by_tag(&b->y, 2, dy, dnnl_f32, dnnl_ab) ||
	    dnnl_memory_desc_init_by_tag(&b->any, 2, dw, dnnl_f32, dnnl_format_tag_any) || dnnl_memory_desc_init_by_tag(&b->plain, 2, dw, dnnl_f32, dnnl_ba))
		return -1;
	if (dnnl_matmul_desc_init(&d, &b->x, &b->any, NULL, &b->y)) return -1;
	return dnnl_primitive_desc_create(out, &d, NULL, b->engine, NULL) ? -1 : 0;
}

static int bar_make(struct bar *b, int64_t m, int64_t n, int64_t k)
{
	if (dnnl_engine_create(&b->engine, dnnl_cpu, 0) || dnnl_stream_create(&b->stream, b->engine, dnnl_stream_default_flags)) return -1;
	if (bar_describe(b, 512, n, k, &b->large) || bar_describe(b, m, n, k, &b->made)) return -1;
	const dnnl_memory_desc_t *w = dnnl_primitive_desc_query_md(b->made, dnnl_query_weights_md, 0);
	dnnl_primitive_desc_t reorder;
	if (dnnl_memory_create(&b->mx, &b->x, b->engine, DNNL_MEMORY_ALLOCATE) || dnnl_memory_create(&b->my, &b->y, b->engine, DNNL_MEMORY_ALLOCATE) ||
	    dnnl_memory_create(&b->mw, &b->plain, b->engine, DNNL_MEMORY_ALLOCATE) || dnnl_memory_create(&b->packed, w, b->engine, DNNL_MEMORY_ALLOCATE))
		return -1;
	if (dnnl_reorder_primitive_desc_create(&reorder, &b->plain, b->engine, w, b->engine, NULL)) return -1;
	int rc = dnnl_primitive_create(&b->reorder, reorder) || dnnl_primitive_create(&b->matmul, b->made) ? -1 : 0;
	dnnl_primitive_desc_destroy(reorder);
	return rc;
}

static void bar_fill(dnnl_memory_t m, int64_t n)
{
	void *p;
	if (dnnl_memory_get_data_handle(m, &p)) return;
	for (int64_t i = 0; i < n; i++) ((float *)p)[i] = (float)(i % 7) * 0.25f - 0.5f;
}

struct bar_run {
	struct bar *bar;
	dnnl_exec_arg_t args[3];
	int inner, failed;
};

static void bar_call(void *arg)
{
	struct bar_run *r = arg;
	for (int i = 0; i < r->inner; i++)
		if (dnnl_primitive_execute(r->bar->matmul, r->bar->stream, 3, r->args) || dnnl_stream_wait(r->bar->stream)) r->failed = 1;
}

static int bar_time(struct bar *b, int64_t m, int64_t n, int64_t k, double seconds, struct bench_time *out)
{
	bar_fill(b->mx, m * k);
	bar_fill(b->mw, n * k);
	dnnl_exec_arg_t pack[2] = {{DNNL_ARG_FROM, b->mw}, {DNNL_ARG_TO, b->packed}};
	struct bar_run r = {b, {{DNNL_ARG_SRC, b->mx}, {DNNL_ARG_WEIGHTS, b->packed}, {DNNL_ARG_DST, b->my}}, 1 + (int)(2e6 / (double)(m * n * k)), 0};
	if (dnnl_primitive_execute(b->reorder, b->stream, 2, pack) || dnnl_stream_wait(b->stream)) return 0;
	bench_repeat(seconds, bar_call, &r, out);
	out->median /= r.inner, out->least /= r.inner, out->greatest /= r.inner;
	return !r.failed;
}

int bench_onednn(int64_t m, int64_t n, int64_t k, int threads, double seconds, struct bench_time *out)
{
	struct bar b = {0};
	if (omp_set_num_threads) omp_set_num_threads(threads);
	int done = bar_make(&b, m, n, k) == 0 && bar_time(&b, m, n, k, seconds, out);
	dnnl_primitive_destroy(b.matmul);
	dnnl_primitive_destroy(b.reorder);
	dnnl_primitive_desc_destroy(b.made);
	dnnl_primitive_desc_destroy(b.large);
	dnnl_memory_destroy(b.mx);
	dnnl_memory_destroy(b.my);
	dnnl_memory_destroy(b.mw);
	dnnl_memory_destroy(b.packed);
	dnnl_stream_destroy(b.stream);
	dnnl_engine_destroy(b.engine);
	return done;
}
#else
int bench_onednn(int64_t m, int64_t n, int64_t k, int threads, double seconds, struct bench_time *out)
{
	(void)m, (void)n, (void)k, (void)threads, (void)seconds, (void)out;
	return 0;
}
#endif
