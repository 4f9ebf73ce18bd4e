/* Weights to a worker that cannot open the learner's file: the file in chunks,
 * each with its hash, the whole checked against the hash of the lease before it
 * gets its name. A cut transfer leaves the old file and a `.part`; policies of
 * mixed versions cannot come about, because a file of a version is complete and
 * verified or not there.
 *
 * The receiver is a state machine without a socket: it says what to ask for and
 * takes what comes, so a worker can mix it with its other messages.
 * transfer_fetch is the simple loop around it. */
#ifndef TENFOLD_WIRE_TRANSFER_H
#define TENFOLD_WIRE_TRANSFER_H

#include "core/wire/message.h"
#include "core/wire/socket.h"

struct transfer;

enum { TRANSFER_CHUNK = 1 << 19 };

/* The sender's side: answers `get` from the mapped file of `version`. *reply becomes a weights_chunk that points into
 * the file, or a refusal (unknown version, other hash, offset beyond the end). */
void transfer_answer(struct message *reply, const struct message *get, const char *run, uint64_t version,
                     const char hash[HASH_HEX], const void *file, uint64_t bytes);

/* Starts writing to `path`.part; the finished file gets the name `path`. */
int transfer_open(struct transfer **out, const char *path, uint64_t version, const char hash[HASH_HEX], uint64_t bytes,
                  struct err *e);
/* 1: *get is to be sent now; 0: enough is under way. */
int transfer_ask(struct transfer *t, struct message_weights_get *get);
/* 1: the file is complete, verified, durable and in its place; 0: more is to come (also for a chunk that was not
 * asked for). ERR_MISMATCH: a hash is wrong, nothing is kept: open it again to fetch again. */
int transfer_take(struct transfer *t, const struct message_weights_chunk *chunk, struct err *e);
/* Nothing came for a while: what is under way counts as lost and is asked for again. */
void transfer_retry(struct transfer *t);
/* Removes the .part of an unfinished transfer. */
void transfer_close(struct transfer *t);

/* Fetches over a connection to the learner until done, refused (ERR_STATE with the reason), stopped, or silent for
 * `seconds` three times in a row (ERR_TIMEOUT); a wrong hash is fetched again twice. Other messages that arrive
 * meanwhile are dropped: call it when none but `stop` is due, which ends it with ERR_STOPPED. */
int transfer_fetch(struct wire_socket *s, const char *run, const char *path, uint64_t version,
                   const char hash[HASH_HEX], uint64_t bytes, double seconds, struct err *e);

#endif
