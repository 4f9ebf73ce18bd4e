/* Recorded operations as CUDA graphs: a decoding step of hundreds of small kernels
 * is launched at once. What would break a recording is refused by name here, before
 * the driver sees it, and in the tests, where kernels run on the processor. */
#include "core/tensor/cuda/memory.h"

#include <stdlib.h>

struct backend_graph {
	cudaGraphExec_t exec;
	const char *scratch; /* where the kernels were told to work */
};

static void graph_begin(struct backend *base)
{
	struct cuda_backend *b = cuda_of(base);
	cuda_not_recorded(base, "another recording");
	cuda_must(cudaStreamBeginCapture(b->stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
	b->recording = 1;
}

static struct backend_graph *graph_end(struct backend *base)
{
	struct cuda_backend *b = cuda_of(base);
	struct backend_graph *g = (struct backend_graph *)calloc(1, sizeof *g);
	cudaGraph_t graph;
	CHECK(g && b->recording, "no operations are being recorded");
	b->recording = 0;
	cuda_must(cudaStreamEndCapture(b->stream, &graph), "cudaStreamEndCapture");
	cuda_must(cudaGraphInstantiate(&g->exec, graph, 0), "cudaGraphInstantiate");
	cuda_must(cudaGraphDestroy(graph), "cudaGraphDestroy");
	g->scratch = b->scratch;
	return g;
}

static int graph_run(struct backend *base, const struct backend_graph *g)
{
	struct cuda_backend *b = cuda_of(base);
	cuda_not_recorded(base, "a recorded graph");
	if (g->scratch != b->scratch) return 0;
	cuda_must(cudaGraphLaunch(g->exec, b->stream), "cudaGraphLaunch");
	return 1;
}

static void graph_close(struct backend *base, struct backend_graph *g)
{
	cuda_must(cudaStreamSynchronize(cuda_of(base)->stream), "kernels of a graph");
	cuda_must(cudaGraphExecDestroy(g->exec), "cudaGraphExecDestroy");
	free(g);
}

CUDA_API void K(cuda_graphs)(struct backend *b)
{
	b->graph_begin = graph_begin;
	b->graph_end = graph_end;
	b->graph_run = graph_run;
	b->graph_close = graph_close;
}
