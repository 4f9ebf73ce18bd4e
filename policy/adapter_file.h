/* Adapters on disk as PEFT has them: adapter_config.json and
 * adapter_model.safetensors, "base_model.model." before the name of a module.
 *
 * Routed experts. Since transformers 5 holds the experts of most families fused
 * (experts.gate_up_proj [E, 2I, C], experts.down_proj [E, C, I]), PEFT adapts them
 * as parameters (target_parameters): for all experts one A [E·r, in] and one B
 * [out, r·E] whose columns run over the experts fastest, the first parameter of a
 * module inside ("experts.base_layer.lora_A") and the second around it
 * ("experts.lora_A"). Gate and up projection are one matrix there: adapters of
 * both are written as one of the sum of their ranks, B being block diagonal.
 * Names as before transformers 5, one adapter for each expert's projection, are
 * read too, and are written for the families that the library does not fuse.
 *
 * Read is what can be computed here: DoRA, adapters on embeddings, biases of
 * adapters and starts that change the base (PiSSA, OLoRA …) are refused by name. */
#ifndef TENFOLD_POLICY_ADAPTER_FILE_H
#define TENFOLD_POLICY_ADAPTER_FILE_H

#include "policy/adapter.h"

/* Writes the adapters of a model and what learns whole (a value head beside a language model's head has no place there and is
 * left out). base: path or name of the base, for base_model_name_or_path. Makes the folder when missing. */
int adapter_write(const char *folder, const struct model *m, const char *base, const struct config_lora *c, struct err *e);
/* Opens the adapters of a folder on a base, with the heads of heads_kind. ERR_NOT_FOUND: no such folder, or a factor without
 * its partner; ERR_MISMATCH: of another model; ERR_FORMAT: of a kind that is not read. */
int adapter_read(struct model **out, const struct model *base, const char *folder, int heads_kind, struct err *e);
/* 1 when the folder has adapters and no model. */
int adapter_is_folder(const char *folder);
/* The heads that the folder's task_type means. ERR_FORMAT: neither of CAUSAL_LM and SEQ_CLS. */
int adapter_heads(const char *folder, int *heads_kind, struct err *e);
/* The base that a folder's adapter_config.json names, as a path from here or beside the folder. ERR_NOT_FOUND: it is not here. */
int adapter_base(const char *folder, char *out, size_t bytes, struct err *e);

#endif
