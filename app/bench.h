/* Measuring the operations against this machine's own limits.
 *
 * Every figure is the best of many repetitions (others use the machine too), and
 * comes beside the share of a limit measured in the same run: fused multiply-adds
 * from registers alone for arithmetic, streaming reads for bandwidth. Nothing is
 * printed here; callers choose table or JSON. */
#ifndef TENFOLD_APP_BENCH_H
#define TENFOLD_APP_BENCH_H

#include "core/tensor/ops.h"

struct bench_peak {
	int threads;          /* of `gflops_all` and `read_gbs` */
	double gflops_one;    /* GFLOP/s of one thread, f32 fused multiply-adds (2 FLOP each), the widest lanes there are */
	double gflops_all;    /* the same on all `threads` at once */
	double read_gbs;      /* GB/s read from memory, all threads */
	double dispatch_us;   /* microseconds to hand two empty tasks to the pool and get them back */
};

struct bench_rate {
	double seconds;  /* best time of one call */
	double gflops;   /* useful GFLOP/s; 0 where bytes are what counts */
	double share;    /* of peak for the backend's threads, or of read bandwidth */
};

struct bench_linear {
	int64_t m, n, k; /* rows, outputs, inputs */
	struct bench_rate forward, dx, dw;
	double onednn_gflops; /* oneDNN's packed matmul, same threads; 0: not built in */
};

struct bench_pair {
	struct bench_rate forward, backward;
};

struct bench_adamw {
	int64_t n;
	double gparams; /* 10⁹ parameters a second; 28 bytes each are moved */
	double share;   /* of read bandwidth */
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
void bench_linear(struct backend *, const struct bench_peak *, int64_t m, int64_t n, int64_t k, struct bench_linear *out);
void bench_experts(struct backend *, const struct bench_peak *, const struct bench_model *, struct bench_pair *out);
void bench_attention(struct backend *, const struct bench_peak *, const struct bench_model *, struct bench_pair *out);
void bench_small(struct backend *, const struct bench_model *, struct bench_small *out);
void bench_adamw(struct backend *, const struct bench_peak *, int64_t n, struct bench_adamw *out);

/* oneDNN's matmul with weights packed once: best seconds of y[m, n] = x[m, k]·wᵀ; 0 when not built in. */
double bench_onednn(int64_t m, int64_t n, int64_t k, int threads);

#endif
