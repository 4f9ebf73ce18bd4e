/* The account of device memory: what is taken for what, given back, and the table
 * of a shortage. */
#include "core/tensor/account.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_table(void **state)
{
	(void)state;
	struct account a = {0};
	char piece[200];
	account_take(&a, piece, 1 << 20);
	account_purpose(&a, "weights");
	for (int i = 1; i < 150; i++) account_take(&a, piece + i, 2 << 20);
	account_purpose(&a, "activations");
	account_take(&a, piece + 150, 3 << 20);
	for (int i = 1; i < 50; i++) account_give(&a, piece + i);
	account_give(&a, piece + 199); /* not ours */
	account_short(&a, 5 << 20, 1 << 20, 512 << 20);
	assert_string_equal(a.shortage, "\n         5.0 MiB wanted for activations\n         1.0 MiB free of 512.0\n         1.0 MiB other"
					"\n       200.0 MiB weights\n         3.0 MiB activations");
	account_close(&a);
}

static void test_purposes(void **state)
{
	(void)state;
	struct account a = {0};
	char name[20][8];
	for (int i = 0; i < 20; i++) {
		snprintf(name[i], sizeof name[i], "p%d", i);
		account_purpose(&a, name[i]);
		account_take(&a, name[i], 10);
	}
	assert_int_equal(a.purposes, ACCOUNT_PURPOSES);
	assert_int_equal(a.bytes[0], 10 * (20 - ACCOUNT_PURPOSES + 1)); /* those that had no room */
	account_purpose(&a, "p0");
	assert_int_equal(a.now, 1);
	account_short(&a, 1, 0, 0);
	account_close(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_purposes)};
	return cmocka_run_group_tests_name("account", tests, NULL, NULL);
}
