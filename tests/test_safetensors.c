/* safetensors: equal bytes with the reference, every refusal with its reason,
 * nothing read past a damaged file (the sanitizer build watches), nothing left
 * behind by a failed write. Bad files are made from parts: a length field, a
 * header's text, some bytes of data. */
#include "core/base/fault.h"
#include "core/base/fs.h"
#include "policy/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATH = 512 };

static int setup(void **state)
{
	char *dir = strdup("safetensors-test-XXXXXX");
	*state = mkdtemp(dir);
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	struct err e;
	int rc = fs_remove_tree(*state, &e);
	free(*state);
	return rc;
}

static const char *in(char out[PATH], const char *dir, const char *name)
{
	snprintf(out, PATH, "%s/%s", dir, name);
	return out;
}

static void put_file(const char *path, const void *data, size_t bytes)
{
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, bytes, f), bytes);
	assert_int_equal(fclose(f), 0);
}

/* A file of a length field, a header and `bytes` zeros. */
static void put_parts(const char *path, uint64_t n, const char *header, size_t header_bytes, size_t bytes)
{
	size_t total = 8 + header_bytes + bytes;
	unsigned char *file = calloc(1, total);
	for (int i = 0; i < 8; i++) file[i] = (unsigned char)(n >> 8 * i);
	memcpy(file + 8, header, header_bytes);
	put_file(path, file, total);
	free(file);
}

/* Opening must be refused with a message that has each of the words. */
static void refused(const char *path, int code, const char *word1, const char *word2)
{
	struct safetensors *s = NULL;
	struct err e = {0};
	int rc = safetensors_open(&s, path, &e);
	if (rc != code || !strstr(e.msg, word1) || !strstr(e.msg, word2) || !strstr(e.msg, path))
		fail_msg("%d with \"%s\": %d with \"%s\" and \"%s\" expected", rc, e.msg, code, word1, word2);
	assert_null(s);
}

static const float weights[6] = {1, -2, 3.5f, 0, 1e-30f, INFINITY};
static const int64_t steps[1] = {-7};
static const uint8_t flags[3] = {1, 0, 1};
static const uint16_t halves[4] = {0x3F80, 0xC000, 0, 0x7F80};

static const struct safetensors_entry sample[] = {
	{"b.weight", SAFETENSORS_F32, 2, {2, 3}, weights},
	{"a.weight", SAFETENSORS_F32, 1, {3}, weights},
	{"flags", SAFETENSORS_BOOL, 1, {3}, flags},
	{"step", SAFETENSORS_I64, 0, {0}, steps},
	{"half", SAFETENSORS_BF16, 2, {2, 2}, halves},
	{"none", SAFETENSORS_F32, 3, {2, 0, 5}, NULL},
	{"a \"quoted\\ \n\x01 ü", SAFETENSORS_U8, 1, {3}, flags},
};
enum { SAMPLE = sizeof sample / sizeof *sample };
static const struct safetensors_pair sample_metadata[] = {{"format", "pt"}};

/* What safetensors 0.8.0 wrote for the sample (also compared live below where Python has the library). */
static const char sample_header[] =
	"{\"__metadata__\":{\"format\":\"pt\"},"
	"\"step\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
	"\"a.weight\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[8,20]},"
	"\"b.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[20,44]},"
	"\"none\":{\"dtype\":\"F32\",\"shape\":[2,0,5],\"data_offsets\":[44,44]},"
	"\"half\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[44,52]},"
	"\"a \\\"quoted\\\\ \\n\\u0001 ü\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[52,55]},"
	"\"flags\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[55,58]}}";

static void test_write_exact(void **state)
{
	char path[PATH], hash[HASH_HEX], again[HASH_HEX], *data;
	struct err e;
	size_t bytes, n = sizeof sample_header - 1, padded = (n + 7) / 8 * 8;
	assert_int_equal(safetensors_write(in(path, *state, "m.safetensors"), sample, SAMPLE, sample_metadata, 1, 1, hash, &e), 0);
	assert_int_equal(fs_read(path, 1 << 20, &data, &bytes, &e), 0);
	assert_int_equal(bytes, 8 + padded + 58);
	assert_int_equal((unsigned char)data[0] | (unsigned char)data[1] << 8, padded);
	assert_memory_equal(data + 8, sample_header, n);
	for (size_t i = n; i < padded; i++) assert_int_equal(data[8 + i], ' ');
	assert_memory_equal(data + 8 + padded, steps, 8);
	assert_memory_equal(data + 8 + padded + 20, weights, 24);
	hash_bytes(data, bytes, again);
	assert_string_equal(hash, again);
	free(data);
	/* without metadata and tensors */
	assert_int_equal(safetensors_write(path, NULL, 0, NULL, 0, 0, NULL, &e), 0);
	assert_int_equal(fs_read(path, 1 << 20, &data, &bytes, &e), 0);
	assert_int_equal(bytes, 16);
	assert_memory_equal(data, "\x08\0\0\0\0\0\0\0{}      ", 16);
	free(data);
}

static void test_read_back(void **state)
{
	char path[PATH];
	struct safetensors *s;
	const struct safetensors_tensor *t;
	struct err e;
	float out[6];
	assert_int_equal(safetensors_write(in(path, *state, "m.safetensors"), sample, SAMPLE, sample_metadata, 1, 0, NULL, &e), 0);
	assert_int_equal(safetensors_open(&s, path, &e), 0);
	assert_int_equal(safetensors_count(s), SAMPLE);
	assert_string_equal(safetensors_at(s, 0)->name, "step");
	assert_string_equal(safetensors_metadata(s, "format"), "pt");
	assert_null(safetensors_metadata(s, "absent"));
	assert_null(safetensors_find(s, "__metadata__"));
	assert_null(safetensors_find(s, "b.weigh"));
	for (size_t i = 0; i < SAMPLE; i++) {
		t = safetensors_find(s, sample[i].name);
		assert_non_null(t);
		assert_int_equal(t->dtype, sample[i].dtype);
		assert_int_equal(t->ndim, sample[i].ndim);
		assert_string_equal(t->file, path);
		if (t->ndim) assert_memory_equal(t->shape, sample[i].shape, (size_t)t->ndim * sizeof(int64_t));
		if (t->bytes) assert_memory_equal(t->data, sample[i].data, t->bytes);
	}
	assert_int_equal(safetensors_expect(s, "b.weight", 2, (int64_t[]){2, 3}, &t, &e), 0);
	assert_int_equal(safetensors_read_f32(t, out, &e), 0);
	assert_memory_equal(out, weights, sizeof weights);
	assert_int_equal(safetensors_expect(s, "b.weight", 2, (int64_t[]){3, 2}, &t, &e), ERR_MISMATCH);
	assert_non_null(strstr(e.msg, "tensor b.weight has shape [2,3], [3,2] is needed"));
	assert_int_equal(safetensors_expect(s, "c.weight", 1, (int64_t[]){3}, &t, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.msg, "c.weight"));
	assert_int_equal(safetensors_read_f32(safetensors_find(s, "flags"), out, &e), ERR_FORMAT);
	assert_non_null(strstr(e.msg, "BOOL"));
	safetensors_close(s);
	safetensors_close(NULL);
}

/* Every half and every bfloat16, against arithmetic in double. */
static void test_convert(void **state)
{
	enum { ALL = 65536 };
	static uint16_t bits[ALL];
	static float out[ALL];
	struct err e;
	(void)state;
	for (int i = 0; i < ALL; i++) bits[i] = (uint16_t)i;
	struct safetensors_tensor t = {.name = "x", .file = "f", .ndim = 1, .elements = ALL, .data = (void *)bits, .bytes = sizeof bits};
	for (int half = 0; half < 2; half++) {
		int fraction_bits = half ? 10 : 7, bias = half ? 15 : 127, top = half ? 31 : 255;
		t.dtype = half ? SAFETENSORS_F16 : SAFETENSORS_BF16;
		assert_int_equal(safetensors_read_f32(&t, out, &e), 0);
		for (int i = 0; i < ALL; i++) {
			int exponent = i >> fraction_bits & top, fraction = i & ((1 << fraction_bits) - 1);
			double want = exponent ? ldexp(1 + ldexp(fraction, -fraction_bits), exponent - bias) : ldexp(fraction, 1 - bias - fraction_bits);
			if (exponent == top) want = fraction ? (double)NAN : (double)INFINITY;
			if (i >> 15) want = -want;
			if (isnan(want) ? !isnan(out[i]) : (double)out[i] != want || !signbit(out[i]) != !signbit(want)) fail_msg("%04x gives %g, not %g", i, (double)out[i], want);
		}
	}
	double wide[2] = {0.1, -1e300};
	t = (struct safetensors_tensor){.name = "x", .file = "f", .dtype = SAFETENSORS_F64, .ndim = 1, .elements = 2, .data = (void *)wide, .bytes = 16};
	assert_int_equal(safetensors_read_f32(&t, out, &e), 0);
	assert_true(out[0] == 0.1f && isinf(out[1]));
}

#define ENTRY(name, dtype, shape, offsets) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_refusals(void **state)
{
	static const struct {
		const char *header, *word1, *word2;
		size_t bytes;
	} bad[] = {
		{"[]", "does not start with {", "", 0},
		{" {}", "does not start with {", "", 0},
		{"{", "header", "end of", 0},
		{"{}x", "header", "end of file expected", 0},
		{"{\"a\":1}", "tensor a", "not an object", 0},
		{"{" ENTRY("a", "F32", "[1]", "[0,4]") "," ENTRY("a", "F32", "[1]", "[4,8]") "}", "duplicate", "\"a\"", 8},
		{"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", "duplicate", "dtype", 4},
		{"{" ENTRY("a\xff", "F32", "[1]", "[0,4]") "}", "header", "0xff", 4},
		{"{" ENTRY("a\xed\xa0\x80", "F32", "[1]", "[0,4]") "}", "header", "decode", 4},
		{"{" ENTRY("a\\u0000", "F32", "[1]", "[0,4]") "}", "header", "NUL", 4},
		{"{" ENTRY("a", "F33", "[1]", "[0,4]") "}", "tensor a", "unknown dtype F33", 4},
		{"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", "tensor a", "no dtype", 4},
		{"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", "tensor a", "no shape", 4},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", "tensor a", "data_offsets", 4},
		{"{" ENTRY("a", "F32", "[1]", "[0]") "}", "tensor a", "not a pair", 4},
		{"{" ENTRY("a", "F32", "[1]", "[0,4,8]") "}", "tensor a", "not a pair", 4},
		{"{" ENTRY("a", "F32", "[1]", "[0,4.0]") "}", "tensor a", "not a pair", 4},
		{"{" ENTRY("a", "F32", "[-1]", "[0,4]") "}", "tensor a", "dimension 0", 4},
		{"{" ENTRY("a", "F32", "[1.5]", "[0,4]") "}", "tensor a", "dimension 0", 4},
		{"{" ENTRY("a", "F32", "[1]", "[4,0]") "}", "tensor a", "backwards", 4},
		{"{" ENTRY("a", "F32", "[1]", "[-4,0]") "}", "tensor a", "backwards", 4},
		{"{" ENTRY("a", "F32", "[2]", "[0,4]") "}", "tensor a", "need 8", 4},
		{"{" ENTRY("a", "F32", "[4611686018427387904]", "[0,0]") "}", "tensor a", "overflows", 0},
		{"{" ENTRY("a", "F32", "[4294967296,4294967296]", "[0,0]") "}", "tensor a", "overflows", 0},
		{"{" ENTRY("a", "U8", "[4294967296,4294967296,0]", "[0,0]") "}", "tensor a", "overflows", 0},
		{"{" ENTRY("a", "F32", "[18446744073709551616]", "[0,0]") "}", "header", "too big", 0},
		{"{" ENTRY("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", "more dimensions", "8 members", 4},
		{"{" ENTRY("a", "F32", "[[1]]", "[0,4]") "}", "deeper", "", 4},
		{"{\"a\":[[[[[[[[[[]]]]]]]]]]}", "deeper", "", 0},
		{"{" ENTRY("a", "F32", "[2]", "[0,8]") "}", "tensor a", "cut off", 4},
		{"{" ENTRY("a", "F32", "[1]", "[0,4]") "}", "5 bytes follow", "", 9},
		{"{}", "1 bytes follow", "", 1},
		{"{" ENTRY("a", "F32", "[1]", "[4,8]") "}", "tensor a", "a hole", 8},
		{"{" ENTRY("a", "F32", "[1]", "[0,4]") "," ENTRY("b", "F32", "[1]", "[8,12]") "}", "tensor b", "a hole", 12},
		{"{" ENTRY("a", "F32", "[2]", "[0,8]") "," ENTRY("b", "F32", "[1]", "[4,8]") "}", "tensor b", "an overlap", 8},
		{"{" ENTRY("a", "F32", "[1]", "[0,4]") "," ENTRY("b", "F32", "[1]", "[0,4]") "}", "tensor b", "an overlap", 4},
		{"{\"__metadata__\":[]}", "__metadata__", "not an object", 0},
		{"{\"__metadata__\":{\"k\":1}}", "__metadata__", "k is not a string", 0},
	};
	char path[PATH];
	in(path, *state, "bad.safetensors");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		size_t n = strlen(bad[i].header);
		put_parts(path, n, bad[i].header, n, bad[i].bytes);
		refused(path, ERR_FORMAT, bad[i].word1, bad[i].word2);
	}
}

static void test_length_field(void **state)
{
	char path[PATH];
	struct safetensors *s;
	struct err e;
	in(path, *state, "bad.safetensors");
	put_file(path, "", 0);
	refused(path, ERR_FORMAT, "empty", "");
	put_file(path, "1234567", 7);
	refused(path, ERR_FORMAT, "7 bytes are too few", "");
	put_parts(path, 0, "{}", 2, 0);
	refused(path, ERR_FORMAT, "header of 0 bytes", "");
	put_parts(path, UINT64_C(1) << 63, "{}", 2, 0);
	refused(path, ERR_FORMAT, "9223372036854775808", "at most 100000000");
	put_parts(path, UINT64_MAX, "{}", 2, 0);
	refused(path, ERR_FORMAT, "18446744073709551615", "at most 100000000");
	put_parts(path, 100000001, "{}", 2, 0);
	refused(path, ERR_FORMAT, "100000001", "at most 100000000");
	put_parts(path, 3, "{}", 2, 0);
	refused(path, ERR_FORMAT, "cut off", "");
	assert_int_equal(safetensors_open(&s, in(path, *state, "absent"), &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.msg, path));
	assert_int_equal(safetensors_open(&s, *state, &e), ERR_FORMAT);
}

/* What is right must be read, however odd: data at odd addresses, spaces after the header, entries out of order. */
static void test_odd_but_right(void **state)
{
	static const char *const good[] = {
		"{}",
		"{}   \n ",
		"{\"__metadata__\":{}}",
		"{" ENTRY("b", "F32", "[1]", "[4,8]") "," ENTRY("a", "F32", "[]", "[0,4]") "," ENTRY("z", "F64", "[0]", "[4,4]") "}  ",
		"{\"a\":{\"future\":true,\"data_offsets\":[0,8],\"shape\":[1,1,1,1,1,1,2,1],\"dtype\":\"F32\"}}",
	};
	char path[PATH];
	struct safetensors *s;
	struct err e;
	float out[2];
	in(path, *state, "odd.safetensors");
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		put_parts(path, strlen(good[i]), good[i], strlen(good[i]), i >= 3 ? 8 : 0);
		if (safetensors_open(&s, path, &e) != 0) fail_msg("%s", e.msg);
		for (size_t k = 0; k < safetensors_count(s); k++) assert_int_equal(safetensors_read_f32(safetensors_at(s, k), out, &e), 0);
		safetensors_close(s);
	}
}

/* Cut at every byte: refused. A bit flipped anywhere: refused or read, never a crash; all bytes that are handed out lie in
 * the file. */
static void test_cuts_and_flips(void **state)
{
	char path[PATH], *data;
	size_t bytes, opened = 0;
	struct safetensors *s;
	struct err e;
	assert_int_equal(safetensors_write(in(path, *state, "m.safetensors"), sample, SAMPLE, sample_metadata, 1, 0, NULL, &e), 0);
	assert_int_equal(fs_read(path, 1 << 20, &data, &bytes, &e), 0);
	for (size_t n = 0; n < bytes; n++) {
		put_file(path, data, n);
		refused(path, ERR_FORMAT, "", "");
	}
	for (size_t bit = 0; bit < 8 * bytes; bit++) {
		data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
		put_file(path, data, bytes);
		if (safetensors_open(&s, path, &e) == 0) {
			unsigned sum = 0;
			for (size_t i = 0; i < safetensors_count(s); i++)
				for (size_t k = 0; k < safetensors_at(s, i)->bytes; k++) sum += safetensors_at(s, i)->data[k];
			opened += sum < UINT32_MAX;
			safetensors_close(s);
		}
		data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
	}
	assert_true(opened >= 58 * 8 && opened < 8 * bytes); /* flips in the data are seen by hashes only */
	free(data);
}

static void test_write_refusals(void **state)
{
	char path[PATH];
	struct err e;
	struct stat st;
	in(path, *state, "w.safetensors");
	const struct safetensors_entry twice[] = {{"a", SAFETENSORS_F32, 1, {1}, weights}, {"b", SAFETENSORS_U8, 1, {1}, flags}, {"a", SAFETENSORS_U8, 1, {1}, flags}};
	assert_int_equal(safetensors_write(path, twice, 3, NULL, 0, 0, NULL, &e), ERR_RANGE);
	assert_non_null(strstr(e.msg, "tensor a: given twice"));
	static const char *const names[] = {"", "__metadata__", "x\xff"};
	for (int i = 0; i < 3; i++) {
		const struct safetensors_entry one = {names[i], SAFETENSORS_F32, 1, {1}, weights};
		assert_int_equal(safetensors_write(path, &one, 1, NULL, 0, 0, NULL, &e), ERR_RANGE);
	}
	const struct safetensors_entry huge = {"h", SAFETENSORS_F32, 2, {INT64_C(1) << 40, INT64_C(1) << 40}, weights};
	assert_int_equal(safetensors_write(path, &huge, 1, NULL, 0, 0, NULL, &e), ERR_RANGE);
	assert_non_null(strstr(e.msg, "overflows"));
	assert_int_equal(safetensors_write("absent-folder/w.safetensors", sample, SAMPLE, NULL, 0, 0, NULL, &e), ERR_IO);
	assert_int_equal(lstat(path, &st), -1);
}

static size_t files_in(const char *dir)
{
	char command[PATH];
	int n = 0;
	snprintf(command, sizeof command, "ls -A %s | wc -l", dir);
	FILE *f = popen(command, "r");
	assert_int_equal(fscanf(f, "%d", &n), 1);
	pclose(f);
	return (size_t)n;
}

/* A full disk (here: a limit on the size of files): an error naming the file, the old file whole, no temp file. And a
 * mapping of the old file outlives its replacement. */
static void test_full_disk(void **state)
{
	enum { BIG = 100000 };
	char path[PATH];
	struct safetensors *s;
	struct err e;
	static float big[BIG];
	const struct safetensors_entry large = {"large", SAFETENSORS_F32, 1, {BIG}, big};
	in(path, *state, "w.safetensors");
	assert_int_equal(safetensors_write(path, sample, SAMPLE, NULL, 0, 0, NULL, &e), 0);
	pid_t child = fork();
	if (child == 0) {
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &(struct rlimit){BIG, BIG});
		_exit(safetensors_write(path, &large, 1, NULL, 0, 0, NULL, &e) == ERR_IO && strstr(e.msg, path) ? 42 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
	assert_int_equal(files_in(*state), 1);
	assert_int_equal(safetensors_open(&s, path, &e), 0);
	assert_int_equal(safetensors_write(path, &large, 1, NULL, 0, 1, NULL, &e), 0);
	assert_memory_equal(safetensors_find(s, "b.weight")->data, weights, sizeof weights);
	safetensors_close(s);
	assert_int_equal(safetensors_open(&s, path, &e), 0);
	assert_int_equal(safetensors_count(s), 1);
	safetensors_close(s);
}

static void folder_refused(const char *folder, const char *word)
{
	struct safetensors *s = NULL;
	struct err e = {0};
	if (safetensors_open_folder(&s, folder, &e) != ERR_FORMAT || !strstr(e.msg, word)) fail_msg("\"%s\": \"%s\" expected", e.msg, word);
	assert_null(s);
}

static void put_index(const char *folder, const char *map)
{
	char path[PATH], text[2048];
	snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":36},\"weight_map\":%s}", map);
	put_file(in(path, folder, "model.safetensors.index.json"), text, strlen(text));
}

static void test_folder(void **state)
{
	char path[PATH];
	struct safetensors *s;
	struct err e;
	assert_int_equal(safetensors_open_folder(&s, *state, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.msg, "neither model.safetensors nor"));
	assert_int_equal(safetensors_write(in(path, *state, "m-1.safetensors"), sample, 1, sample_metadata, 1, 0, NULL, &e), 0);
	assert_int_equal(safetensors_write(in(path, *state, "m-2.safetensors"), sample + 1, 2, NULL, 0, 0, NULL, &e), 0);
	put_index(*state, "{\"a.weight\":\"m-2.safetensors\",\"b.weight\":\"m-1.safetensors\",\"flags\":\"m-2.safetensors\"}");
	assert_int_equal(safetensors_open_folder(&s, *state, &e), 0);
	assert_int_equal(safetensors_count(s), 3);
	assert_memory_equal(safetensors_find(s, "b.weight")->data, weights, 24);
	assert_memory_equal(safetensors_find(s, "flags")->data, flags, 3);
	assert_string_equal(safetensors_find(s, "flags")->file, path);
	assert_string_equal(safetensors_metadata(s, "format"), "pt");
	safetensors_close(s);
	put_index(*state, "{\"a.weight\":\"m-2.safetensors\",\"b.weight\":\"m-2.safetensors\",\"flags\":\"m-2.safetensors\"}");
	folder_refused(*state, "b.weight: the index says");
	put_index(*state, "{\"a.weight\":\"m-2.safetensors\",\"b.weight\":\"m-1.safetensors\"}");
	folder_refused(*state, "flags: the index does not list it");
	put_index(*state, "{\"a.weight\":\"../m-2.safetensors\"}");
	folder_refused(*state, "plain file name");
	put_index(*state, "{\"a.weight\":7}");
	folder_refused(*state, "plain file name");
	put_index(*state, "{}");
	folder_refused(*state, "no weight_map");
	put_index(*state, "{\"a\":\"x\",\"a\":\"x\"}");
	folder_refused(*state, "duplicate");
	assert_int_equal(safetensors_write(in(path, *state, "m-3.safetensors"), sample, 1, NULL, 0, 0, NULL, &e), 0);
	put_index(*state, "{\"a.weight\":\"m-2.safetensors\",\"b.weight\":\"m-1.safetensors\",\"flags\":\"m-2.safetensors\",\"x\":\"m-3.safetensors\"}");
	folder_refused(*state, "b.weight: it is in");
	assert_int_equal(safetensors_write(in(path, *state, "model.safetensors"), sample, SAMPLE, NULL, 0, 0, NULL, &e), 0);
	assert_int_equal(safetensors_open_folder(&s, *state, &e), 0);
	assert_int_equal(safetensors_count(s), SAMPLE);
	safetensors_close(s);
}

/* The reference implementation reads our file and writes the same bytes. */
static void test_against_python(void **state)
{
	static const char script[] =
		"import ctypes, sys, safetensors\n"
		"names = {'F32': 'float32', 'I64': 'int64', 'BF16': 'bfloat16', 'U8': 'uint8', 'BOOL': 'bool'}\n"
		"keep = []\n"
		"def tensor(v):\n"
		"    dtype, shape, data = names[v['dtype']], v['shape'], bytes(v['data'])\n"
		"    if not hasattr(safetensors, 'TensorSpec'): return {'dtype': dtype, 'shape': shape, 'data': data}\n"
		"    keep.append(ctypes.create_string_buffer(data, max(1, len(data))))\n"
		"    return safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=ctypes.addressof(keep[-1]), data_len=len(data))\n"
		"data = open(sys.argv[1], 'rb').read()\n"
		"tensors = {n: tensor(v) for n, v in safetensors.deserialize(data)}\n"
		"assert len(tensors) == 7, tensors\n"
		"safetensors.serialize_file(tensors, sys.argv[2], {'format': 'pt'})\n"
		"assert open(sys.argv[2], 'rb').read() == data, 'the bytes differ'\n";
	char ours[PATH], theirs[PATH], file[PATH], command[4 * PATH];
	struct err e;
	if (system("python3 -c 'import safetensors' 2>/dev/null") != 0) {
		print_message("skipped: python3 cannot import safetensors\n");
		skip();
	}
	put_file(in(file, *state, "compare.py"), script, sizeof script - 1);
	in(theirs, *state, "theirs.safetensors");
	assert_int_equal(safetensors_write(in(ours, *state, "ours.safetensors"), sample, SAMPLE, sample_metadata, 1, 0, NULL, &e), 0);
	snprintf(command, sizeof command, "python3 %s %s %s", file, ours, theirs);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_write_exact, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_back, setup, teardown),
		cmocka_unit_test(test_convert),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_length_field, setup, teardown),
		cmocka_unit_test_setup_teardown(test_odd_but_right, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cuts_and_flips, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_folder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_against_python, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
