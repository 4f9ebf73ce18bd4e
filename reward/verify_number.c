/* See verify_number.h. */
#include "reward/verify_number.h"

#include <ctype.h>
#include <string.h>

enum { DIGITS = 64 };

/* A number by its digits: the whole part without leading zeros, the fraction without trailing ones. */
struct number {
	int negative, whole, fraction; /* digits of each */
	char digit[2][DIGITS];
};

static int is_digit(char c)
{
	return isdigit((unsigned char)c) != 0;
}

/* Whether "," at p separates thousands: three digits follow, and no fourth. */
static int thousands(const char *p)
{
	return is_digit(p[1]) && is_digit(p[2]) && is_digit(p[3]) && !is_digit(p[4]);
}

/* Reads the number at p (a digit, or a point before one); the end of it, NULL when it has too many digits. */
static const char *read_number(const char *p, struct number *n)
{
	n->whole = n->fraction = 0;
	for (const char *from = p; is_digit(*p) || (*p == ',' && p > from && thousands(p)); p++) {
		if (*p == ',' || (*p == '0' && n->whole == 0)) continue;
		if (n->whole == DIGITS) return NULL;
		n->digit[0][n->whole++] = *p;
	}
	if (*p == '.' && is_digit(p[1])) {
		for (p++; is_digit(*p); p++) {
			if (n->fraction == DIGITS) return NULL;
			n->digit[1][n->fraction++] = *p;
		}
		while (n->fraction && n->digit[1][n->fraction - 1] == '0') n->fraction--;
	}
	return p;
}

/* The last number of a text (of its first line, when `line`); 0: there is none. */
static int last_number(const char *text, int line, struct number *out)
{
	int found = 0;
	const char *start = text;
	for (const char *p = text; *p && !(line && *p == '\n');) {
		int point = *p == '.' && is_digit(p[1]);
		if (!is_digit(*p) && !point) {
			p++;
			continue;
		}
		struct number n;
		const char *sign = p, *end = read_number(p, &n);
		if (sign > start && sign[-1] == '$') sign--;
		/* a minus between two words or numbers is no sign: "3-2", "x-1" */
		n.negative = sign > start && sign[-1] == '-' && (sign - 1 == start || !isalnum((unsigned char)sign[-2]));
		found = end != NULL;
		if (end) *out = n;
		for (p = end ? end : p; is_digit(*p); p++) {}
	}
	return found;
}

int verify_number(const char *completion, const char *answer)
{
	struct number a, b;
	const char *mark = NULL;
	for (const char *p = completion; (p = strstr(p, "####")); p += 4) mark = p + 4;
	if (!last_number(mark ? mark : completion, mark != NULL, &a) || !last_number(answer, 0, &b)) return 0;
	int zero = a.whole + a.fraction == 0;
	return a.whole == b.whole && a.fraction == b.fraction && (a.negative == b.negative || zero) && !memcmp(a.digit[0], b.digit[0], (size_t)a.whole) &&
	       !memcmp(a.digit[1], b.digit[1], (size_t)a.fraction);
}
