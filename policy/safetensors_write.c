/* Writing a safetensors file; see safetensors.h. Equal to the reference
 * implementation byte for byte: tensors by dtype backwards, then by name; compact
 * JSON with __metadata__ first; padded with spaces to 8. Data goes from the
 * caller's memory to the file in pieces small enough that the hash has just
 * brought them into the cache when the kernel copies them. The room is asked for
 * first: a full disk is noticed before anything is written, and the file system
 * lays out the file once (measured on ext4: 60 MB in 9 ms of processor time
 * instead of 12). */
#include "core/base/fault.h"
#include "core/base/text.h"
#include "policy/safetensors_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PIECE = 1 << 20, PARTS = 256 };

struct placed {
	const struct safetensors_entry *entry;
	size_t bytes;
};

static int by_order(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;
	if (x->entry->dtype != y->entry->dtype) return x->entry->dtype > y->entry->dtype ? -1 : 1;
	return strcmp(x->entry->name, y->entry->name);
}

static int by_name(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;
	return strcmp(x->entry->name, y->entry->name);
}

static int is_utf8(const char *text)
{
	size_t n = strlen(text);
	char *clean = malloc(3 * n + 1);
	CHECK(clean, "out of memory for a name of %zu bytes", n);
	text_clean(text, n, clean, 3 * n + 1);
	int same = !strcmp(clean, text);
	free(clean);
	return same;
}

/* Checks the entries and puts them in order. */
static int place(struct placed *list, const struct safetensors_entry *entries, size_t n, const char *path, struct err *e)
{
	char name[SAFETENSORS_SHOWN];
	for (size_t i = 0; i < n; i++) {
		const struct safetensors_entry *t = &entries[i];
		int64_t elements;
		CHECK(t->dtype < SAFETENSORS_DTYPES && t->ndim >= 0 && t->ndim <= SAFETENSORS_DIMS, "%s: dtype %d, %d dimensions", t->name, (int)t->dtype, t->ndim);
		list[i].entry = t;
		if (!*t->name || !strcmp(t->name, "__metadata__") || !is_utf8(t->name))
			return err_set(e, ERR_RANGE, "%s: tensor `%s`: not a possible name", path, safetensors_show(name, t->name));
		if (safetensors_sizes(t->dtype, t->ndim, t->shape, &elements, &list[i].bytes) < 0)
			return err_set(e, ERR_RANGE, "%s: tensor %s: its shape is negative or overflows", path, safetensors_show(name, t->name));
		CHECK(t->data || !list[i].bytes, "%s: no data", t->name);
	}
	qsort(list, n, sizeof *list, by_name);
	for (size_t i = 1; i < n; i++)
		if (!strcmp(list[i - 1].entry->name, list[i].entry->name))
			return err_set(e, ERR_RANGE, "%s: tensor %s: given twice", path, safetensors_show(name, list[i].entry->name));
	qsort(list, n, sizeof *list, by_order);
	return 0;
}

static void json_text(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		const char *brief = strchr("\bb\ff\nn\rr\tt\"\"\\\\", c);
		if (c == '"' || c == '\\' || (c < ' ' && brief)) fprintf(f, "\\%c", brief[1]);
		else if (c < ' ') fprintf(f, "\\u%04x", c);
		else fputc(c, f);
	}
	fputc('"', f);
}

/* The length field and the header, padded, in *out (malloc'ed). */
static int header_make(char **out, size_t *bytes, const struct placed *list, size_t n, const struct safetensors_pair *metadata, size_t pairs)
{
	static const char spaces[8] = "       ";
	size_t at = 0;
	FILE *f = open_memstream(out, bytes);
	if (!f) return ERR_MEMORY;
	fwrite(spaces, 1, 8, f);
	fputc('{', f);
	for (size_t i = 0; i < pairs; i++) {
		fputs(i ? "," : "\"__metadata__\":{", f);
		json_text(f, metadata[i].key);
		fputc(':', f);
		json_text(f, metadata[i].value);
	}
	if (pairs) fputs(n ? "}," : "}", f);
	for (size_t i = 0; i < n; i++) {
		const struct safetensors_entry *t = list[i].entry;
		if (i) fputc(',', f);
		json_text(f, t->name);
		fprintf(f, ":{\"dtype\":\"%s\",\"shape\":[", safetensors_dtype_name(t->dtype));
		for (int k = 0; k < t->ndim; k++) fprintf(f, "%s%lld", k ? "," : "", (long long)t->shape[k]);
		fprintf(f, "],\"data_offsets\":[%zu,%zu]}", at, at + list[i].bytes);
		at += list[i].bytes;
	}
	fputc('}', f);
	fflush(f);
	fwrite(spaces, 1, (8 - *bytes % 8) % 8, f);
	if (ferror(f) | fclose(f)) return ERR_MEMORY;
	uint64_t length = *bytes - 8;
	for (int i = 0; i < 8; i++) (*out)[i] = (char)(length >> 8 * i);
	return 0;
}

/* Where bytes go: gathered from the caller's memory until a piece is full. */
struct sink {
	int fd, count;
	size_t bytes; /* waiting, in `part` */
	struct hash_stream *hash; /* NULL: not wanted */
	struct iovec part[PARTS];
};

static int sink_flush(struct sink *s)
{
	struct iovec *v = s->part;
	while (s->bytes) {
		ssize_t k = writev(s->fd, v, s->count);
		if (k < 0 && errno == EINTR) continue;
		if (k <= 0) return -1;
		s->bytes -= (size_t)k;
		for (; k && (size_t)k >= v->iov_len; v++, s->count--) k -= (ssize_t)v->iov_len;
		if (k) *v = (struct iovec){(char *)v->iov_base + k, v->iov_len - (size_t)k};
	}
	s->count = 0;
	return 0;
}

static int sink_add(struct sink *s, const void *data, size_t bytes)
{
	const char *p = data;
	while (bytes) {
		size_t piece = bytes < PIECE - s->bytes ? bytes : PIECE - s->bytes;
		if (s->hash) hash_stream_add(s->hash, p, piece);
		s->part[s->count++] = (struct iovec){(void *)(uintptr_t)p, piece};
		s->bytes += piece;
		if ((s->bytes == PIECE || s->count == PARTS) && sink_flush(s) != 0) return -1;
		p += piece;
		bytes -= piece;
	}
	return 0;
}

static int put_all(int fd, struct hash_stream *hash, const char *header, size_t header_bytes, const struct placed *list, size_t n,
	const char *tmp, struct err *e)
{
	struct sink sink = {.fd = fd, .hash = hash};
	off_t total = (off_t)header_bytes;
	int rc = FAULT_ERROR("safetensors.before_write", "the temporary file is there, empty", e), bad;
	if (rc < 0) return rc;
	for (size_t i = 0; i < n; i++) total += (off_t)list[i].bytes;
	if (fallocate(fd, 0, 0, total) != 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
		return err_set(e, ERR_IO, "cannot write the %lld bytes of %s: %s", (long long)total, tmp, strerror(errno));
	bad = sink_add(&sink, header, header_bytes) != 0;
	for (size_t i = 0; i < n && !bad; i++) {
		FAULT_POINT("safetensors.before_tensor", "some tensors are written");
		bad = sink_add(&sink, list[i].entry->data, list[i].bytes) != 0;
	}
	if (bad || sink_flush(&sink) != 0) return err_set(e, ERR_IO, "cannot write %s: %s", tmp, strerror(errno));
	return FAULT_ERROR("safetensors.after_write", "all is written, nothing synced", e);
}

static int folder_sync(const char *path, struct err *e)
{
	char folder[PATH_MAX];
	snprintf(folder, sizeof folder, "%s", path);
	char *slash = strrchr(folder, '/');
	if (!slash) return fs_sync_dir(".", e);
	slash[slash == folder] = 0;
	return fs_sync_dir(folder, e);
}

/* Temp file, data, rename. */
static int write_file(const char *path, const char *header, size_t header_bytes, const struct placed *list, size_t n, int durable,
	struct hash_stream *hash, struct err *e)
{
	char tmp[PATH_MAX];
	int rc = 0;
	if (snprintf(tmp, sizeof tmp, "%s.tmp.%d", path, (int)getpid()) >= (int)sizeof tmp) return err_set(e, ERR_RANGE, "path too long: %s", path);
	if (unlink(tmp) != 0 && errno != ENOENT) return err_set(e, ERR_IO, "cannot replace %s: %s", tmp, strerror(errno));
	int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0) return err_set(e, ERR_IO, "cannot create %s: %s", tmp, strerror(errno));
	TRY(put_all(fd, hash, header, header_bytes, list, n, tmp, e));
	if (durable && fsync(fd) != 0) {
		rc = err_set(e, ERR_IO, "cannot sync %s: %s", tmp, strerror(errno));
		goto out;
	}
	FAULT_POINT("safetensors.before_rename", "synced where that was asked, not renamed");
	if (rename(tmp, path) != 0) rc = err_set(e, ERR_IO, "cannot rename %s to %s: %s", tmp, path, strerror(errno));
	FAULT_POINT("safetensors.after_rename", "renamed, the folder not synced");
out:
	if (close(fd) != 0 && rc == 0) rc = err_set(e, ERR_IO, "cannot write %s: %s", path, strerror(errno));
	if (rc < 0) unlink(tmp);
	else if (durable) rc = folder_sync(path, e);
	return rc;
}

int safetensors_write(const char *path, const struct safetensors_entry *entries, size_t n, const struct safetensors_pair *metadata,
	size_t pairs, int durable, char hash_hex[HASH_HEX], struct err *e)
{
	char *header = NULL, unused[HASH_HEX];
	size_t header_bytes = 0;
	int rc = 0;
	struct hash_stream *hash = NULL;
	struct placed *list = calloc(n + 1, sizeof *list);
	CHECK(list, "out of memory for the list of %zu tensors", n);
	TRY(place(list, entries, n, path, e));
	if (header_make(&header, &header_bytes, list, n, metadata, pairs) < 0) {
		rc = err_set(e, ERR_MEMORY, "no memory for the header of %s", path);
		goto out;
	}
	if (hash_hex) hash = hash_stream_open();
	rc = write_file(path, header, header_bytes, list, n, durable, hash, e);
out:
	if (hash) hash_stream_finish(hash, rc < 0 ? unused : hash_hex);
	free(header);
	free(list);
	return rc;
}
