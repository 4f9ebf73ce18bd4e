/* The external command as a scorer; see scorer.h. Writing and reading are
 * interleaved by poll, so that a program that answers line by line and one that
 * reads all first both work, whatever the pipes hold. The protocol is in
 * docs/messages.md. */
#include "core/base/fault.h"
#include "core/base/fs.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "reward/child.h"
#include "reward/scorer.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ATTEMPTS = 3, LINE_MAX_BYTES = 1 << 20, ID_BYTES = 64 };

struct text {
	char *data;
	size_t bytes, capacity;
};

struct command {
	char *line; /* as configured */
	double timeout;
	struct child child;
	uint64_t lines;     /* read since its start */
	struct text input;  /* to be written, from `written` */
	size_t written;
	struct text output; /* read, not yet a line */
};

/* One call's view: what is asked and what has come. */
struct round {
	const struct group *const *groups;
	uint32_t n, open;
	float *out;
	char *done; /* [n] */
};

static int text_add(struct text *t, const char *data, size_t n)
{
	if (t->capacity - t->bytes < n) {
		size_t want = (t->bytes + n) * 2;
		char *p = realloc(t->data, want);
		if (!p) return -1;
		t->data = p;
		t->capacity = want;
	}
	if (n) memcpy(t->data + t->bytes, data, n);
	t->bytes += n;
	return 0;
}

static json_t *json_text(const char *s)
{
	json_t *j = json_string(s);
	if (j) return j;
	size_t n = strlen(s);
	char *clean = malloc(3 * n + 1);
	if (!clean) return NULL;
	text_clean(s, n, clean, 3 * n + 1);
	j = json_string(clean);
	free(clean);
	return j;
}

/* "STEP/SLOT", with "#i" when a group before it in the round has the same. */
static void line_id(char id[ID_BYTES], const struct round *r, uint32_t i)
{
	const struct group *g = r->groups[i];
	int n = snprintf(id, ID_BYTES, "%llu/%u", (unsigned long long)g->step, g->slot);
	for (uint32_t k = 0; k < i; k++)
		if (r->groups[k]->step == g->step && r->groups[k]->slot == g->slot) {
			snprintf(id + n, ID_BYTES - (size_t)n, "#%u", i);
			return;
		}
}

static int add_line(struct command *c, const struct round *r, uint32_t i, struct err *e)
{
	const struct group *g = r->groups[i];
	char id[ID_BYTES];
	line_id(id, r, i);
	json_t *all = json_object(), *list = json_array();
	int bad = !all || !list;
	for (uint32_t k = 0; k < g->size; k++) bad |= json_array_append_new(list, json_text(g->text[k]));
	bad |= json_object_set_new(all, "id", json_string(id));
	bad |= json_object_set_new(all, "prompt", json_text(g->prompt_text));
	bad |= json_object_set_new(all, "completions", list);
	char *s = bad ? NULL : json_dumps(all, JSON_COMPACT);
	bad = !s || text_add(&c->input, s, strlen(s)) || text_add(&c->input, "\n", 1);
	free(s);
	json_decref(all);
	return bad ? err_set(e, ERR_MEMORY, "no memory for the line of group %s", id) : 0;
}

static int bad_line(struct command *c, const char *line, size_t n, struct err *e, const char *what)
{
	char shown[81];
	text_clean(line, n, shown, sizeof shown);
	return err_set(e, ERR_FORMAT, "line %llu of the output of \"%s\": %s: %s%s", (unsigned long long)c->lines, c->line, what, shown,
	               n > 80 ? "…" : "");
}

static int take_scores(struct command *c, struct round *r, uint32_t i, const json_t *scores, const char *line, size_t n,
                       struct err *e)
{
	char what[96];
	const struct group *g = r->groups[i];
	float *out = r->out;
	for (uint32_t k = 0; k < i; k++) out += r->groups[k]->size;
	if (!json_is_array(scores) || json_array_size(scores) != g->size) {
		snprintf(what, sizeof what, "\"scores\" is not a list of %u numbers", g->size);
		return bad_line(c, line, n, e, what);
	}
	for (uint32_t k = 0; k < g->size; k++) {
		const json_t *v = json_array_get(scores, k);
		double x = json_number_value(v);
		if (!json_is_number(v) || !isfinite((float)x)) {
			snprintf(what, sizeof what, "score %u is not a finite number", k);
			return bad_line(c, line, n, e, what);
		}
		out[k] = (float)x;
	}
	r->done[i] = 1;
	r->open--;
	return 0;
}

static int take_line(struct command *c, struct round *r, const char *line, size_t n, struct err *e)
{
	json_error_t je;
	char id[ID_BYTES];
	int rc;
	c->lines++;
	json_t *j = json_loadb(line, n, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(j)) {
		rc = bad_line(c, line, n, e, "it is not one JSON object");
		goto out;
	}
	const char *got = json_string_value(json_object_get(j, "id"));
	uint32_t i = r->n;
	for (uint32_t k = 0; got && k < r->n && i == r->n; k++) {
		line_id(id, r, k);
		if (!r->done[k] && strcmp(id, got) == 0) i = k;
	}
	rc = i == r->n ? bad_line(c, line, n, e, "its \"id\" is none of those that are open")
	               : take_scores(c, r, i, json_object_get(j, "scores"), line, n, e);
out:
	json_decref(j);
	return rc;
}

/* Reads what is there: 1 for something, 0 for the end of the output, or an error. */
static int read_lines(struct command *c, struct round *r, struct err *e)
{
	char buf[65536];
	ssize_t n = read(c->child.out, buf, sizeof buf);
	if (n < 0) return errno == EAGAIN || errno == EINTR ? 1 : 0;
	if (n == 0) return 0;
	if (text_add(&c->output, buf, (size_t)n)) return err_set(e, ERR_MEMORY, "no memory for the output of \"%s\"", c->line);
	size_t at = 0;
	for (char *nl; (nl = memchr(c->output.data + at, '\n', c->output.bytes - at)) != NULL;) {
		size_t len = (size_t)(nl - c->output.data) - at;
		int rc = take_line(c, r, c->output.data + at, len, e);
		if (rc < 0) return rc;
		at += len + 1;
	}
	memmove(c->output.data, c->output.data + at, c->output.bytes - at);
	c->output.bytes -= at;
	if (c->output.bytes > LINE_MAX_BYTES) return bad_line(c, c->output.data, c->output.bytes, e, "it is longer than 1 MiB");
	return 1;
}

/* Writes and reads until all groups are scored (1), the program ends or hangs (0, *why), or a line is wrong. */
static int talk(struct command *c, struct round *r, const char **why, struct err *e)
{
	double last = fs_now();
	while (r->open > 0) {
		struct pollfd p[2] = {{.fd = c->child.out, .events = POLLIN}, {.fd = -1, .events = POLLOUT}};
		if (c->written < c->input.bytes) p[1].fd = c->child.in;
		double left = last + c->timeout - fs_now();
		if (left <= 0) {
			*why = "gave no line in time";
			return 0;
		}
		int k = poll(p, 2, left > 3600 ? 3600000 : (int)(left * 1000) + 1);
		if (k <= 0) continue;
		if (p[1].revents) {
			ssize_t n = child_write(&c->child, c->input.data + c->written, c->input.bytes - c->written);
			FAULT_POINT("command.after_write", "groups, or a part of one, are written to the reward command");
			if (n > 0) c->written += (size_t)n;
			else if (n < 0 && errno != EAGAIN && errno != EINTR) c->written = c->input.bytes; /* it reads no more; its output may still come */
		}
		if (!p[0].revents) continue;
		uint32_t before = r->open;
		FAULT_POINT("command.before_read", "the reward command has written a line, or a part of one");
		int rc = read_lines(c, r, e);
		if (rc < 0) return rc;
		if (rc == 0) {
			*why = "ended";
			return 0;
		}
		if (r->open != before) last = fs_now();
	}
	return 1;
}

static int start_round(struct command *c, const struct round *r, struct err *e)
{
	int rc = 0;
	if (!c->child.guard) {
		c->lines = 0;
		c->output.bytes = 0;
		TRY(child_start(&c->child, c->line, e));
	}
	c->input.bytes = c->written = 0;
	for (uint32_t i = 0; i < r->n; i++)
		if (!r->done[i]) TRY(add_line(c, r, i, e));
out:
	return rc;
}

static int command_score(void *self, const struct group *const *groups, uint32_t n, float *out, struct err *e)
{
	struct command *c = self;
	struct round r = {.groups = groups, .n = n, .open = n, .out = out, .done = calloc(n ? n : 1, 1)};
	const char *why = "";
	int rc = r.done ? 0 : err_set(e, ERR_MEMORY, "no memory for %u groups", n);
	for (int attempt = 0; rc == 0 && r.open > 0 && attempt < ATTEMPTS; attempt++) {
		rc = start_round(c, &r, e);
		if (rc == 0) rc = talk(c, &r, &why, e);
		if (rc == 1) break;
		child_stop(&c->child); /* hanging, gone, or in a state we do not understand */
		if (rc == 0) log_warn("the reward command \"%s\" %s with %u groups open, attempt %d of %d", c->line, why, r.open, attempt + 1, ATTEMPTS);
	}
	if (rc == 0 && r.open > 0) {
		uint32_t i = 0;
		while (r.done[i]) i++;
		rc = err_set(e, ERR_NET, "the reward command \"%s\" %s %d times, at group %llu/%u (prompt %u); try it by hand with a line as in docs/messages.md",
		             c->line, why, ATTEMPTS, (unsigned long long)groups[i]->step, groups[i]->slot, groups[i]->prompt);
	}
	free(r.done);
	return rc < 0 ? rc : 0;
}

static void command_close(struct scorer *s)
{
	struct command *c = s->self;
	child_stop(&c->child);
	free(c->input.data);
	free(c->output.data);
	free(c->line);
	free(c);
	free(s);
}

/* Hash of the command and of every regular file that one of its words names, so that an edited script is another
 * version. */
static void name_version(struct scorer *s, const char *command)
{
	char hex[HASH_HEX], word[4096];
	struct hash_stream *h = hash_stream_open();
	hash_stream_add(h, command, strlen(command));
	for (const char *p = command; *p;) {
		size_t n = strcspn(p, " \t\n");
		if (n && n < sizeof word) {
			memcpy(word, p, n);
			word[n] = 0;
			struct stat st;
			char *data = NULL;
			size_t bytes;
			if (strchr(word, '/') && stat(word, &st) == 0 && S_ISREG(st.st_mode) && fs_read(word, 64 << 20, &data, &bytes, NULL) == 0)
				hash_stream_add(h, data, bytes);
			free(data);
		}
		p += n;
		p += strspn(p, " \t\n");
	}
	hash_stream_finish(h, hex);
	snprintf(s->version, sizeof s->version, "command-%.24s", hex);
}

int scorer_command_open(struct scorer **out, const char *command, double timeout_seconds, struct err *e)
{
	struct scorer *s = calloc(1, sizeof *s);
	struct command *c = calloc(1, sizeof *c);
	char *line = strdup(command);
	*out = NULL;
	if (!s || !c || !line) {
		free(s);
		free(c);
		free(line);
		return err_set(e, ERR_MEMORY, "no memory for the reward command");
	}
	c->line = line;
	c->timeout = timeout_seconds > 0 ? timeout_seconds : 60;
	s->self = c;
	strcpy(s->name, "command");
	s->terms = 1;
	strcpy(s->term_name[0], "command");
	name_version(s, command);
	s->score = command_score;
	s->close = command_close;
	*out = s;
	return 0;
}
