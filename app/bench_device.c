/* What only a GPU is asked: one MoE layer at the shapes of published models, and
 * what exactness costs against the vendor's fastest algorithms; see bench_sections.h. */
#include "app/bench_sections.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof(a)[0]))

static const struct bench_column layer_columns[] = {
	{"width", "width", "%.0f"}, {"expert_width", "expert", "%.0f"}, {"experts", "experts", "%.0f"}, {"chosen", "chosen", "%.0f"}, {"rows", "rows T", "%.0f"},
	{"forward_time", "forward, ms", "%s"}, {"forward_tflops", "TFLOP/s", "%.0f"}, {"backward_time", "backward, ms", "%s"},
	{"backward_tflops", "TFLOP/s", "%.0f"},
};

static int run_layer(struct bench_context *c, json_t *rows, struct err *e)
{
	(void)e;
	const struct { int width, expert, experts, chosen; } shape[] = {{2048, 1024, 64, 8}, {2048, 1408, 64, 6}};
	for (int i = 0; i < COUNT(shape); i++) {
		struct bench_model m = {.rows = c->quick ? 512 : 16384, .width = shape[i].width, .expert_width = shape[i].expert, .experts = shape[i].experts,
					.chosen = shape[i].chosen};
		struct bench_pair p;
		bench_experts(c->all, &c->peak, &m, &p);
		json_t *row = json_pack("{s:i,s:i,s:i,s:i,s:I,s:f,s:f}", "width", m.width, "expert_width", m.expert_width, "experts", m.experts, "chosen", m.chosen,
					"rows", (json_int_t)m.rows, "forward_tflops", p.forward.gflops * 1e-3, "backward_tflops", p.backward.gflops * 1e-3);
		bench_put_time(row, "forward", &p.forward.time);
		bench_put_time(row, "backward", &p.backward.time);
		json_array_append_new(rows, row);
	}
	return 0;
}

static const struct bench_column price_columns[] = {
	{"m", "m", "%.0f"}, {"n", "n", "%.0f"}, {"k", "k", "%.0f"}, {"time", "ours, ms", "%s"}, {"library_ms", "library, ms", "%.3f"}, {"price", "price, %", "%.1f"},
};

static int run_price(struct bench_context *c, json_t *rows, struct err *e)
{
	(void)e;
	const int64_t sizes[] = {10, 64, 640, 4096, 16384};
	for (int i = 0; i < (c->quick ? 2 : COUNT(sizes)); i++) {
		struct bench_linear l;
		const int64_t m = sizes[i], n = 2048, k = 2048;
		bench_linear(c->all, &c->peak, m, n, k, &l);
		double library = backend_library_product(c->all, m, n, k);
		json_t *row = json_pack("{s:I,s:I,s:I}", "m", (json_int_t)m, "n", (json_int_t)n, "k", (json_int_t)k);
		bench_put_time(row, "", &l.forward.time);
		if (library > 0) {
			json_object_set_new(row, "library_ms", json_real(library * 1e3));
			json_object_set_new(row, "price", json_real(100 * (l.forward.time.median / library - 1)));
		}
		json_array_append_new(rows, row);
	}
	return 0;
}

const struct bench_section bench_device[] = {
	{"layer", "A MoE layer at published shapes",
	 "The routed experts of OLMoE's and DeepSeek-V2-Lite's layers (its two shared experts not counted), forward and backward, in run.precision. On an H200:\n"
	 "floor 200, aim 500 TFLOP/s.", layer_columns, COUNT(layer_columns), run_layer},
	{"price", "The price of exactness",
	 "y[m, n] = x[m, k]·wᵀ by the program's batch-invariant kernel and by cublasLt with the algorithm it takes for the fastest. At most 10 %, aim 2 %.",
	 price_columns, COUNT(price_columns), run_price},
};
const int bench_device_count = COUNT(bench_device);
