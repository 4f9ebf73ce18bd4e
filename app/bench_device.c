/* What only a GPU is asked: one MoE layer at the shapes of published models, and
 * what exactness costs against the vendor's fastest algorithms; see bench_sections.h. */
#include "app/bench_sections.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof(a)[0]))

static const struct bench_column layer_columns[] = {
	{"width", "width", "%.0f"}, {"expert_width", "expert", "%.0f"}, {"experts", "experts", "%.0f"}, {"chosen", "chosen", "%.0f"}, {"shared", "shared", "%.0f"}, {"rows", "rows T", "%.0f"},
	{"forward_time", "forward, ms", "%s"}, {"forward_tflops", "TFLOP/s", "%.0f"}, {"backward_time", "backward, ms", "%s"},
	{"backward_tflops", "TFLOP/s", "%.0f"},
};

static int run_layer(struct bench_context *c, json_t *rows, struct err *e)
{
	(void)e;
	const int64_t t = c->quick ? 512 : 16384;
	const struct bench_layer layer[] = {{t, 2048, 64, 8, 1024, 0}, {t, 2048, 64, 6, 1408, 2 * 1408}};
	for (int i = 0; i < COUNT(layer); i++) {
		const struct bench_layer *m = &layer[i];
		struct bench_pair p;
		bench_layer(c->all, &c->peak, m, &p);
		json_t *row = json_pack("{s:i,s:i,s:i,s:i,s:i,s:I,s:f,s:f}", "width", m->width, "expert_width", m->expert_width, "experts", m->experts, "chosen", m->chosen,
					"shared", m->shared, "rows", (json_int_t)m->rows, "forward_tflops", p.forward.gflops * 1e-3, "backward_tflops",
					p.backward.gflops * 1e-3);
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

static const struct bench_column decode_columns[] = {
	{"sequences", "sequences", "%.0f"}, {"groups", "groups", "%.0f"}, {"position", "positions", "%s"}, {"step_ms", "step, ms", "%.2f"},
	{"tokens_per_second", "tokens/s", "%.0f"}, {"roofline", "% of the roofline", "%.0f"}, {"roofline_half", "of that with 2-byte numbers", "%.0f"},
	{"note", "", "%s"},
};

/* OLMoE-1B-7B. */
static const struct shape olmoe = {.vocab = 50304, .width = 2048, .layers = 16, .heads = 16, .kv_heads = 16, .head_dim = 128, .value_dim = 128, .experts = 64,
				   .chosen = 8, .expert_width = 1024, .router = ROUTER_SOFTMAX, .router_scale = 1, .qk_norm = QK_NORM_WHOLE, .rope_theta = 10000,
				   .norm_eps = 1e-5, .init_std = 0.02, .max_positions = 4096, .heads_kind = HEAD_LM};

static int run_decode(struct bench_context *c, json_t *rows, struct err *e)
{
	struct bench_decode size[] = {{.groups = 1, .completions = 10}, {.groups = 8, .completions = 8}, {.groups = 64, .completions = 10}};
	struct limits_machine machine = {c->peak.gflops_all * 1e9, c->peak.memory_gbs * 1e9};
	struct shape s = olmoe;
	struct model *m = NULL;
	char text[48];
	if (c->quick) s.layers = 1;
	int rc = bench_decode_open(&m, c->all, &s, e);
	if (rc < 0) return rc;
	for (int i = 0; i < (c->quick ? 1 : COUNT(size)) && rc == 0; i++) {
		struct bench_decode *d = &size[i];
		d->prompt = 352, d->steps = c->quick ? 8 : 64; /* on the average as after 128 tokens of 256 */
		rc = bench_decode(m, &machine, c->quick ? 2 : 5, d, e);
		int n = d->groups * d->completions;
		json_t *row = json_pack("{s:i,s:i}", "sequences", n, "groups", d->groups);
		json_array_append_new(rows, row);
		snprintf(text, sizeof text, "%d to %d", d->prompt, d->prompt + d->steps);
		json_object_set_new(row, "position", json_string(text));
		if (rc == ERR_MEMORY) {
			json_object_set_new(row, "note", json_string("not enough memory"));
			rc = 0;
			continue;
		}
		if (rc < 0) break;
		json_object_set_new(row, "step_ms", json_real(1e3 * d->step_seconds));
		json_object_set_new(row, "tokens_per_second", json_real(n / d->step_seconds));
		json_object_set_new(row, "roofline", json_real(100 * d->limit_seconds / d->step_seconds));
		json_object_set_new(row, "roofline_half", json_real(100 * d->limit_seconds_half / d->step_seconds));
	}
	model_close(m);
	return rc;
}

const struct bench_section bench_device[] = {
	{"layer", "A MoE layer at published shapes",
	 "The experts of OLMoE's and DeepSeek-V2-Lite's layers, the latter's two shared ones as one of twice the width; forward and backward, in run.precision.\n"
	 "On an H200: floor 200, aim 500 TFLOP/s.", layer_columns, COUNT(layer_columns), run_layer},
	{"decode", "Decoding in OLMoE's shape",
	 "Random weights and prompts, groups of one prompt, 64 steps. The roofline is the greater of bytes over bandwidth and FLOP over peak: each step reads\n"
	 "the dense weights, the experts that so many tokens touch when they choose independently, and the keys and values, a prompt's once a group. Floor 35 %,\n"
	 "aim 75 %.", decode_columns, COUNT(decode_columns), run_decode},
	{"price", "The price of exactness",
	 "y[m, n] = x[m, k]·wᵀ by the program's batch-invariant kernel and by the fastest of eight algorithms that cublasLt proposes. At most 10 %, aim 2 %.",
	 price_columns, COUNT(price_columns), run_price},
};
const int bench_device_count = COUNT(bench_device);
