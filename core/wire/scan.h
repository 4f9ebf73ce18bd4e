/* The first look at bytes from outside: walks msgpack without allocating and
 * without recursion, because msgpack-c allocates from a declared count before
 * it has seen the items (msgpack-c issue 1013: five bytes can ask for
 * gigabytes). Refuses: nesting beyond SCAN_DEPTH, counts and lengths beyond the
 * bytes left, more than SCAN_NODES values, extension types, a frame that ends
 * early or goes on after its one value. */
#ifndef TENFOLD_WIRE_SCAN_H
#define TENFOLD_WIRE_SCAN_H

#include "core/base/err.h"

#include <stddef.h>

enum { SCAN_DEPTH = 8, SCAN_NODES = 16384 };

/* ERR_FORMAT with the byte at which it goes wrong. */
int scan_msgpack(const unsigned char *data, size_t bytes, struct err *e);

/* Bytes of the valid UTF-8 character at p (1–4, `left` bytes are there), or 0 when it is not one: overlong forms,
 * surrogates and code points above U+10FFFF are not. */
int scan_utf8_char(const unsigned char *p, size_t left);
/* Offset of the first byte that is not UTF-8; `bytes` when all is well. */
size_t scan_utf8(const unsigned char *p, size_t bytes);

#endif
