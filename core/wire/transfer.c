/* Chunked file transfer; see transfer.h. Four chunks are under way at a time:
 * enough to fill a link of 10 Gbit/s and 1.5 ms, little enough to bound memory. */
#include "core/wire/transfer.h"

#include "core/base/fault.h"
#include "core/base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WINDOW = 4, SILENCES = 3, ATTEMPTS = 3 };

struct transfer {
	char path[PATH_MAX], part[PATH_MAX + 8];
	char hash[HASH_HEX];
	uint64_t version, bytes;
	uint64_t have, asked; /* bytes written; bytes asked for */
	int fd, done;
	struct hash_stream *stream;
};

void transfer_answer(struct message *reply, const struct message *get, const char *run, uint64_t version,
                     const char hash[HASH_HEX], const void *file, uint64_t bytes)
{
	const struct message_weights_get *g = &get->weights_get;
	struct err e;
	CHECK(get->type == MESSAGE_WEIGHTS_GET, "transfer_answer of a message %s", message_type_name(get->type));
	if (g->version != version || strcmp(g->hash, hash) != 0 || g->offset > bytes) {
		err_set(&e, ERR_NOT_FOUND, "weights version %llu (%s) at byte %llu are not here; version %llu (%s) has %llu bytes",
		        (unsigned long long)g->version, g->hash, (unsigned long long)g->offset, (unsigned long long)version, hash,
		        (unsigned long long)bytes);
		message_refuse(reply, get, run, &e);
		reply->refuse.step = g->version;
		return;
	}
	uint64_t n = bytes - g->offset;
	if (n > g->bytes) n = g->bytes;
	if (n > TRANSFER_CHUNK) n = TRANSFER_CHUNK;
	message_init(reply, MESSAGE_WEIGHTS_CHUNK, run);
	reply->weights_chunk = (struct message_weights_chunk){
		.version = version, .offset = g->offset, .total = bytes, .data = (const char *)file + g->offset, .bytes = n};
	hash_bytes(reply->weights_chunk.data, n, reply->weights_chunk.hash);
}

int transfer_open(struct transfer **out, const char *path, uint64_t version, const char hash[HASH_HEX], uint64_t bytes,
                  struct err *e)
{
	*out = NULL;
	if (bytes == 0 || strlen(path) >= PATH_MAX)
		return err_set(e, ERR_RANGE, "weights of %llu bytes cannot be fetched to a path of %zu", (unsigned long long)bytes, strlen(path));
	struct transfer *t = calloc(1, sizeof *t);
	if (!t) return err_set(e, ERR_MEMORY, "no memory to fetch %s", path);
	strcpy(t->path, path);
	snprintf(t->part, sizeof t->part, "%s.part", path);
	memcpy(t->hash, hash, HASH_HEX);
	t->version = version;
	t->bytes = bytes;
	t->stream = hash_stream_open();
	t->fd = open(t->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (t->fd < 0) {
		int rc = err_set(e, ERR_IO, "cannot create %s: %s", t->part, strerror(errno));
		transfer_close(t);
		return rc;
	}
	*out = t;
	return 0;
}

int transfer_ask(struct transfer *t, struct message_weights_get *get)
{
	if (t->done || t->asked >= t->bytes || t->asked - t->have >= (uint64_t)WINDOW * TRANSFER_CHUNK) return 0;
	uint64_t n = t->bytes - t->asked;
	*get = (struct message_weights_get){.version = t->version, .offset = t->asked, .bytes = n < TRANSFER_CHUNK ? n : TRANSFER_CHUNK};
	memcpy(get->hash, t->hash, HASH_HEX);
	t->asked += get->bytes;
	return 1;
}

static int finish(struct transfer *t, struct err *e)
{
	char hash[HASH_HEX], folder[PATH_MAX];
	hash_stream_finish(t->stream, hash);
	t->stream = NULL;
	if (strcmp(hash, t->hash) != 0)
		return err_set(e, ERR_MISMATCH, "weights version %llu arrived with hash %s instead of %s: fetch them again",
		               (unsigned long long)t->version, hash, t->hash);
	int bad = fsync(t->fd) != 0;
	FAULT_POINT("transfer.before_rename", "fetched weights are whole and synced, not renamed");
	if (bad || rename(t->part, t->path) != 0) return err_set(e, ERR_IO, "cannot finish %s: %s", t->path, strerror(errno));
	FAULT_POINT("transfer.after_rename", "fetched weights are in their place, the folder not synced");
	t->done = 1;
	strcpy(folder, t->path);
	char *slash = strrchr(folder, '/');
	if (slash) slash[slash == folder] = 0;
	int rc = fs_sync_dir(slash ? folder : ".", e);
	return rc < 0 ? rc : 1;
}

int transfer_take(struct transfer *t, const struct message_weights_chunk *c, struct err *e)
{
	char hash[HASH_HEX];
	if (t->done || c->version != t->version || c->offset != t->have || c->bytes == 0) return 0;
	if (c->total != t->bytes || c->bytes > t->bytes - t->have)
		return err_set(e, ERR_MISMATCH, "weights version %llu: the sender's file has %llu bytes, the lease said %llu",
		               (unsigned long long)t->version, (unsigned long long)c->total, (unsigned long long)t->bytes);
	hash_bytes(c->data, c->bytes, hash);
	if (strcmp(hash, c->hash) != 0)
		return err_set(e, ERR_MISMATCH, "weights version %llu: the chunk at byte %llu was damaged on the way", (unsigned long long)t->version,
		               (unsigned long long)c->offset);
	for (size_t at = 0; at < c->bytes;) {
		ssize_t n = write(t->fd, (const char *)c->data + at, c->bytes - at);
		if (n < 0 && errno == EINTR) continue;
		if (n < 0) return err_set(e, ERR_IO, "cannot write %s: %s", t->part, strerror(errno));
		at += (size_t)n;
	}
	FAULT_POINT("transfer.after_chunk", "a chunk of the weights is written");
	hash_stream_add(t->stream, c->data, c->bytes);
	t->have += c->bytes;
	if (t->asked < t->have) t->asked = t->have;
	return t->have == t->bytes ? finish(t, e) : 0;
}

void transfer_retry(struct transfer *t)
{
	t->asked = t->have;
}

void transfer_close(struct transfer *t)
{
	if (!t) return;
	char hash[HASH_HEX];
	if (t->stream) hash_stream_finish(t->stream, hash);
	if (t->fd >= 0) close(t->fd);
	if (t->fd >= 0 && !t->done) unlink(t->part);
	free(t);
}

struct fetch {
	struct wire_socket *socket;
	const char *run;
	struct arena *arena;
	struct message_buffer buffer;
	double seconds;
};

static int send_asks(struct fetch *f, struct transfer *t, struct err *e)
{
	struct message m;
	message_init(&m, MESSAGE_WEIGHTS_GET, f->run);
	while (transfer_ask(t, &m.weights_get)) {
		int rc = message_encode(&f->buffer, &m, e);
		if (rc == 0) rc = wire_send(f->socket, NULL, f->buffer.data, f->buffer.bytes, e);
		if (rc == ERR_TIMEOUT) break; /* comes again after the silence */
		if (rc < 0) return rc;
	}
	return 0;
}

/* Takes one message; 1 done, 0 go on. */
static int take_one(struct fetch *f, struct transfer *t, struct err *e)
{
	struct wire_frame frame;
	struct message m;
	arena_reset(f->arena);
	int rc = wire_receive(f->socket, f->seconds, &frame, e);
	if (rc < 0) return rc == ERR_FORMAT ? 0 : rc;
	rc = message_decode(&m, frame.data, frame.bytes, f->arena, NULL, e);
	if (rc < 0 || message_check_run(&m, f->run, e) < 0) return rc == ERR_MEMORY ? rc : 0;
	if (m.type == MESSAGE_STOP) return err_set(e, ERR_STOPPED, "the learner says stop");
	if (m.type == MESSAGE_REFUSE && strcmp(m.refuse.about, "weights_get") == 0 && m.refuse.step == t->version)
		return err_set(e, ERR_STATE, "refused: %s", m.refuse.reason);
	return m.type == MESSAGE_WEIGHTS_CHUNK ? transfer_take(t, &m.weights_chunk, e) : 0;
}

static int fetch_once(struct fetch *f, struct transfer *t, struct err *e)
{
	for (int silent = 0;;) {
		int rc = send_asks(f, t, e);
		if (rc < 0) return rc;
		rc = take_one(f, t, e);
		if (rc == ERR_TIMEOUT && ++silent < SILENCES) {
			transfer_retry(t);
			continue;
		}
		if (rc != 0) return rc;
		silent = 0;
	}
}

int transfer_fetch(struct wire_socket *s, const char *run, const char *path, uint64_t version,
                   const char hash[HASH_HEX], uint64_t bytes, double seconds, struct err *e)
{
	struct fetch f = {.socket = s, .run = run, .arena = arena_open(0), .seconds = seconds};
	int rc = ERR_MISMATCH;
	for (int attempt = 0; attempt < ATTEMPTS && rc == ERR_MISMATCH; attempt++) {
		struct transfer *t;
		rc = transfer_open(&t, path, version, hash, bytes, e);
		if (rc == 0) rc = fetch_once(&f, t, e);
		transfer_close(t);
	}
	if (rc < 0) err_prefix(e, "fetching weights to %s", path);
	message_buffer_free(&f.buffer);
	arena_close(f.arena);
	return rc < 0 ? rc : 0;
}
