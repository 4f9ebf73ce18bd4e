/* Recorded operations on the processor: a list of launches with the bytes of their
 * arguments, copies and zeros. Nothing runs while it is recorded, as on a device;
 * what an operation was told by value stays as it was, so that a step which
 * depends on anything but backend memory shows. Scratch is the graph's own and NaN
 * before every run. */
#include "core/tensor/cuda/memory.h"

#include <stdlib.h>

struct node {
	void (*kernel)(const void *); /* NULL: a copy, or zeros */
	void *arg;                    /* the argument's bytes; of a copy where it comes from, NULL: zeros */
	void *to;
	struct host_index grid;
	unsigned threads;
	size_t bytes;                 /* shared memory, or of the copy */
};

struct scratch {
	void *p;
	size_t bytes;
};

struct backend_graph {
	struct node *node;
	struct scratch *scratch;
	size_t nodes, scratches, reserved; /* reserved: what scratch there was */
};

static struct node *add_node(struct backend_graph *g)
{
	g->node = (struct node *)realloc(g->node, (g->nodes + 1) * sizeof *g->node);
	CHECK(g->node, "out of memory for a graph");
	struct node *n = &g->node[g->nodes++];
	memset(n, 0, sizeof *n);
	return n;
}

void host_submit(struct cuda_backend *b, void (*kernel)(const void *), const void *arg, size_t arg_bytes, struct host_index grid, unsigned threads, size_t shared)
{
	if (!b->graph) {
		host_launch(b->machine, kernel, arg, grid, threads, shared);
		return;
	}
	struct node *n = add_node(b->graph);
	*n = (struct node){kernel, malloc(arg_bytes), NULL, grid, threads, shared};
	CHECK(n->arg, "out of memory for a graph");
	memcpy(n->arg, arg, arg_bytes);
}

int host_note_bytes(struct cuda_backend *b, void *to, const void *from, size_t bytes)
{
	if (!b->graph) return 0;
	*add_node(b->graph) = (struct node){NULL, (void *)(uintptr_t)from, to, {0, 0, 0}, 0, bytes};
	return 1;
}

void *host_note_scratch(struct cuda_backend *b, size_t bytes)
{
	struct backend_graph *g = b->graph;
	g->scratch = (struct scratch *)realloc(g->scratch, (g->scratches + 1) * sizeof *g->scratch);
	CHECK(g->scratch, "out of memory for a graph");
	struct scratch *s = &g->scratch[g->scratches++];
	*s = (struct scratch){malloc(bytes ? bytes : 1), bytes};
	CHECK(s->p, "out of memory for a graph");
	return s->p;
}

static void graph_begin(struct backend *base)
{
	struct cuda_backend *b = cuda_of(base);
	cuda_not_recorded(base, "another recording");
	b->graph = (struct backend_graph *)calloc(1, sizeof *b->graph);
	CHECK(b->graph, "out of memory for a graph");
	b->recording = 1;
}

static struct backend_graph *graph_end(struct backend *base)
{
	struct cuda_backend *b = cuda_of(base);
	struct backend_graph *g = b->graph;
	CHECK(g && b->recording, "no operations are being recorded");
	g->reserved = b->scratch_bytes;
	b->graph = NULL;
	b->recording = 0;
	return g;
}

static int graph_run(struct backend *base, const struct backend_graph *g)
{
	struct cuda_backend *b = cuda_of(base);
	cuda_not_recorded(base, "a recorded graph");
	if (g->reserved != b->scratch_bytes) return 0;
	for (size_t i = 0; i < g->scratches; i++) memset(g->scratch[i].p, 0xff, g->scratch[i].bytes);
	for (size_t i = 0; i < g->nodes; i++) {
		const struct node *n = &g->node[i];
		if (n->kernel) host_launch(b->machine, n->kernel, n->arg, n->grid, n->threads, n->bytes);
		else if (n->arg) memmove(n->to, n->arg, n->bytes);
		else memset(n->to, 0, n->bytes);
	}
	return 1;
}

static void graph_close(struct backend *b, struct backend_graph *g)
{
	(void)b;
	for (size_t i = 0; i < g->nodes; i++)
		if (g->node[i].kernel) free(g->node[i].arg);
	for (size_t i = 0; i < g->scratches; i++) free(g->scratch[i].p);
	free(g->node);
	free(g->scratch);
	free(g);
}

void K(cuda_graphs)(struct backend *b)
{
	b->graph_begin = graph_begin;
	b->graph_end = graph_end;
	b->graph_run = graph_run;
	b->graph_close = graph_close;
}
