/* UTF-8 and GPT-2's byte alphabet; see tokenizer_internal.h.
 *
 * The alphabet spells each byte as one printable character: 0x21–0x7E, 0xA1–0xAC
 * and 0xAE–0xFF stand for themselves, the other 68 in order are U+0100 and on. */
#include "policy/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

size_t utf8_next(const char *text, size_t n, int32_t *code)
{
	const unsigned char *s = (const unsigned char *)text;
	*code = -1;
	if (s[0] < 0x80) {
		*code = s[0];
		return 1;
	}
	if (s[0] < 0xC2 || s[0] > 0xF4) return 1;
	size_t len = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
	int32_t v = s[0] & (0x7F >> len);
	for (size_t i = 1; i < len; i++) {
		/* The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF. */
		unsigned low = 0x80, high = 0xBF;
		if (i == 1 && s[0] == 0xE0) low = 0xA0;
		if (i == 1 && s[0] == 0xED) high = 0x9F;
		if (i == 1 && s[0] == 0xF0) low = 0x90;
		if (i == 1 && s[0] == 0xF4) high = 0x8F;
		if (i == n || s[i] < low || s[i] > high) return i;
		v = v << 6 | (s[i] & 0x3F);
	}
	*code = v;
	return len;
}

size_t utf8_put(char *s, int32_t code)
{
	unsigned c = (unsigned)code;
	if (c < 0x80) {
		s[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		s[0] = (char)(0xC0 | c >> 6);
		s[1] = (char)(0x80 | (c & 0x3F));
		return 2;
	}
	if (c < 0x10000) {
		s[0] = (char)(0xE0 | c >> 12);
		s[1] = (char)(0x80 | (c >> 6 & 0x3F));
		s[2] = (char)(0x80 | (c & 0x3F));
		return 3;
	}
	s[0] = (char)(0xF0 | c >> 18);
	s[1] = (char)(0x80 | (c >> 12 & 0x3F));
	s[2] = (char)(0x80 | (c >> 6 & 0x3F));
	s[3] = (char)(0x80 | (c & 0x3F));
	return 4;
}

/* The 68 bytes without a printable form of their own are 0x00–0x20, 0x7F–0xA0 and 0xAD. */
int32_t alphabet_char(unsigned char byte)
{
	if (byte <= 0x20) return 0x100 + byte;
	if (byte >= 0x7F && byte <= 0xA0) return 0x121 + (byte - 0x7F);
	if (byte == 0xAD) return 0x143;
	return byte;
}

int alphabet_byte(int32_t code)
{
	if (code >= 0x100 && code <= 0x120) return code - 0x100;
	if (code >= 0x121 && code <= 0x142) return code - 0x121 + 0x7F;
	if (code == 0x143) return 0xAD;
	return code > 0x20 && code < 0x100 && alphabet_char((unsigned char)code) == code ? code : -1;
}

size_t alphabet_spell(const char *bytes, size_t n, char *s)
{
	size_t len = 0;
	for (size_t i = 0; i < n; i++) len += utf8_put(s + len, alphabet_char((unsigned char)bytes[i]));
	s[len] = 0;
	return len;
}

int64_t alphabet_read(const char *s, size_t n, char *bytes)
{
	int64_t count = 0;
	for (size_t i = 0; i < n;) {
		int32_t code;
		i += utf8_next(s + i, n - i, &code);
		int byte = alphabet_byte(code);
		if (byte < 0) return -1;
		bytes[count++] = (char)byte;
	}
	return count;
}

int text_put(struct text_buffer *b, const char *s, size_t n, struct err *e)
{
	if (b->room - b->used < n) {
		size_t room = b->room ? b->room : 256;
		while (room - b->used < n) room *= 2;
		char *data = realloc(b->data, room);
		if (!data) return err_set(e, ERR_MEMORY, "out of memory for the tokenizer's text");
		b->data = data;
		b->room = room;
	}
	if (n) memcpy(b->data + b->used, s, n);
	b->used += n;
	return 0;
}

int text_put_char(struct text_buffer *b, int32_t code, struct err *e)
{
	char s[4];
	return text_put(b, s, utf8_put(s, code), e);
}
