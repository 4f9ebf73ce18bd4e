/* Attention over pages against the naive reference over rows: plain sequences
 * and groups (shared prompt pages, the prompt's tail copied to each completion),
 * grouped heads, d_k ≠ d_v, block lists; forward, log-sum-exp and all gradients,
 * through kv_write and kv_read_add as the model uses them. */
#include "tests/ops_groups.h"

struct attention_case {
	struct layout *l;
	struct heads *n;
	double *q, *k, *v, *out, *dout;
};

static double attention_loss(void *arg)
{
	struct attention_case *c = arg;
	ref_attention(c->l, c->n, c->q, c->k, c->v, c->out, NULL);
	return kit_dot(c->out, c->dout, c->l->rows * c->n->heads * c->n->dv);
}

/* The reference's gradients are held to central differences of its forward. */
static void check_reference(struct attention_case *c, const double *gq, const double *gk, const double *gv)
{
	int64_t t = c->l->rows;
	kit_differences(attention_loss, c, c->q, gq, t * c->n->heads * c->n->dk, 5, "attention dq");
	kit_differences(attention_loss, c, c->k, gk, t * c->n->kv_heads * c->n->dk, 5, "attention dk");
	kit_differences(attention_loss, c, c->v, gv, t * c->n->kv_heads * c->n->dv, 5, "attention dv");
}

/* Random blocks: each but the last is left out in half of the rows. */
static uint8_t *make_blocks(struct kit *k, struct layout *l, struct heads *n)
{
	int64_t bytes = l->rows * n->kv_heads * l->stride;
	uint8_t *host = kit_host(k, (size_t)bytes);
	for (int64_t i = 0; i < bytes; i++) host[i] = rng_u32((struct rng_key){9, RNG_TEST}, 0, (uint64_t)i, 0) & 1;
	uint8_t *device = kit_device(k, (size_t)bytes);
	k->ops->upload(k->b, device, host, (size_t)bytes);
	n->blocks = host;
	return device;
}

static void attention_case(struct kit *k, struct layout *l, struct heads *n, int sparse)
{
	layout_make(k, l);
	int64_t t = l->rows, qc = (int64_t)n->heads * n->dk, oc = (int64_t)n->heads * n->dv, kc = (int64_t)n->kv_heads * n->dk, vc = (int64_t)n->kv_heads * n->dv;
	n->scale = 1 / sqrt((double)n->dk);
	uint8_t *blocks = sparse ? make_blocks(k, l, n) : NULL;
	struct array q = kit_random(k, t * qc, 2), key = kit_random(k, t * kc, 2), v = kit_random(k, t * vc, 1), dout = kit_random(k, t * oc, 1);
	struct array kp = kit_nan(k, l->pages * kc * KV_PAGE), vp = kit_nan(k, l->pages * vc * KV_PAGE), out = kit_nan(k, t * oc), lse = kit_nan(k, t * n->heads);
	struct array dq = kit_random(k, t * qc, 0.1f), dk = kit_random(k, t * kc, 0.1f), dv = kit_random(k, t * vc, 0.1f);
	struct array dkp = kit_random(k, kp.n, 0), dvp = kit_random(k, vp.n, 0);
	struct kv_args kv = {kp.d, vp.d, n->kv_heads, n->dk, n->dv, tensor_f32(key.d, t, kc), tensor_f32(v.d, t, vc), l->writes,
			     l->write_row.d, l->write_page.d, l->write_slot.d, DTYPE_F32};
	struct attention_args a = {.q = tensor_f32(q.d, t, qc), .heads = n->heads, .kv_heads = n->kv_heads, .dk = n->dk, .dv = n->dv, .scale = (float)n->scale,
				   .k_pages = kp.d, .v_pages = vp.d, .tables = l->tables.d, .table_stride = l->stride, .row_seq = l->row_seq.d, .row_pos = l->row_pos.d,
				   .blocks = blocks, .out = tensor_f32(out.d, t, oc), .lse = lse.d, .dout = tensor_f32(dout.d, t, oc), .dq = tensor_f32(dq.d, t, qc),
				   .dk_pages = dkp.d, .dv_pages = dvp.d, .sets = l->groups, .set_rows = l->set_rows};
	n->scale = a.scale;
	struct attention_case c = {l, n, kit_widen(k, q), kit_widen(k, key), kit_widen(k, v), kit_doubles(k, t * oc), kit_widen(k, dout)};
	double *wl = kit_doubles(k, t * n->heads), *gq = kit_doubles(k, t * qc), *gk = kit_doubles(k, t * kc), *gv = kit_doubles(k, t * vc);
	ref_attention(l, n, c.q, c.k, c.v, c.out, wl);
	k->ops->kv_write(k->b, &kv);
	k->ops->attention_forward(k->b, &a);
	kit_expect(k, out, NULL, c.out, "attention of %lld rows, %d/%d heads, %d/%d", (long long)t, n->heads, n->kv_heads, n->dk, n->dv);
	kit_expect(k, lse, NULL, wl, "attention lse of %lld rows", (long long)t);
	k->ops->attention_backward(k->b, &a);
	kv.k_pages = dkp.d, kv.v_pages = dvp.d, kv.k.data = dk.d, kv.v.data = dv.d;
	k->ops->kv_read_add(k->b, &kv);
	ref_attention_backward(l, n, c.q, c.k, c.v, c.out, c.dout, gq, gk, gv);
	kit_expect(k, dq, dq.h, gq, "attention dq of %lld rows, %d/%d heads, %d/%d", (long long)t, n->heads, n->kv_heads, n->dk, n->dv);
	kit_expect(k, dk, dk.h, gk, "attention dk of %lld rows, %d/%d heads, %d/%d", (long long)t, n->heads, n->kv_heads, n->dk, n->dv);
	kit_expect(k, dv, dv.h, gv, "attention dv of %lld rows, %d/%d heads, %d/%d", (long long)t, n->heads, n->kv_heads, n->dk, n->dv);
	if (t < 300) check_reference(&c, gq, gk, gv);
	kit_clear(k);
}

static void test_sequences(void **state)
{
	static const int length[] = {1, 2, 15, 16, 17, 33, 63, 64, 65, 127, 128, 129, 193};
	for (size_t i = 0; i < sizeof length / sizeof *length; i++)
		attention_case(*state, &(struct layout){.groups = 1 + (int)i % 3, .prompt = length[i]}, &(struct heads){.heads = 2, .kv_heads = 2, .dk = 16, .dv = 16}, 0);
}

static void test_head_sizes(void **state)
{
	static const int size[][2] = {{1, 1}, {3, 5}, {8, 32}, {17, 33}, {32, 32}, {48, 16}, {127, 31}, {128, 128}, {192, 128}};
	for (size_t i = 0; i < sizeof size / sizeof *size; i++)
		attention_case(*state, &(struct layout){.groups = 1, .prompt = 70, .completions = 2, .response = 4},
			       &(struct heads){.heads = 4, .kv_heads = 1 << i % 3, .dk = size[i][0], .dv = size[i][1]}, 0);
}

static void test_groups(void **state)
{
	static const int prompt[] = {1, 17, 63, 64, 65, 128, 130};
	for (size_t i = 0; i < sizeof prompt / sizeof *prompt; i++)
		attention_case(*state, &(struct layout){.groups = 2, .prompt = prompt[i], .completions = 3, .response = i % 2 ? 1 : 40},
			       &(struct heads){.heads = 4, .kv_heads = 2, .dk = 16, .dv = 24}, 0);
	/* ten completions, so that the register tiles cross from one completion to the next at every offset */
	attention_case(*state, &(struct layout){.groups = 2, .prompt = 21, .completions = 10, .response = 1}, &(struct heads){.heads = 3, .kv_heads = 1, .dk = 16, .dv = 16}, 0);
}

static void test_blocks(void **state)
{
	attention_case(*state, &(struct layout){.groups = 1, .prompt = 330}, &(struct heads){.heads = 4, .kv_heads = 2, .dk = 16, .dv = 16}, 1);
	attention_case(*state, &(struct layout){.groups = 2, .prompt = 150, .completions = 3, .response = 50}, &(struct heads){.heads = 2, .kv_heads = 1, .dk = 8, .dv = 16}, 1);
}

/* Scores far apart: the weights of one key go to 1, of others to 0; nothing overflows. */
static void test_extreme_scores(void **state)
{
	struct kit *k = *state;
	struct layout l = {.groups = 1, .prompt = 100};
	layout_make(k, &l);
	struct array q = kit_random(k, 100 * 16, 200), key = kit_random(k, 100 * 16, 200), v = kit_random(k, 100 * 16, 1), out = kit_nan(k, 1600);
	struct array kp = kit_nan(k, l.pages * 16 * KV_PAGE), vp = kit_nan(k, l.pages * 16 * KV_PAGE);
	struct kv_args kv = {kp.d, vp.d, 1, 16, 16, tensor_f32(key.d, 100, 16), tensor_f32(v.d, 100, 16), l.writes, l.write_row.d, l.write_page.d, l.write_slot.d, DTYPE_F32};
	struct attention_args a = {.q = tensor_f32(q.d, 100, 16), .heads = 1, .kv_heads = 1, .dk = 16, .dv = 16, .scale = 1, .k_pages = kp.d, .v_pages = vp.d,
				   .tables = l.tables.d, .table_stride = l.stride, .row_seq = l.row_seq.d, .row_pos = l.row_pos.d, .out = tensor_f32(out.d, 100, 16)};
	k->ops->kv_write(k->b, &kv);
	k->ops->attention_forward(k->b, &a);
	kit_pull(k, out);
	for (int i = 0; i < 1600; i++) assert_true(fabsf(out.h[i]) <= 1);
	kit_clear(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sequences), cmocka_unit_test(test_head_sizes),	  cmocka_unit_test(test_groups),
		cmocka_unit_test(test_blocks),	  cmocka_unit_test(test_extreme_scores),
	};
	return cmocka_run_group_tests_name("ops_attention", tests, kit_setup, kit_teardown);
}
