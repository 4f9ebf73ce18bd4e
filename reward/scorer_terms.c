/* The scorer that is the sum of others, and the built-in term `length`. Only
 * the parts that reward.terms names are opened and run; each part's scores are
 * copied to the place of its term. */
#include "core/base/hash.h"
#include "reward/scorer.h"
#include "reward/terms.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int length_score(void *self, const struct group *const *groups, uint32_t n, float *out, struct err *e)
{
	(void)self;
	(void)e;
	for (uint32_t g = 0; g < n; g++)
		for (uint32_t i = 0; i < groups[g]->size; i++) *out++ = (float)groups[g]->length[i];
	return 0;
}

static void plain_close(struct scorer *s)
{
	free(s);
}

int scorer_length_open(struct scorer **out, struct err *e)
{
	struct scorer *s = calloc(1, sizeof *s);
	*out = s;
	if (!s) return err_set(e, ERR_MEMORY, "no memory for a scorer");
	strcpy(s->name, "length");
	strcpy(s->version, "length-1");
	s->terms = 1;
	strcpy(s->term_name[0], "length");
	s->score = length_score;
	s->close = plain_close;
	return 0;
}

struct part {
	struct scorer *scorer;
	int owned;
};

struct sum {
	uint32_t parts;
	struct part part[GROUP_TERMS_MAX];
	struct {
		uint32_t part, term; /* which of the part's terms */
	} from[GROUP_TERMS_MAX];
	const struct scorer *whole;
	float *scratch;
	size_t scratch_count;
};

static int sum_score(void *self, const struct group *const *groups, uint32_t n, float *out, struct err *e)
{
	struct sum *s = self;
	for (uint32_t p = 0; p < s->parts; p++) {
		const struct scorer *sc = s->part[p].scorer;
		size_t need = scorer_offset(sc, groups, n);
		if (need > s->scratch_count) {
			free(s->scratch);
			s->scratch = malloc(need * sizeof s->scratch[0]);
			s->scratch_count = s->scratch ? need : 0;
			if (!s->scratch) return err_set(e, ERR_MEMORY, "no memory for %zu scores", need);
		}
		for (size_t i = 0; i < need; i++) s->scratch[i] = NAN; /* what a scorer leaves out is not taken for a score */
		int rc = sc->score(sc->self, groups, n, s->scratch, e);
		if (rc < 0) {
			err_prefix(e, "scorer %s", sc->name);
			return rc;
		}
		for (uint32_t t = 0; t < s->whole->terms; t++) {
			if (s->from[t].part != p) continue;
			const float *src = s->scratch;
			float *dst = out;
			for (uint32_t g = 0; g < n; g++) {
				size_t size = groups[g]->size;
				memcpy(dst + t * size, src + s->from[t].term * size, size * sizeof *dst);
				src += sc->terms * size;
				dst += s->whole->terms * size;
			}
		}
	}
	return 0;
}

static void sum_close(struct scorer *sc)
{
	struct sum *s = sc->self;
	for (uint32_t p = 0; p < s->parts; p++)
		if (s->part[p].owned) scorer_close(s->part[p].scorer);
	free(s->scratch);
	free(s);
	free(sc);
}

static int add_part(struct sum *s, struct scorer *scorer, int owned)
{
	for (uint32_t p = 0; p < s->parts; p++)
		if (s->part[p].scorer == scorer) return (int)p;
	s->part[s->parts] = (struct part){scorer, owned};
	return (int)s->parts++;
}

/* Finds or opens who gives term `t`. */
static int find_term(struct sum *s, uint32_t t, const char *name, struct scorer *const *given, uint32_t n,
                     const char *command, double timeout, struct err *e)
{
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < given[i]->terms; k++)
			if (strcmp(given[i]->term_name[k], name) == 0) {
				s->from[t].part = (uint32_t)add_part(s, given[i], 0);
				s->from[t].term = k;
				return 0;
			}
	struct scorer *own = NULL;
	int rc;
	if (strcmp(name, "length") == 0) {
		rc = scorer_length_open(&own, e);
	} else if (strcmp(name, "command") == 0 && command && command[0]) {
		rc = scorer_command_open(&own, command, timeout, e);
	} else if (strcmp(name, "command") == 0) {
		rc = err_set(e, ERR_NOT_FOUND, "reward.terms names \"command\", but reward.command is empty: set it to the program");
	} else {
		char known[512] = "length, command";
		for (uint32_t i = 0; i < n; i++)
			for (uint32_t k = 0; k < given[i]->terms; k++) {
				size_t at = strlen(known);
				snprintf(known + at, sizeof known - at, ", %s", given[i]->term_name[k]);
			}
		rc = err_set(e, ERR_NOT_FOUND, "reward.terms names \"%s\", which nothing here gives; known are %s", name, known);
	}
	if (rc < 0) return rc;
	s->from[t].part = (uint32_t)add_part(s, own, 1);
	s->from[t].term = 0;
	return 0;
}

/* One part's own version, or a hash over all of them in the order of the terms. Where one is a learned model, what its version
 * begins with stays readable before half of that hash: a stored score says which model gave it. */
static void name_version(const struct scorer *sc, const struct sum *s, const char (*of)[GROUP_VERSION], char version[GROUP_VERSION])
{
	if (s->parts == 1) {
		memcpy(version, of[0], GROUP_VERSION);
		return;
	}
	char hex[HASH_HEX];
	struct hash_stream *h = hash_stream_open();
	for (uint32_t t = 0; t < sc->terms; t++) {
		const char *v = of[s->from[t].part];
		hash_stream_add(h, sc->term_name[t], strlen(sc->term_name[t]) + 1);
		hash_stream_add(h, v, strlen(v) + 1);
	}
	hash_stream_finish(h, hex);
	const char *model = NULL;
	for (uint32_t i = 0; i < s->parts; i++)
		if (!strcmp(s->part[i].scorer->name, "model")) model = of[i];
	if (model) snprintf(version, GROUP_VERSION, "%.22s+%.16s", model, hex);
	else snprintf(version, GROUP_VERSION, "terms-%s", hex);
}

static int sum_version_at(void *self, uint64_t step, char version[GROUP_VERSION], struct err *e)
{
	struct sum *s = self;
	char of[GROUP_TERMS_MAX][GROUP_VERSION];
	for (uint32_t p = 0; p < s->parts; p++) {
		const struct scorer *sc = s->part[p].scorer;
		memcpy(of[p], sc->version, GROUP_VERSION);
		int rc = sc->version_at ? sc->version_at(sc->self, step, of[p], e) : 0;
		if (rc < 0) return rc;
	}
	name_version(s->whole, s, of, version);
	return 0;
}

int scorer_terms_open(struct scorer **out, const struct reward_terms *terms, struct scorer *const *given, uint32_t n,
                      const char *command, double timeout_seconds, struct err *e)
{
	int rc = 0;
	struct scorer *sc = calloc(1, sizeof *sc);
	struct sum *s = calloc(1, sizeof *s);
	*out = NULL;
	if (!sc || !s) {
		free(sc);
		free(s);
		return err_set(e, ERR_MEMORY, "no memory for a scorer");
	}
	sc->self = s;
	s->whole = sc;
	strcpy(sc->name, "terms");
	sc->score = sum_score;
	sc->close = sum_close;
	for (uint32_t t = 0; t < terms->count; t++) {
		TRY(find_term(s, t, terms->name[t], given, n, command, timeout_seconds, e));
		memcpy(sc->term_name[t], terms->name[t], GROUP_TERM_NAME);
		sc->terms++;
	}
	char of[GROUP_TERMS_MAX][GROUP_VERSION];
	for (uint32_t p = 0; p < s->parts; p++) {
		memcpy(of[p], s->part[p].scorer->version, GROUP_VERSION);
		if (s->part[p].scorer->version_at) sc->version_at = sum_version_at;
	}
	name_version(sc, s, of, sc->version);
out:
	if (rc == 0) *out = sc;
	else sum_close(sc);
	return rc;
}
