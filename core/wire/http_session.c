/* Sessions: SUBJECT.END.NONCE.MAC in one cookie, HttpOnly and SameSite=Strict.
 * The CSRF token is derived from the same four by the key, so that neither can be
 * made from the other without it. Comparisons take the same time whatever differs. */
#include "core/base/fs.h"
#include "core/wire/http_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

_Static_assert(HTTP_KEY_BYTES == crypto_auth_KEYBYTES && HTTP_KEY_BYTES == crypto_generichash_KEYBYTES, "one key length");

enum { TOKEN_BYTES = 32, B64 = sodium_base64_VARIANT_URLSAFE_NO_PADDING };

static void encode(const unsigned char raw[TOKEN_BYTES], char out[HTTP_CSRF])
{
	sodium_bin2base64(out, HTTP_CSRF, raw, TOKEN_BYTES, B64);
}

void http_random_token(char out[HTTP_CSRF])
{
	CHECK(sodium_init() >= 0, "libsodium does not start");
	unsigned char raw[TOKEN_BYTES];
	randombytes_buf(raw, sizeof raw);
	encode(raw, out);
}

int http_token_equal(const char *a, const char *b)
{
	size_t n = strlen(a);
	return n == strlen(b) && sodium_memcmp(a, b, n) == 0;
}

static void derive(const struct http *h, const char *what, const char *text, char out[HTTP_CSRF])
{
	unsigned char raw[TOKEN_BYTES];
	crypto_generichash_state s;
	crypto_generichash_init(&s, h->o.key, HTTP_KEY_BYTES, sizeof raw);
	crypto_generichash_update(&s, (const unsigned char *)what, strlen(what) + 1);
	crypto_generichash_update(&s, (const unsigned char *)text, strlen(text));
	crypto_generichash_final(&s, raw, sizeof raw);
	encode(raw, out);
}

static void sign(const struct http *h, const char *text, char out[HTTP_CSRF])
{
	unsigned char raw[crypto_auth_BYTES];
	crypto_auth(raw, (const unsigned char *)text, strlen(text), h->o.key);
	encode(raw, out);
}

static int subject_valid(const char *s, size_t n)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_-";
	return n >= 1 && n < HTTP_SUBJECT && strspn(s, allowed) >= n;
}

void http_session_read(struct http *h, struct http_exchange *x)
{
	x->subject[0] = x->csrf[0] = 0;
	const char *c = MHD_lookup_connection_value(x->connection, MHD_COOKIE_KIND, h->cookie);
	if (!c || strlen(c) >= HTTP_COOKIE) return;
	char text[HTTP_COOKIE], mac[HTTP_CSRF];
	strcpy(text, c);
	char *dot = strrchr(text, '.');
	if (!dot) return;
	*dot = 0;
	sign(h, text, mac);
	if (!http_token_equal(mac, dot + 1)) return;
	size_t n = strcspn(text, ".");
	if (!text[n] || !subject_valid(text, n)) return;
	if (strtoll(text + n + 1, NULL, 10) <= (long long)time(NULL)) return;
	memcpy(x->subject, text, n);
	x->subject[n] = 0;
	derive(h, "csrf", c, x->csrf);
}

static void set_cookie(struct http_response *r, const char *value, long long seconds)
{
	char line[512];
	snprintf(line, sizeof line, "%s=%s; Path=/; HttpOnly; SameSite=Strict; Max-Age=%lld%s", r->h->cookie, value, seconds,
		r->h->secure ? "; Secure" : "");
	http_reply_header(r, "Set-Cookie", line);
}

void http_reply_login(struct http_response *r, const char *subject, char csrf[HTTP_CSRF])
{
	CHECK(subject_valid(subject, strlen(subject)), "'%s' is no subject of a session", subject);
	char nonce[HTTP_CSRF], mac[HTTP_CSRF], text[HTTP_COOKIE], value[HTTP_COOKIE + HTTP_CSRF];
	long long seconds = (long long)(r->h->o.session_seconds > 0 ? r->h->o.session_seconds : 30.0 * 86400);
	http_random_token(nonce);
	snprintf(text, sizeof text, "%s.%lld.%s", subject, (long long)time(NULL) + seconds, nonce);
	sign(r->h, text, mac);
	snprintf(value, sizeof value, "%s.%s", text, mac);
	derive(r->h, "csrf", value, csrf);
	set_cookie(r, value, seconds);
}

void http_reply_logout(struct http_response *r) { set_cookie(r, "none", 0); }

int http_key_load(const char *path, unsigned char key[HTTP_KEY_BYTES], struct err *e)
{
	CHECK(sodium_init() >= 0, "libsodium does not start");
	char *data = NULL;
	size_t bytes = 0;
	int rc;
	if (!fs_exists(path)) {
		randombytes_buf(key, HTTP_KEY_BYTES);
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0) return err_set(e, ERR_IO, "cannot make the key %s: %s", path, strerror(errno));
		int bad = write(fd, key, HTTP_KEY_BYTES) != HTTP_KEY_BYTES || fsync(fd) != 0;
		close(fd);
		return bad ? err_set(e, ERR_IO, "cannot write the key %s", path) : 0;
	}
	rc = fs_read(path, 4096, &data, &bytes, e);
	if (rc == 0 && bytes != HTTP_KEY_BYTES)
		rc = err_set(e, ERR_FORMAT, "%s is not a key of %d bytes: remove it, and a new one is made (everybody signs in again)", path, HTTP_KEY_BYTES);
	if (rc == 0) memcpy(key, data, HTTP_KEY_BYTES);
	free(data);
	return rc;
}
