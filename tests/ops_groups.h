/* Attention inputs in the group layout, and the naive reference over them.
 *
 * A group is [prompt][c0]…[cG-1]: rows in packed order. The prompt's full pages
 * are shared by its completions; the page in which the prompt ends is copied to
 * each completion, which goes on in its own copy. The reference knows nothing of
 * pages: it asks for the list of rows that a row sees. */
#ifndef TENFOLD_TESTS_OPS_GROUPS_H
#define TENFOLD_TESTS_OPS_GROUPS_H

#include "tests/ops_kit.h"

struct layout {
	int groups, completions; /* completions of each group; 0: a plain sequence */
	int prompt, response;    /* tokens; response of completion i is response + 5 i */
	int64_t rows;
	int stride, sequences, pages;
	struct ints tables, row_seq, row_pos; /* row_seq of a prompt row: its group's first sequence */
	int64_t set_rows[9];
	int64_t writes;
	struct ints write_row, write_page, write_slot;
	int32_t *group_of, *part_of; /* [rows]; part -1: prompt */
};

static KIT_UNUSED int layout_response(const struct layout *l, int c)
{
	return l->response + 5 * c;
}

static KIT_UNUSED void layout_rows(struct layout *l)
{
	int64_t t = 0;
	int each = l->completions ? l->completions : 1;
	for (int g = 0; g < l->groups; g++) {
		l->set_rows[g] = t;
		for (int i = 0; i < l->prompt; i++, t++) {
			l->group_of[t] = g, l->part_of[t] = -1;
			l->row_seq.h[t] = l->completions ? l->groups * each + g : g, l->row_pos.h[t] = i;
		}
		for (int c = 0; c < l->completions; c++)
			for (int i = 0; i < layout_response(l, c); i++, t++) {
				l->group_of[t] = g, l->part_of[t] = c;
				l->row_seq.h[t] = g * each + c, l->row_pos.h[t] = l->prompt + i;
			}
	}
	l->set_rows[l->groups] = t;
}

static KIT_UNUSED void layout_write(struct layout *l, int64_t row, int32_t sequence)
{
	l->write_row.h[l->writes] = (int32_t)row;
	l->write_page.h[l->writes] = l->tables.h[sequence * l->stride + l->row_pos.h[row] / KV_PAGE];
	l->write_slot.h[l->writes++] = l->row_pos.h[row] % KV_PAGE;
}

/* Fills everything from groups, completions, prompt, response. Sequences: one for each completion, then one for each prompt. */
static KIT_UNUSED void layout_make(struct kit *k, struct layout *l)
{
	int each = l->completions ? l->completions : 1, longest = l->prompt + (l->completions ? layout_response(l, l->completions - 1) : 0);
	l->rows = (int64_t)l->groups * l->prompt;
	for (int c = 0; c < l->completions; c++) l->rows += l->groups * layout_response(l, c);
	l->stride = longest / KV_PAGE + 1;
	l->sequences = l->groups * each + l->groups;
	l->tables = kit_ints(k, l->sequences * l->stride);
	l->row_seq = kit_ints(k, l->rows);
	l->row_pos = kit_ints(k, l->rows);
	l->group_of = kit_host(k, (size_t)l->rows * 4);
	l->part_of = kit_host(k, (size_t)l->rows * 4);
	layout_rows(l);
	int full = l->prompt / KV_PAGE;
	l->pages = 1; /* page 0 stays unused: a table entry left at 0 would show */
	for (int g = 0; g < l->groups; g++) {
		int32_t *prompt = l->tables.h + (l->completions ? l->groups * each + g : g) * l->stride;
		for (int b = 0; b < l->stride; b++) prompt[b] = l->pages++;
		for (int c = 0; c < l->completions; c++)
			for (int b = 0; b < l->stride; b++) l->tables.h[(g * each + c) * l->stride + b] = b < full ? prompt[b] : l->pages++;
	}
	int64_t most = l->rows + (int64_t)l->groups * KV_PAGE * (each + 1);
	l->write_row = kit_ints(k, most), l->write_page = kit_ints(k, most), l->write_slot = kit_ints(k, most);
	for (int64_t t = 0; t < l->rows; t++) {
		layout_write(l, t, l->row_seq.h[t]);
		if (l->part_of[t] < 0 && l->row_pos.h[t] / KV_PAGE >= full)
			for (int c = 0; c < l->completions; c++) layout_write(l, t, l->group_of[t] * each + c);
	}
	struct ints all[] = {l->tables, l->row_seq, l->row_pos, l->write_row, l->write_page, l->write_slot};
	for (int i = 0; i < 6; i++) kit_push_ints(k, all[i]);
}

/* 1 when row t sees row s. */
static KIT_UNUSED int layout_sees(const struct layout *l, int64_t t, int64_t s)
{
	return l->group_of[t] == l->group_of[s] && l->row_pos.h[s] <= l->row_pos.h[t] && (l->part_of[s] < 0 || l->part_of[s] == l->part_of[t]);
}

struct heads {
	int heads, kv_heads, dk, dv;
	double scale;
	const uint8_t *blocks; /* host [rows, J, stride] or NULL */
};

static KIT_UNUSED int heads_see(const struct layout *l, const struct heads *n, int64_t t, int64_t s, int j)
{
	if (!layout_sees(l, t, s)) return 0;
	int block = l->row_pos.h[s] / KV_PAGE;
	return !n->blocks || block == l->row_pos.h[t] / KV_PAGE || n->blocks[(t * n->kv_heads + j) * l->stride + block];
}

/* Weights p[rows] of row t, head h; returns the log-sum-exp. */
static KIT_UNUSED double ref_attention_row(const struct layout *l, const struct heads *n, const double *q, const double *k, int64_t t, int h, double *p)
{
	int j = h / (n->heads / n->kv_heads);
	double max = -INFINITY, sum = 0;
	for (int64_t s = 0; s < l->rows; s++) {
		p[s] = -INFINITY;
		if (!heads_see(l, n, t, s, j)) continue;
		p[s] = 0;
		for (int d = 0; d < n->dk; d++) p[s] += q[(t * n->heads + h) * n->dk + d] * k[(s * n->kv_heads + j) * n->dk + d];
		p[s] *= n->scale;
		max = p[s] > max ? p[s] : max;
	}
	for (int64_t s = 0; s < l->rows; s++) sum += exp(p[s] - max);
	for (int64_t s = 0; s < l->rows; s++) p[s] = exp(p[s] - max) / sum;
	return max + log(sum);
}

static KIT_UNUSED void ref_attention(const struct layout *l, const struct heads *n, const double *q, const double *k, const double *v, double *out, double *lse)
{
	double *p = malloc((size_t)l->rows * sizeof *p);
	for (int64_t t = 0; t < l->rows; t++)
		for (int h = 0; h < n->heads; h++) {
			int j = h / (n->heads / n->kv_heads);
			double r = ref_attention_row(l, n, q, k, t, h, p), *o = out + (t * n->heads + h) * n->dv;
			if (lse) lse[t * n->heads + h] = r;
			for (int d = 0; d < n->dv; d++) o[d] = 0;
			for (int64_t s = 0; s < l->rows; s++)
				for (int d = 0; d < n->dv && p[s] > 0; d++) o[d] += p[s] * v[(s * n->kv_heads + j) * n->dv + d];
		}
	free(p);
}

static KIT_UNUSED void ref_attention_backward(const struct layout *l, const struct heads *n, const double *q, const double *k, const double *v,
					      const double *out, const double *dout, double *dq, double *dk, double *dv)
{
	double *p = malloc((size_t)l->rows * sizeof *p);
	for (int64_t t = 0; t < l->rows; t++)
		for (int h = 0; h < n->heads; h++) {
			int j = h / (n->heads / n->kv_heads);
			ref_attention_row(l, n, q, k, t, h, p);
			const double *d = dout + (t * n->heads + h) * n->dv, *o = out + (t * n->heads + h) * n->dv;
			double delta = kit_dot(d, o, n->dv);
			for (int64_t s = 0; s < l->rows; s++) {
				if (p[s] == 0) continue;
				int64_t key = s * n->kv_heads + j;
				double ds = p[s] * (kit_dot(d, v + key * n->dv, n->dv) - delta) * n->scale;
				for (int i = 0; i < n->dv; i++) dv[key * n->dv + i] += p[s] * d[i];
				for (int i = 0; i < n->dk; i++) dq[(t * n->heads + h) * n->dk + i] += ds * k[key * n->dk + i];
				for (int i = 0; i < n->dk; i++) dk[key * n->dk + i] += ds * q[(t * n->heads + h) * n->dk + i];
			}
		}
	free(p);
}

#endif
