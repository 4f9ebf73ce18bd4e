/* Small operations on text that several rooms need. */
#ifndef TENFOLD_BASE_TEXT_H
#define TENFOLD_BASE_TEXT_H

#include <stddef.h>

/* Bytes of the well-formed UTF-8 character at p, `left` bytes from the end (RFC 3629: no surrogates, no overlong forms, up
 * to U+10FFFF); 0: there is none. */
size_t text_character(const char *p, size_t left);
/* Place of the first byte that is not part of well-formed UTF-8; `bytes` when there is none. */
size_t text_malformed(const char *text, size_t bytes);
/* Levenshtein distance; names are compared by their first 63 bytes. For "the nearest is …" in messages. */
int text_distance(const char *a, const char *b);
/* Copies at most bytes-1 of `text` into `out`, with every byte that is not part of well-formed UTF-8 (RFC 3629: no
 * surrogates, no overlong forms) replaced by U+FFFD; never ends inside a character. Returns the bytes of `text` taken. */
size_t text_clean(const char *text, size_t text_bytes, char *out, size_t bytes);

#endif
