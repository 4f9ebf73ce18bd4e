/* The allocation-free pre-scan; see scan.h. Open containers are kept as counts
 * of missing items on a stack of SCAN_DEPTH, so hostile nesting costs nothing. */
#include "core/wire/scan.h"

#include <stdint.h>
#include <string.h>

struct head {
	size_t size;    /* bytes of the head itself */
	uint64_t body;  /* bytes that follow and hold no values */
	uint64_t items; /* values that follow */
	int container, bad;
};

static uint64_t big_endian(const unsigned char *p, size_t n)
{
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++) v = v << 8 | p[i];
	return v;
}

/* Sizes of the heads 0xc0..0xdf: length field's width (0: none) and fixed body. */
static struct head read_head(const unsigned char *p, size_t left)
{
	unsigned c = p[0];
	struct head h = {.size = 1};
	if (c <= 0x7f || c >= 0xe0) return h;
	if (c <= 0x8f) return (struct head){.size = 1, .items = 2 * (uint64_t)(c & 15), .container = 1};
	if (c <= 0x9f) return (struct head){.size = 1, .items = c & 15, .container = 1};
	if (c <= 0xbf) return (struct head){.size = 1, .body = c & 31};
	static const uint8_t width[32] = {[0x04] = 1, [0x05] = 2, [0x06] = 4, [0x19] = 1, [0x1a] = 2, [0x1b] = 4,
	                                  [0x1c] = 2, [0x1d] = 4, [0x1e] = 2, [0x1f] = 4};
	static const uint8_t fixed[32] = {[0x0a] = 4, [0x0b] = 8, [0x0c] = 1, [0x0d] = 2, [0x0e] = 4, [0x0f] = 8,
	                                  [0x10] = 1, [0x11] = 2, [0x12] = 4, [0x13] = 8};
	unsigned k = c - 0xc0;
	h.bad = c == 0xc1 || (c >= 0xc7 && c <= 0xc9) || (c >= 0xd4 && c <= 0xd8); /* never used; extension types */
	h.size = 1u + width[k];
	h.body = fixed[k];
	if (h.size > left || width[k] == 0) return h;
	uint64_t n = big_endian(p + 1, width[k]);
	if (c == 0xdc || c == 0xdd) h.items = n, h.container = 1;
	else if (c == 0xde || c == 0xdf) h.items = 2 * n, h.container = 1;
	else h.body = n;
	return h;
}

int scan_msgpack(const unsigned char *data, size_t bytes, struct err *e)
{
	uint64_t missing[SCAN_DEPTH];
	int depth = 0;
	size_t at = 0, nodes = 0;
	if (bytes == 0) return err_set(e, ERR_FORMAT, "malformed message: the frame is empty");
	for (;;) {
		if (at >= bytes) return err_set(e, ERR_FORMAT, "malformed message: it ends at byte %zu with values missing", at);
		if (++nodes > SCAN_NODES)
			return err_set(e, ERR_FORMAT, "malformed message: more than %d values at byte %zu", SCAN_NODES, at);
		struct head h = read_head(data + at, bytes - at);
		if (h.bad) return err_set(e, ERR_FORMAT, "malformed message: unknown type byte 0x%02x at byte %zu", data[at], at);
		size_t left = bytes - at;
		if (h.size > left || h.body > left - h.size || h.items > left - h.size)
			return err_set(e, ERR_FORMAT, "malformed message: the value at byte %zu declares more than the %zu bytes left",
			               at, left - (h.size > left ? left : h.size));
		at += h.size + (size_t)h.body;
		if (h.items > SCAN_NODES - nodes)
			return err_set(e, ERR_FORMAT, "malformed message: more than %d values at byte %zu", SCAN_NODES, at);
		if (h.container && depth == SCAN_DEPTH)
			return err_set(e, ERR_FORMAT, "malformed message: nested deeper than %d at byte %zu", SCAN_DEPTH, at);
		if (h.container) missing[depth++] = h.items;
		else if (depth > 0) missing[depth - 1]--;
		/* a container that is full counts as one value of the one around it */
		while (depth > 0 && missing[depth - 1] == 0) {
			depth--;
			if (depth > 0) missing[depth - 1]--;
		}
		if (depth == 0) break;
	}
	if (at != bytes) return err_set(e, ERR_FORMAT, "malformed message: %zu bytes follow its end at byte %zu", bytes - at, at);
	return 0;
}

int scan_utf8_char(const unsigned char *p, size_t left)
{
	unsigned c = p[0];
	if (c < 0x80) return 1;
	if (c < 0xc2 || c > 0xf4) return 0;
	int n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	if (left < (size_t)n) return 0;
	for (int i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80) return 0;
	if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f)) return 0;
	if ((c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f)) return 0;
	return n;
}

size_t scan_utf8(const unsigned char *p, size_t bytes)
{
	size_t i = 0;
	while (i < bytes) {
		uint64_t word;
		while (bytes - i >= 8 && (memcpy(&word, p + i, 8), (word & 0x8080808080808080u) == 0)) i += 8;
		if (i == bytes) break;
		int n = scan_utf8_char(p + i, bytes - i);
		if (n == 0) return i;
		i += (size_t)n;
	}
	return bytes;
}
