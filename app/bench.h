/* Measuring the operations against this machine's own limits.
 *
 * Every figure is the median of many repetitions after a warm-up, with the least
 * and the greatest, and comes beside the share of a limit measured in the same
 * run: fused multiply-adds from registers alone for arithmetic, streaming through
 * memory for bandwidth; of the limits themselves the best repetition counts.
 * Nothing is printed here; callers choose table or JSON. */
#ifndef TENFOLD_APP_BENCH_H
#define TENFOLD_APP_BENCH_H

#include "core/tensor/ops.h"

struct bench_peak {
	int device;           /* 1: a GPU's, of its copies and its vendor's matrix product; what follows as if of one thread */
	int threads;          /* of the figures `_all` */
	double gflops_one;    /* GFLOP/s of one thread, f32 fused multiply-adds (2 FLOP each), the widest lanes there are */
	double gflops_all;    /* the same on all `threads` at once */
	double read_one, read_all;   /* GB/s read from memory */
	double mixed_one, mixed_all; /* GB/s read and written in the optimiser's pattern: four arrays read, three written */
	double memory_gbs;    /* the greater of the two, all threads: the bandwidth that shares are taken of */
	double seconds;       /* given to each figure below; 0.15, callers may change it */
};

/* Seconds of one call. */
struct bench_time {
	double median, least, greatest;
};

struct bench_rate {
	struct bench_time time;
	double gflops;   /* useful GFLOP/s by the median */
	double share;    /* of peak for the backend's threads */
	double best;     /* share by the least time */
};

struct bench_linear {
	int64_t m, n, k; /* rows, outputs, inputs */
	struct bench_rate forward, dx, dw;
	struct bench_rate onednn; /* its packed matmul, same threads; zero: not built in */
};

struct bench_pair {
	struct bench_rate forward, backward;
};

/* One mixture-of-experts feed-forward: routed experts and a shared one of `shared` columns (0: none). */
struct bench_layer {
	int64_t rows;
	int width, experts, chosen, expert_width, shared;
};

struct bench_adamw {
	int64_t n;
	struct bench_time time;
	double gparams; /* 10⁹ parameters a second by the median; 28 bytes each are moved */
	double share;   /* of bandwidth, for one thread or for all */
};

/* The small operations of one layer, microseconds each at T rows. */
struct bench_small {
	int64_t rows;
	double norm, norm_backward, rope, router, router_backward, kv_write, kv_read_add, embedding, embedding_backward, head, head_backward, sample;
};

struct bench_model {
	int64_t rows;              /* T */
	int width, heads, kv_heads, head_dim, experts, chosen, expert_width, vocab;
	int prompt, completions, response; /* attention: groups of this layout, as many as make T rows */
};

/* threads: 0 for all processors of this process. */
void bench_peak(struct bench_peak *out, int threads);
/* Only the figures `_all` and memory_gbs, in a few tenths of a second. */
void bench_peak_quick(struct bench_peak *out, int threads);
/* Of the backend: its device's when it has one, else the processor's. */
void bench_peak_of(struct bench_peak *out, struct backend *b);
void bench_linear(struct backend *, const struct bench_peak *, int64_t m, int64_t n, int64_t k, struct bench_linear *out);
void bench_experts(struct backend *, const struct bench_peak *, const struct bench_model *, struct bench_pair *out);
void bench_layer(struct backend *, const struct bench_peak *, const struct bench_layer *, struct bench_pair *out);
void bench_attention(struct backend *, const struct bench_peak *, const struct bench_model *, struct bench_pair *out);
void bench_small(struct backend *, const struct bench_peak *, const struct bench_model *, struct bench_small *out);
void bench_adamw(struct backend *, const struct bench_peak *, int64_t n, struct bench_adamw *out);

/* Calls fn(arg) again and again for `seconds`, at least five times, after a warm-up. */
void bench_repeat(double seconds, void (*fn)(void *arg), void *arg, struct bench_time *out);
/* Sorts x[n] and takes its middle and ends. */
void bench_time_of(double *x, int n, struct bench_time *out);

/* oneDNN's matmul with weights packed once, y[m, n] = x[m, k]·wᵀ: 1 and the time of one call; 0 when not built in. */
int bench_onednn(int64_t m, int64_t n, int64_t k, int threads, double seconds, struct bench_time *out);

#endif
