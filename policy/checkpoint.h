/* Checkpoints: folders <run>/<place>/step-00000020 that are whole or not there.
 *
 * A checkpoint is made in a hidden temp folder beside the others: the caller
 * writes its files there, then checkpoint_commit hashes them, writes
 * manifest.json last, syncs every file and the folder, renames the folder into
 * place, syncs the parent and removes the oldest beyond `keep`. Whatever moment a
 * process or the power dies, the old checkpoints or the new one load.
 *
 * manifest.json names every file with bytes and hash, and for .safetensors files
 * the hash of each tensor, so that damage is reported by tensor; its last member
 * is a hash of the manifest itself, so a bit flipped anywhere is noticed. Equal
 * files and step give an equal manifest: its hash identifies the checkpoint.
 * Files beside those listed are ignored.
 *
 * Folders are reached through descriptors, no component of <place>, no
 * checkpoint and no file in one may be a symbolic link: nothing outside the run
 * is read, written or removed.
 *
 * One writer (the owner of the run's lock, base/lock.h) may call checkpoint_begin
 * and checkpoint_recover; the rest reads only and may run beside it. */
#ifndef TENFOLD_POLICY_CHECKPOINT_H
#define TENFOLD_POLICY_CHECKPOINT_H

#include "core/base/err.h"
#include "core/base/hash.h"

#include <stddef.h>
#include <stdint.h>

enum { CHECKPOINT_PATH = 1024, CHECKPOINT_KEEP_MIN = 2 };

struct checkpoint; /* one being written */

/* Starts a checkpoint of `step` in the folder `place` of the run ("checkpoints", or "checkpoints/critic"; made when
 * missing). Removes the temp folders that a killed predecessor left. */
int checkpoint_begin(struct checkpoint **out, const char *run, const char *place, uint64_t step, struct err *e);
/* The folder to write files into: plain files, no folders. They need not be synced. */
const char *checkpoint_folder(const struct checkpoint *c);
/* Completes it, in place of one of the same step if there is one, keeps the `keep` (>= CHECKPOINT_KEEP_MIN) newest, and
 * frees `c` in every case. hash_hex (may be NULL): the manifest's hash. On an error (disk full, …) the new one is not
 * there, and those before still are. */
int checkpoint_commit(struct checkpoint *c, int64_t keep, char hash_hex[HASH_HEX], struct err *e);
/* Removes what was written. NULL is fine. */
void checkpoint_abort(struct checkpoint *c);

struct checkpoint_entry {
	uint64_t step;
	int complete;             /* manifest in order, every file there with its size; hashes are checkpoint_verify's */
	uint64_t bytes;           /* of its files together */
	char hash[HASH_HEX];      /* of the manifest; empty when not complete */
	char path[CHECKPOINT_PATH];
	char reason[256];         /* why not complete */
};

/* All of them, newest first, in *out (free it). A missing folder is an empty list. Temp folders and those set aside are
 * not listed. */
int checkpoint_list(const char *run, const char *place, struct checkpoint_entry **out, size_t *count, struct err *e);
/* Reads every byte of one: ERR_FORMAT or ERR_MISMATCH name the file, the tensor and the reason. */
int checkpoint_verify(const char *run, const char *place, uint64_t step, struct err *e);
/* The newest that verifies. Each newer one that does not is told to `warn` (may be NULL) in a sentence. ERR_NOT_FOUND when
 * there is none at all, ERR_MISMATCH when none is whole. */
int checkpoint_latest(const char *run, const char *place, struct checkpoint_entry *out, void (*warn)(void *arg, const char *text),
	void *arg, struct err *e);
/* The same for the owner of the run, before it goes on: also removes temp folders and renames the damaged ones it passed
 * over to damaged-step-…, so that they no longer count among those kept. */
int checkpoint_recover(const char *run, const char *place, struct checkpoint_entry *out, void (*warn)(void *arg, const char *text),
	void *arg, struct err *e);

#endif
