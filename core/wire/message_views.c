/* Bodies that are not one plain struct: how they are spread out for encoding
 * and checked and gathered after decoding. A lease travels by columns (slots,
 * prompts, lengths, one run of tokens), so that a hundred prompts are five
 * blobs and a list of texts. */
#include "core/wire/message_fields.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int view_check_finite(const char *what, const struct field_bin *x, struct err *e)
{
	const float *f = x->data;
	for (size_t i = 0; i < x->count; i++)
		if (!isfinite(f[i])) return err_set(e, ERR_RANGE, "key \"%s\": element %zu is %f", what, i, (double)f[i]);
	return 0;
}

int view_check_terms(const struct field_texts *terms, struct err *e)
{
	if (terms->count > GROUP_TERMS_MAX)
		return err_set(e, ERR_RANGE, "key \"terms\": %zu reward terms, at most %d", terms->count, GROUP_TERMS_MAX);
	for (size_t i = 0; i < terms->count; i++) {
		size_t n = strlen(terms->text[i]);
		if (n == 0 || n >= GROUP_TERM_NAME)
			return err_set(e, ERR_RANGE, "key \"terms\": name %zu has %zu bytes, between 1 and %d are possible", i, n,
			               GROUP_TERM_NAME - 1);
		for (size_t j = 0; j < i; j++)
			if (strcmp(terms->text[i], terms->text[j]) == 0)
				return err_set(e, ERR_RANGE, "key \"terms\": \"%s\" comes twice", terms->text[i]);
	}
	return 0;
}

static int check_lease(const struct view_lease *v, const struct message_limits *l, struct err *e)
{
	size_t n = v->slots.count;
	if (n < 1 || n > MESSAGE_LEASE_MAX)
		return err_set(e, ERR_RANGE, "key \"slots\": a lease of %zu prompts, between 1 and %d are possible", n, MESSAGE_LEASE_MAX);
	if (v->prompts.count != n || v->prompt_lengths.count != n || v->prompt_texts.count != n)
		return err_set(e, ERR_RANGE, "a lease of %zu slots with %zu \"prompts\", %zu \"prompt_lengths\", %zu \"prompt_texts\"", n,
		               v->prompts.count, v->prompt_lengths.count, v->prompt_texts.count);
	const uint32_t *length = v->prompt_lengths.data;
	uint64_t total = 0;
	for (size_t i = 0; i < n; i++) {
		if (length[i] == 0) return err_set(e, ERR_RANGE, "key \"prompt_lengths\": prompt %zu of the lease has no tokens", i);
		total += length[i];
	}
	if (v->prompt_tokens.count != total)
		return err_set(e, ERR_RANGE, "key \"prompt_tokens\" has %zu elements, \"prompt_lengths\" add up to %llu",
		               v->prompt_tokens.count, (unsigned long long)total);
	const int32_t *t = v->prompt_tokens.data;
	for (size_t i = 0; i < total; i++)
		if (t[i] < 0 || (l->vocab > 0 && t[i] >= l->vocab))
			return err_set(e, ERR_RANGE, "key \"prompt_tokens\": token %d at %zu is outside the vocabulary of %d", t[i], i, l->vocab);
	return 0;
}

static int make_lease(struct view_lease *v, struct view_scratch *s, const struct message_lease *m, struct err *e)
{
	uint64_t total = 0;
	CHECK(m->count <= MESSAGE_LEASE_MAX, "lease of %u prompts, at most %d", m->count, MESSAGE_LEASE_MAX);
	for (uint32_t i = 0; i < m->count; i++) total += m->items[i].token_count;
	s->numbers = malloc((m->count * 3 + 1) * sizeof s->numbers[0]);
	s->tokens = malloc((total + 1) * sizeof s->tokens[0]);
	s->texts = malloc((m->count + 1) * sizeof s->texts[0]);
	if (!s->numbers || !s->tokens || !s->texts) return err_set(e, ERR_MEMORY, "no memory for a lease of %u prompts", m->count);
	uint32_t *slots = s->numbers, *prompts = slots + m->count, *lengths = prompts + m->count;
	size_t at = 0;
	for (uint32_t i = 0; i < m->count; i++) {
		const struct message_lease_item *it = &m->items[i];
		slots[i] = it->slot;
		prompts[i] = it->prompt;
		lengths[i] = it->token_count;
		if (it->token_count) memcpy(s->tokens + at, it->tokens, it->token_count * sizeof s->tokens[0]);
		at += it->token_count;
		s->texts[i] = it->text;
	}
	*v = (struct view_lease){
		.step = m->step, .policy_version = m->policy_version, .weights_bytes = m->weights_bytes,
		.weights_path = m->weights_path, .seconds = m->seconds, .slots = {slots, m->count}, .prompts = {prompts, m->count},
		.prompt_lengths = {lengths, m->count}, .prompt_tokens = {s->tokens, total}, .prompt_texts = {s->texts, m->count}};
	memcpy(v->weights_hash, m->weights_hash, sizeof v->weights_hash);
	return check_lease(v, &(struct message_limits){0}, e);
}

static int take_lease(struct message_lease *m, const struct view_lease *v, struct arena *a, struct err *e)
{
	struct message_lease_item *items = arena_alloc(a, v->slots.count * sizeof *items);
	if (!items) return err_set(e, ERR_MEMORY, "no memory for a lease of %zu prompts", v->slots.count);
	const int32_t *t = v->prompt_tokens.data;
	for (size_t i = 0; i < v->slots.count; i++) {
		items[i] = (struct message_lease_item){
			.slot = ((const uint32_t *)v->slots.data)[i], .prompt = ((const uint32_t *)v->prompts.data)[i],
			.token_count = ((const uint32_t *)v->prompt_lengths.data)[i], .tokens = t, .text = v->prompt_texts.text[i]};
		t += items[i].token_count;
	}
	*m = (struct message_lease){.step = v->step, .policy_version = v->policy_version, .weights_path = v->weights_path,
	                            .weights_bytes = v->weights_bytes, .seconds = v->seconds,
	                            .count = (uint32_t)v->slots.count, .items = items};
	memcpy(m->weights_hash, v->weights_hash, sizeof m->weights_hash);
	return 0;
}

static int check_scores(const struct view_scores *v, struct err *e)
{
	int rc = 0;
	TRY(view_check_terms(&v->terms, e));
	if (v->terms.count == 0) return err_set(e, ERR_RANGE, "key \"terms\" is empty, scores have at least one term");
	size_t size = v->values.count / v->terms.count;
	if (size * v->terms.count != v->values.count || size < 2 || size > GROUP_MAX)
		return err_set(e, ERR_RANGE, "key \"values\": %zu elements are not %zu terms of a group of 2 to %d", v->values.count,
		               v->terms.count, GROUP_MAX);
	TRY(view_check_finite("values", &v->values, e));
out:
	return rc;
}

static int check_chunk(const struct view_chunk *v, struct err *e)
{
	if (v->offset > v->total || v->data.count > v->total - v->offset)
		return err_set(e, ERR_RANGE, "a chunk of %zu bytes at %llu goes beyond the file's %llu", v->data.count,
		               (unsigned long long)v->offset, (unsigned long long)v->total);
	return 0;
}

int view_make(union view *v, struct view_scratch *s, const struct message *m, const void **body, struct err *e)
{
	static const struct message_limits none = {0};
	*body = v;
	switch (m->type) {
	case MESSAGE_GROUP:
		view_make_group(&v->group, s, &m->group, 1);
		return view_check_group(&v->group, 1, &none, e);
	case MESSAGE_SCORE:
		view_make_group(&v->group, s, &m->score.group, 0);
		memcpy(v->group.fingerprint, m->score.fingerprint, sizeof v->group.fingerprint);
		return view_check_group(&v->group, 0, &none, e);
	case MESSAGE_LEASE: return make_lease(&v->lease, s, &m->lease, e);
	case MESSAGE_READY:
		CHECK(m->ready.terms <= GROUP_TERMS_MAX, "%u terms", m->ready.terms);
		for (uint32_t i = 0; i < m->ready.terms; i++) s->terms[i] = m->ready.term_name[i];
		v->scores = (struct view_scores){.terms = {s->terms, m->ready.terms}};
		memcpy(v->scores.scorer_version, m->ready.scorer_version, GROUP_VERSION);
		return view_check_terms(&v->scores.terms, e);
	case MESSAGE_SCORES:
		CHECK(m->scores.terms <= GROUP_TERMS_MAX, "%u terms", m->scores.terms);
		for (uint32_t i = 0; i < m->scores.terms; i++) s->terms[i] = m->scores.term_name[i];
		v->scores = (struct view_scores){.step = m->scores.step, .slot = m->scores.slot,
		                                 .terms = {s->terms, m->scores.terms},
		                                 .values = {m->scores.values, (size_t)m->scores.terms * m->scores.size}};
		memcpy(v->scores.scorer_version, m->scores.scorer_version, GROUP_VERSION);
		return check_scores(&v->scores, e);
	case MESSAGE_WEIGHTS_CHUNK:
		v->chunk = (struct view_chunk){.version = m->weights_chunk.version, .offset = m->weights_chunk.offset,
		                               .total = m->weights_chunk.total,
		                               .data = {m->weights_chunk.data, m->weights_chunk.bytes}};
		memcpy(v->chunk.hash, m->weights_chunk.hash, HASH_HEX);
		return check_chunk(&v->chunk, e);
	default:
		*body = &m->hello; /* the union's start: the struct itself */
		return 0;
	}
}

void view_scratch_free(struct view_scratch *s)
{
	free(s->numbers);
	free(s->tokens);
	free(s->texts);
}

void *view_target(struct message *m, union view *v)
{
	switch (m->type) {
	case MESSAGE_GROUP:
	case MESSAGE_SCORE:
	case MESSAGE_LEASE:
	case MESSAGE_READY:
	case MESSAGE_SCORES:
	case MESSAGE_WEIGHTS_CHUNK: return v;
	default: return &m->hello;
	}
}

static void take_terms(char name[GROUP_TERMS_MAX][GROUP_TERM_NAME], const struct field_texts *terms)
{
	for (size_t i = 0; i < terms->count; i++) strcpy(name[i], terms->text[i]);
}

int view_take(struct message *m, const union view *v, struct arena *a, const struct message_limits *l, struct err *e)
{
	int rc = 0;
	switch (m->type) {
	case MESSAGE_GROUP:
		TRY(view_check_group(&v->group, 1, l, e));
		view_take_group(&m->group, &v->group);
		break;
	case MESSAGE_SCORE:
		TRY(view_check_group(&v->group, 0, l, e));
		view_take_group(&m->score.group, &v->group);
		memcpy(m->score.fingerprint, v->group.fingerprint, sizeof m->score.fingerprint);
		break;
	case MESSAGE_LEASE:
		TRY(check_lease(&v->lease, l, e));
		TRY(take_lease(&m->lease, &v->lease, a, e));
		break;
	case MESSAGE_READY:
		TRY(view_check_terms(&v->scores.terms, e));
		m->ready.terms = (uint32_t)v->scores.terms.count;
		take_terms(m->ready.term_name, &v->scores.terms);
		memcpy(m->ready.scorer_version, v->scores.scorer_version, GROUP_VERSION);
		break;
	case MESSAGE_SCORES:
		TRY(check_scores(&v->scores, e));
		m->scores.step = v->scores.step;
		m->scores.slot = v->scores.slot;
		m->scores.terms = (uint32_t)v->scores.terms.count;
		m->scores.size = (uint32_t)(v->scores.values.count / v->scores.terms.count);
		m->scores.values = v->scores.values.data;
		take_terms(m->scores.term_name, &v->scores.terms);
		memcpy(m->scores.scorer_version, v->scores.scorer_version, GROUP_VERSION);
		break;
	case MESSAGE_WEIGHTS_CHUNK:
		TRY(check_chunk(&v->chunk, e));
		m->weights_chunk.version = v->chunk.version;
		m->weights_chunk.offset = v->chunk.offset;
		m->weights_chunk.total = v->chunk.total;
		m->weights_chunk.data = v->chunk.data.data;
		m->weights_chunk.bytes = v->chunk.data.count;
		memcpy(m->weights_chunk.hash, v->chunk.hash, HASH_HEX);
		break;
	default: break;
	}
out:
	return rc;
}
