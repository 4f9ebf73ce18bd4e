/* safetensors: reading by mapping, writing byte for byte as the reference does.
 *
 * A file is u64 header length, JSON header, data. The reader maps it and hands
 * out pointers into the mapping, so a checkpoint of any size opens at once and
 * is paged in by use. It refuses what the format's reference implementation
 * refuses (model-format rules: no hole, no overlap, no trailing bytes, header of
 * at most 100 MB, every size with overflow checks, no name twice), more than
 * SAFETENSORS_DIMS dimensions and JSON deeper or wider than a header can be, so
 * that a hostile header costs little memory. Every message names the file, the
 * tensor and the reason.
 *
 * The format does not promise alignment: `data` of a foreign file may lie at any
 * byte. Read through safetensors_read_f32 or memcpy.
 *
 * The writer orders tensors as the reference does (type, then name), so equal
 * content gives equal bytes whoever writes it. It never writes over a file in
 * place: a process that has mapped the old one keeps the old one. */
#ifndef TENFOLD_POLICY_SAFETENSORS_H
#define TENFOLD_POLICY_SAFETENSORS_H

#include "core/base/err.h"
#include "core/base/hash.h"

#include <stddef.h>
#include <stdint.h>

enum { SAFETENSORS_DIMS = 8 };

/* In the reference's order, which is the order of the data backwards. */
enum safetensors_dtype {
	SAFETENSORS_BOOL,
	SAFETENSORS_U8,
	SAFETENSORS_I8,
	SAFETENSORS_F8_E5M2,
	SAFETENSORS_F8_E4M3,
	SAFETENSORS_I16,
	SAFETENSORS_U16,
	SAFETENSORS_F16,
	SAFETENSORS_BF16,
	SAFETENSORS_I32,
	SAFETENSORS_U32,
	SAFETENSORS_F32,
	SAFETENSORS_F64,
	SAFETENSORS_I64,
	SAFETENSORS_U64,
	SAFETENSORS_DTYPES
};

struct safetensors;

struct safetensors_tensor {
	const char *name;
	const char *file;          /* path of the file it is in */
	enum safetensors_dtype dtype;
	int ndim;                  /* 0: a scalar */
	int64_t shape[SAFETENSORS_DIMS];
	int64_t elements;          /* product of the shape; 0 when a dimension is 0 */
	const unsigned char *data; /* row-major, little-endian, at any alignment; never NULL */
	size_t bytes;
};

/* "F32" and so on; bytes of one element; the dtype of a name or -1. */
const char *safetensors_dtype_name(enum safetensors_dtype dtype);
size_t safetensors_dtype_bytes(enum safetensors_dtype dtype);
int safetensors_dtype_find(const char *name);

/* Opens one file. ERR_NOT_FOUND when it is missing, ERR_FORMAT when it is refused. */
int safetensors_open(struct safetensors **out, const char *path, struct err *e);
/* Opens a model folder as one: model.safetensors, or the shards that model.safetensors.index.json names. Refuses file
 * names with a path in them, a tensor that its shard lacks, and one that the index does not list in its shard. */
int safetensors_open_folder(struct safetensors **out, const char *folder, struct err *e);
/* Unmaps: every pointer got from it ends here. NULL is fine. */
void safetensors_close(struct safetensors *s);

/* Tensors in the order of the data, shard after shard. */
size_t safetensors_count(const struct safetensors *s);
const struct safetensors_tensor *safetensors_at(const struct safetensors *s, size_t i);
/* NULL when there is none. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name);
/* The tensor, which must be there with this shape: else ERR_NOT_FOUND, or ERR_MISMATCH naming both shapes. */
int safetensors_expect(const struct safetensors *s, const char *name, int ndim, const int64_t *shape,
	const struct safetensors_tensor **out, struct err *e);
/* Value of a key of __metadata__, NULL when there is none (of several shards the first that has it). */
const char *safetensors_metadata(const struct safetensors *s, const char *key);
/* Converts F32, F16, BF16 or F64 to out [elements]: exact, but for F64, which is rounded. ERR_FORMAT for other types. */
int safetensors_read_f32(const struct safetensors_tensor *t, float *out, struct err *e);

struct safetensors_entry {
	const char *name;          /* UTF-8, not empty, not "__metadata__", unique */
	enum safetensors_dtype dtype;
	int ndim;
	int64_t shape[SAFETENSORS_DIMS];
	const void *data;          /* may be NULL when there are no elements */
};

struct safetensors_pair {
	const char *key, *value;
};

/* Writes a file: streamed to a temp file beside it, renamed when complete. metadata (pairs may be 0: none) is written in
 * the order given; models carry {"format", "pt"}. durable: fsync of file and folder, for what must survive power loss by
 * itself; a checkpoint syncs its files at its end, published weights need none. hash_hex (may be NULL): hash of the whole
 * file. ERR_RANGE for entries that cannot be written, ERR_IO when the disk refuses; then nothing is left behind. */
int safetensors_write(const char *path, const struct safetensors_entry *entries, size_t n,
	const struct safetensors_pair *metadata, size_t pairs, int durable, char hash_hex[HASH_HEX], struct err *e);

#endif
