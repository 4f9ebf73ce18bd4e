/* The numeric verifier: a completion is right when it ends in the right number.
 *
 * The completion's number is the one behind its last "####" (GSM8K's mark), or,
 * without the mark, its last number. Signs, thousands separators ("1,234"), a
 * currency sign or a unit around it and zeros that change nothing ("7.50", "007")
 * do not matter; digits are compared as digits, so no rounding makes two numbers
 * equal. */
#ifndef TENFOLD_REWARD_VERIFY_NUMBER_H
#define TENFOLD_REWARD_VERIFY_NUMBER_H

/* 1 when the completion's number equals the answer's; 0 also when one has no number. */
int verify_number(const char *completion, const char *answer);

#endif
