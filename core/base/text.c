/* See text.h. */
#include "core/base/text.h"

#include <string.h>

int text_distance(const char *a, const char *b)
{
	int row[64], na = (int)strnlen(a, 63), nb = (int)strnlen(b, 63);
	for (int j = 0; j <= nb; j++) row[j] = j;
	for (int i = 1; i <= na; i++) {
		int diagonal = row[0];
		row[0] = i;
		for (int j = 1; j <= nb; j++) {
			int up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
			if (up + 1 < best) best = up + 1;
			if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
			diagonal = up;
			row[j] = best;
		}
	}
	return row[nb];
}

size_t text_character(const char *text, size_t left)
{
	const unsigned char *p = (const unsigned char *)text;
	if (left == 0) return 0;
	if (p[0] < 0x80) return 1;
	size_t n = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
	if (p[0] < 0xC2 || p[0] > 0xF4 || n > left) return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xC0) != 0x80) return 0;
	if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F)) return 0;
	if ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F)) return 0;
	return n;
}

size_t text_malformed(const char *text, size_t bytes)
{
	size_t i = 0, n;
	while (i < bytes && (n = text_character(text + i, bytes - i)) > 0) i += n;
	return i;
}

size_t text_clean(const char *text, size_t text_bytes, char *out, size_t bytes)
{
	size_t at = 0, i = 0;
	while (i < text_bytes) {
		size_t n = text_character(text + i, text_bytes - i);
		const char *from = n ? text + i : "\xEF\xBF\xBD";
		size_t put = n ? n : 3;
		if (at + put >= bytes) break;
		memcpy(out + at, from, put);
		at += put;
		i += n ? n : 1;
	}
	out[at] = 0;
	return i;
}
