/* How PEFT calls what is adapted, for adapter_write.c and adapter_read.c. */
#ifndef TENFOLD_POLICY_ADAPTER_NAMES_H
#define TENFOLD_POLICY_ADAPTER_NAMES_H

#include "policy/adapter_file.h"

#define ADAPTER_PREFIX "base_model.model."
enum { ADAPTER_NAME = 224 };

/* 1: transformers 5 holds the family's experts fused, and PEFT takes what is called as their matrices for parameters of it. */
int adapter_is_fused(enum family f);
/* Module of a parameter as transformers 5 calls it ("model.layers.0.mlp.gate"); "%d" stays for the expert. */
void adapter_module(enum family f, const char *name, char out[ADAPTER_NAME]);
/* The module of all experts of a parameter that is theirs ("model.layers.0.mlp.experts"). */
void adapter_experts(enum family f, const char *name, char out[ADAPTER_NAME]);

#endif
