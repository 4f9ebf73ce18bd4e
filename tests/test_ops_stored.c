/* What lies in memory as bf16: every operation that reads weights, or pages of keys
 * and values, gives the same bits as with the same values in f32, in both
 * precisions, with few rows and with many; and the operation that rounds. */
#include "ops_groups.h"

enum { WIDTH = 38, INNER = 22, EXPERTS = 5, CHOSEN = 2, VOCAB = 70 };

/* The same numbers twice; every one of them is a bf16. */
struct stored {
	float *full;
	void *half;
};

static struct stored draw(struct kit *k, int64_t n)
{
	struct array a = kit_random(k, n, 1);
	uint16_t *half = kit_host(k, (size_t)n * 2);
	for (int64_t i = 0; i < n; i++) {
		uint32_t bits;
		memcpy(&bits, &a.h[i], 4);
		bits &= 0xffff0000u;
		memcpy(&a.h[i], &bits, 4);
		half[i] = (uint16_t)(bits >> 16);
	}
	kit_push(k, a);
	struct stored s = {a.d, kit_device(k, (size_t)n * 2)};
	k->ops->upload(k->b, s.half, half, (size_t)n * 2);
	return s;
}

static struct tensor view(struct stored s, int half, int64_t rows, int64_t cols)
{
	return half ? (struct tensor){s.half, DTYPE_BF16, rows, cols} : tensor_f32(s.full, rows, cols);
}

static void same(struct kit *k, struct array x, struct array y, const char *what, int64_t rows)
{
	kit_pull(k, x), kit_pull(k, y);
	for (int64_t i = 0; i < x.n; i++)
		if (memcmp(&x.h[i], &y.h[i], 4)) fail_msg("%s, %lld rows: element %lld is %.9g and %.9g", what, (long long)rows, (long long)i, (double)x.h[i], (double)y.h[i]);
}

static void test_linear(struct kit *k, int64_t rows, int64_t in)
{
	struct stored w = draw(k, INNER * in), table = draw(k, VOCAB * in);
	struct array x = kit_random(k, rows * in, 1), dy = kit_random(k, rows * INNER, 1);
	struct array y[2], dx[2], g[2];
	struct ints ids = kit_ints_below(k, rows, VOCAB);
	for (int i = 0; i < 2; i++) {
		y[i] = kit_nan(k, rows * INNER), dx[i] = kit_nan(k, rows * in), g[i] = kit_nan(k, rows * in);
		k->ops->zero(k->b, dx[i].d, (size_t)dx[i].n * 4);
		struct linear_args a = {.x = tensor_f32(x.d, rows, in), .w = view(w, i, INNER, in), .y = tensor_f32(y[i].d, rows, INNER),
					.dy = tensor_f32(dy.d, rows, INNER), .dx = tensor_f32(dx[i].d, rows, in)};
		k->ops->linear_forward(k->b, &a);
		k->ops->linear_backward(k->b, &a);
		k->ops->embedding_forward(k->b, view(table, i, VOCAB, in), ids.d, tensor_f32(g[i].d, rows, in));
	}
	same(k, y[0], y[1], "linear", rows);
	same(k, dx[0], dx[1], "linear's dx", rows);
	same(k, g[0], g[1], "embedding", rows);
	kit_clear(k);
}

static void test_head(struct kit *k, int64_t rows)
{
	struct stored w = draw(k, VOCAB * WIDTH);
	struct array x = kit_random(k, rows * WIDTH, 1), dlogprob = kit_random(k, rows, 1), work = kit_nan(k, rows * VOCAB);
	struct array logprob[2], entropy[2], dx[2];
	struct ints target = kit_ints_below(k, rows, VOCAB);
	for (int i = 0; i < 2; i++) {
		logprob[i] = kit_nan(k, rows), entropy[i] = kit_nan(k, rows), dx[i] = kit_nan(k, rows * WIDTH);
		k->ops->zero(k->b, dx[i].d, (size_t)dx[i].n * 4);
		struct head_args a = {.x = tensor_f32(x.d, rows, WIDTH), .w = view(w, i, VOCAB, WIDTH), .target = target.d, .temperature = 0.9f, .top_p = 1,
				      .logprob = logprob[i].d, .entropy = entropy[i].d, .work = work.d, .work_rows = rows, .dlogprob = dlogprob.d,
				      .dx = tensor_f32(dx[i].d, rows, WIDTH)};
		k->ops->head_forward(k->b, &a);
		k->ops->head_backward(k->b, &a);
	}
	same(k, logprob[0], logprob[1], "log-probabilities", rows);
	same(k, dx[0], dx[1], "the head's dx", rows);
	kit_clear(k);
}

static void test_experts(struct kit *k, int64_t rows)
{
	struct stored gate = draw(k, EXPERTS * INNER * WIDTH), up = draw(k, EXPERTS * INNER * WIDTH), down = draw(k, EXPERTS * WIDTH * INNER);
	struct array x = kit_random(k, rows * WIDTH, 1), weight = kit_random(k, rows * CHOSEN, 1), out[2], dx[2], dweight[2];
	struct array g = kit_nan(k, rows * CHOSEN * INNER), u = kit_nan(k, rows * CHOSEN * INNER), work = kit_nan(k, rows * CHOSEN * (WIDTH + 3 * INNER));
	struct array dout = kit_random(k, rows * WIDTH, 1);
	struct ints expert = kit_ints(k, rows * CHOSEN), order = kit_ints(k, 3 * rows * CHOSEN), offset = kit_ints(k, EXPERTS + 1);
	for (int64_t i = 0; i < rows * CHOSEN; i++) expert.h[i] = (int32_t)((i / CHOSEN * 3 + i % CHOSEN) % EXPERTS);
	kit_push_ints(k, expert);
	for (int i = 0; i < 2; i++) {
		out[i] = kit_nan(k, rows * WIDTH), dx[i] = kit_nan(k, rows * WIDTH), dweight[i] = kit_nan(k, rows * CHOSEN);
		k->ops->zero(k->b, out[i].d, (size_t)out[i].n * 4);
		k->ops->zero(k->b, dx[i].d, (size_t)dx[i].n * 4);
		struct experts_args a = {.x = tensor_f32(x.d, rows, WIDTH), .experts = EXPERTS, .chosen = CHOSEN, .expert = expert.d, .weight = weight.d,
					 .gate = view(gate, i, EXPERTS * INNER, WIDTH), .up = view(up, i, EXPERTS * INNER, WIDTH),
					 .down = view(down, i, EXPERTS * WIDTH, INNER), .out = tensor_f32(out[i].d, rows, WIDTH), .order = order.d, .offset = offset.d,
					 .g = tensor_f32(g.d, rows * CHOSEN, INNER), .u = tensor_f32(u.d, rows * CHOSEN, INNER),
					 .work = tensor_f32(work.d, rows * CHOSEN, WIDTH + 3 * INNER), .dout = tensor_f32(dout.d, rows, WIDTH),
					 .dx = tensor_f32(dx[i].d, rows, WIDTH), .dweight = dweight[i].d};
		k->ops->experts_forward(k->b, &a);
		k->ops->experts_backward(k->b, &a);
	}
	same(k, out[0], out[1], "experts", rows);
	same(k, dx[0], dx[1], "the experts' dx", rows);
	same(k, dweight[0], dweight[1], "the router's gradient", rows);
	kit_clear(k);
}

/* Keys and values are rounded when they are written to pages in bf16. */
static void test_pages(struct kit *k, int prompt, int completions, int response)
{
	enum { H = 4, J = 2, DK = 18, DV = 22 };
	struct layout l = {.groups = 2, .prompt = prompt, .completions = completions, .response = response};
	layout_make(k, &l);
	int64_t t = l.rows, page = J * KV_PAGE;
	struct array q = kit_random(k, t * H * DK, 2), key = kit_random(k, t * J * DK, 2), v = kit_random(k, t * J * DV, 1), dout = kit_random(k, t * H * DV, 1);
	struct array key_f32 = kit_nan(k, key.n), v_f32 = kit_nan(k, v.n), out[2], lse[2], dq[2], dkp[2], dvp[2];
	k->ops->round_bf16(k->b, tensor_f32(key_f32.d, t, J * DK), key.d);
	k->ops->round_bf16(k->b, tensor_f32(v_f32.d, t, J * DV), v.d);
	for (int i = 0; i < 2; i++) {
		size_t each = i ? 2 : 4;
		void *kp = kit_device(k, (size_t)(l.pages * page * DK) * each), *vp = kit_device(k, (size_t)(l.pages * page * DV) * each);
		out[i] = kit_nan(k, t * H * DV), lse[i] = kit_nan(k, t * H), dq[i] = kit_nan(k, t * H * DK);
		dkp[i] = kit_nan(k, l.pages * page * DK), dvp[i] = kit_nan(k, l.pages * page * DV);
		struct array *gradient[] = {&dq[i], &dkp[i], &dvp[i]};
		for (int g = 0; g < 3; g++) k->ops->zero(k->b, gradient[g]->d, (size_t)gradient[g]->n * 4);
		struct kv_args kv = {.k_pages = kp, .v_pages = vp, .pages = i ? DTYPE_BF16 : DTYPE_F32, .kv_heads = J, .dk = DK, .dv = DV,
				     .k = tensor_f32(i ? key.d : key_f32.d, t, J * DK), .v = tensor_f32(i ? v.d : v_f32.d, t, J * DV), .writes = l.writes,
				     .row = l.write_row.d, .page = l.write_page.d, .slot = l.write_slot.d};
		struct attention_args a = {.q = tensor_f32(q.d, t, H * DK), .heads = H, .kv_heads = J, .dk = DK, .dv = DV, .scale = 0.3f, .k_pages = kp, .v_pages = vp,
					   .pages = kv.pages, .tables = l.tables.d, .table_stride = l.stride, .row_seq = l.row_seq.d, .row_pos = l.row_pos.d,
					   .out = tensor_f32(out[i].d, t, H * DV), .lse = lse[i].d, .dout = tensor_f32(dout.d, t, H * DV),
					   .dq = tensor_f32(dq[i].d, t, H * DK), .dk_pages = dkp[i].d, .dv_pages = dvp[i].d, .sets = l.groups, .set_rows = l.set_rows};
		k->ops->kv_write(k->b, &kv);
		k->ops->attention_forward(k->b, &a);
		k->ops->attention_backward(k->b, &a);
	}
	same(k, out[0], out[1], "attention", t);
	same(k, lse[0], lse[1], "attention's lse", t);
	same(k, dq[0], dq[1], "attention's dq", t);
	same(k, dkp[0], dkp[1], "attention's dk", t);
	same(k, dvp[0], dvp[1], "attention's dv", t);
	kit_clear(k);
}

/* Against core/tensor/bf16.h; what lies behind an odd number of them stays. */
static void test_round(struct kit *k, int64_t n)
{
	struct array a = kit_random(k, n, 3), full = kit_nan(k, n);
	static const uint32_t special[] = {0x3F808000, 0x3F818000, 0x80000000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x00008001, 0x00000001};
	uint16_t *half = kit_host(k, (size_t)n * 2), *to = kit_device(k, (size_t)n * 2);
	for (int64_t i = 0; i < n && i < 8; i++) memcpy(&a.h[i], &special[i], 4);
	kit_push(k, a);
	k->ops->round_bf16(k->b, tensor_f32(full.d, 1, n), a.d);
	k->ops->round_bf16(k->b, (struct tensor){to, DTYPE_BF16, 1, n}, a.d);
	k->ops->download(k->b, half, to, (size_t)n * 2);
	kit_pull(k, full);
	for (int64_t i = 0; i < n; i++) {
		float value = bf16_widen(bf16_round(a.h[i]));
		assert_int_equal(half[i], bf16_round(a.h[i]));
		assert_memory_equal(&full.h[i], &value, 4);
	}
	kit_clear(k);
}

static void test_as_f32(void **state)
{
	(void)state;
	static const char *const precision[] = {"f32", "bf16"};
	for (int i = 0; i < 2; i++) {
		struct kit k;
		struct err e;
		memset(&k, 0, sizeof k);
		if (device_kit_open_in(&k.b, "auto", 1, precision[i], &e) < 0) fail_msg("%s", e.msg);
		k.ops = backend_ops(k.b);
		for (int64_t rows = 3; rows <= 90; rows += 87) {
			test_linear(&k, rows, WIDTH);
			test_linear(&k, rows, 33); /* rows that begin at odd places */
			test_head(&k, rows);
			test_experts(&k, 4 * rows);
		}
		test_pages(&k, 75, 5, 3);
		test_pages(&k, 130, 2, 70);
		for (int s = 0; s < KIT_SIZES; s++) test_round(&k, kit_sizes[s]);
		test_round(&k, 1 + (1 << 17));
		kit_close(&k);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_f32)};
	return cmocka_run_group_tests_name("stored", tests, NULL, NULL);
}
