/* Operations at the shapes of a configuration; see bench_sections.h. */
#include "app/bench_sections.h"

#include <string.h>

#define COUNT(a) ((int)(sizeof(a) / sizeof(a)[0]))

static const struct bench_column peak_columns[] = {
	{"threads", "threads", "%.0f"}, {"gflops", "f32 multiply-add, GFLOP/s", "%.0f"}, {"read_gbs", "memory read, GB/s", "%.1f"},
	{"update_gbs", "memory updated (4 read, 3 written), GB/s", "%.1f"},
};

static int run_peak(struct bench_context *c, json_t *rows, struct err *e)
{
	(void)e;
	const struct bench_peak *p = &c->peak;
	json_array_append_new(rows, json_pack("{s:i,s:f,s:f,s:f}", "threads", 1, "gflops", p->gflops_one, "read_gbs", p->read_one, "update_gbs", p->mixed_one));
	if (p->threads > 1)
		json_array_append_new(rows, json_pack("{s:i,s:f,s:f,s:f}", "threads", p->threads, "gflops", p->gflops_all, "read_gbs", p->read_all, "update_gbs",
						      p->mixed_all));
	return 0;
}

static const struct bench_column linear_columns[] = {
	{"matrix", "matrix", "%s"}, {"threads", "threads", "%.0f"}, {"m", "m", "%.0f"}, {"n", "n", "%.0f"}, {"k", "k", "%.0f"},
	{"gflops", "GFLOP/s", "%.1f"}, {"forward", "forward, % of peak", "%.0f"}, {"forward_best", "best", "%.0f"}, {"target", "aim", "%.0f"},
	{"dx", "dx, % of peak", "%.0f"}, {"dw", "dw, % of peak", "%.0f"}, {"onednn", "oneDNN, % of peak", "%.0f"}, {"onednn_best", "best", "%.0f"},
};

static int linear_row(struct bench_context *c, json_t *rows, struct backend *b, const char *name, int64_t m, int64_t n, int64_t k)
{
	struct bench_linear r;
	bench_linear(b, &c->peak, m, n, k, &r);
	json_t *row = json_pack("{s:s,s:i,s:I,s:I,s:I,s:f,s:f,s:f,s:i,s:f,s:f}", "matrix", name, "threads", backend_threads(b), "m", (json_int_t)m, "n", (json_int_t)n,
				"k", (json_int_t)k, "gflops", r.forward.gflops, "forward", 100 * r.forward.share, "forward_best", 100 * r.forward.best, "target",
				m >= 40 ? 90 : 80, "dx", 100 * r.dx.share, "dw", 100 * r.dw.share);
	if (r.onednn.gflops > 0) {
		json_object_set_new(row, "onednn", json_real(100 * r.onednn.share));
		json_object_set_new(row, "onednn_best", json_real(100 * r.onednn.best));
	}
	bench_put_time(row, "forward", &r.forward.time);
	return json_array_append_new(rows, row);
}

static int run_linear(struct bench_context *c, json_t *rows, struct err *e)
{
	(void)e;
	const struct config_model *m = &c->config->model;
	const int64_t heads = m->heads * m->head_dim, width = m->width, vocab = c->config->tokenizer.vocab_size;
	const struct { const char *name; int64_t n, k; } shape[] = {{"attention", heads, width}, {"expert up", m->expert_width, width},
								   {"expert down", width, m->expert_width}, {"vocabulary", vocab, width}};
	const int64_t sizes[] = {10, 40, 640};
	for (int i = 0; i < COUNT(shape); i++) {
		if (shape[i].n < 1 || shape[i].k < 1) continue;
		for (int j = c->quick ? 1 : 0; j < (c->quick ? 2 : COUNT(sizes)); j++) linear_row(c, rows, c->one, shape[i].name, sizes[j], shape[i].n, shape[i].k);
		if (c->all != c->one && !c->quick) linear_row(c, rows, c->all, shape[i].name, 2560, shape[i].n, shape[i].k);
	}
	return 0;
}

static struct bench_model model_of(const struct bench_context *c, int64_t rows)
{
	const struct config_model *m = &c->config->model;
	return (struct bench_model){.rows = rows, .width = (int)m->width, .heads = (int)m->heads, .kv_heads = (int)m->kv_heads, .head_dim = (int)m->head_dim,
				    .experts = (int)m->experts, .chosen = (int)m->experts_per_token, .expert_width = (int)m->expert_width,
				    .vocab = (int)c->config->tokenizer.vocab_size, .prompt = 40, .completions = (int)c->config->rollout.group_size,
				    .response = (int)c->config->rollout.max_new_tokens};
}

static const struct bench_column pair_columns[] = {
	{"rows", "rows T", "%.0f"}, {"threads", "threads", "%.0f"}, {"forward_time", "forward, ms", "%s"}, {"forward", "% of peak", "%.0f"},
	{"backward_time", "backward, ms", "%s"}, {"backward", "% of peak", "%.0f"},
};

static void pair_row(json_t *rows, struct backend *b, int64_t t, const struct bench_pair *p)
{
	json_t *row = json_pack("{s:I,s:i,s:f,s:f}", "rows", (json_int_t)t, "threads", backend_threads(b), "forward", 100 * p->forward.share, "backward",
				100 * p->backward.share);
	bench_put_time(row, "forward", &p->forward.time);
	bench_put_time(row, "backward", &p->backward.time);
	json_array_append_new(rows, row);
}

static int run_experts(struct bench_context *c, json_t *rows, struct err *e)
{
	(void)e;
	const int64_t sizes[] = {10, 320, 3200};
	if (c->config->model.experts < 1) return 0;
	for (int i = c->quick ? 1 : 0; i < (c->quick ? 2 : COUNT(sizes)); i++)
		for (int all = 0; all <= (c->all != c->one && !c->quick); all++) {
			struct bench_model m = model_of(c, sizes[i]);
			struct bench_pair p;
			bench_experts(all ? c->all : c->one, &c->peak, &m, &p);
			pair_row(rows, all ? c->all : c->one, sizes[i], &p);
		}
	return 0;
}

static int run_attention(struct bench_context *c, json_t *rows, struct err *e)
{
	(void)e;
	for (int all = 0; all <= (c->all != c->one && !c->quick); all++) {
		struct bench_model m = model_of(c, 0);
		struct bench_pair p;
		m.rows = (c->quick ? 1 : 8) * (m.prompt + (int64_t)m.completions * m.response);
		bench_attention(all ? c->all : c->one, &c->peak, &m, &p);
		pair_row(rows, all ? c->all : c->one, m.rows, &p);
	}
	return 0;
}

static const struct bench_column small_columns[] = {
	{"operation", "operation", "%s"}, {"rows", "rows", "%.0f"}, {"us", "µs", "%.1f"},
};

static int run_small(struct bench_context *c, json_t *rows, struct err *e)
{
	(void)e;
	struct bench_model m = model_of(c, c->quick ? 64 : 1024);
	struct bench_small s;
	if (m.experts < 1) return 0;
	bench_small(c->all, &c->peak, &m, &s);
	const struct { const char *name; double us; } list[] = {
		{"norm", s.norm}, {"norm, backward", s.norm_backward}, {"rotary positions", s.rope}, {"router", s.router}, {"router, backward", s.router_backward},
		{"keys and values written", s.kv_write}, {"their gradients read", s.kv_read_add}, {"embedding", s.embedding},
		{"embedding, backward", s.embedding_backward}, {"log-probabilities", s.head}, {"log-probabilities, backward", s.head_backward}, {"sampling", s.sample}};
	for (int i = 0; i < COUNT(list); i++)
		json_array_append_new(rows, json_pack("{s:s,s:I,s:f}", "operation", list[i].name, "rows", (json_int_t)s.rows, "us", list[i].us));
	return 0;
}

static const struct bench_column adamw_columns[] = {
	{"parameters", "parameters", "%.0f"}, {"threads", "threads", "%.0f"}, {"time", "time, ms", "%s"}, {"gparams", "10⁹ parameters/s", "%.2f"},
	{"share", "% of bandwidth", "%.0f"},
};

static int run_adamw(struct bench_context *c, json_t *rows, struct err *e)
{
	(void)e;
	for (int all = 0; all <= (c->all != c->one); all++) {
		struct backend *b = all ? c->all : c->one;
		struct bench_adamw a;
		bench_adamw(b, &c->peak, c->quick ? 1 << 20 : 1 << 24, &a);
		json_t *row = json_pack("{s:I,s:i,s:f,s:f}", "parameters", (json_int_t)a.n, "threads", backend_threads(b), "gparams", a.gparams, "share", 100 * a.share);
		bench_put_time(row, "", &a.time);
		json_array_append_new(rows, row);
	}
	return 0;
}

const struct bench_section bench_operations[] = {
	{"peak", "The machine's limits",
	 "Arithmetic: independent chains of fused multiply-adds in registers. Memory: 320 MiB streamed, read only (1, 4 and 8 streams a thread) and in the\n"
	 "optimiser's pattern of four arrays read and three written. The best of many repetitions counts. F is the arithmetic of all threads, BW the greater\n"
	 "of the two bandwidths of all threads; every share below is a share of these.", peak_columns, COUNT(peak_columns), run_peak},
	{"linear", "Matrix products",
	 "y[m, n] = x[m, k]·wᵀ at the model's shapes; dx and dw are the two products of the backward pass. Weights are packed once, as between two updates.\n"
	 "Aim: 90 % of peak at m ≥ 40 and 80 % at m = 10, and not slower than oneDNN's packed matmul, which is measured beside it when it is installed (it is\n"
	 "not used anywhere).", linear_columns, COUNT(linear_columns), run_linear},
	{"experts", "Experts",
	 "Routing order, gather, the three products, SwiGLU and the weighted sum of one layer's routed experts, T rows with the configured number of experts\n"
	 "each. Only the products are counted as work.", pair_columns, COUNT(pair_columns), run_experts},
	{"attention", "Attention",
	 "Groups of one prompt of 40 tokens and its completions, keys in shared pages. Only visible keys are counted as work.", pair_columns,
	 COUNT(pair_columns), run_attention},
	{"small", "Small operations", "One layer's other operations (the vocabulary's once a model), all threads.", small_columns, COUNT(small_columns), run_small},
	{"adamw", "AdamW", "Weights, gradient and two moments in f32: 28 bytes a parameter (four read, three written).", adamw_columns, COUNT(adamw_columns), run_adamw},
};
const int bench_operations_count = COUNT(bench_operations);
