/* A GGUF file's tensors under Hugging Face names and in Hugging Face layout, and its keys as a config.json. */
#ifndef SAIL_IO_GGUF_WEIGHTS_H
#define SAIL_IO_GGUF_WEIGHTS_H

#include <jansson.h>

#include "sail.h"
#include "tensor/tensor.h"

struct gguf_weights;
/* *tensor: a list of *n borrowed tensors that the caller frees (the list only); *config, *generation: new references. */
int gguf_weights_open(struct gguf_weights **out, const char *path, const struct tensor ***tensor, int64_t *n, json_t **config,
                      json_t **generation, sail_err *err);
void gguf_weights_close(struct gguf_weights *g);
/* NULL for quantised and re-arranged tensors. */
const void *gguf_weights_map(const struct gguf_weights *g, const struct tensor *t);
const char *gguf_weights_type(const struct tensor *t); /* as the file stores it: "Q4_1" */
int gguf_weights_load(const struct gguf_weights *g, const struct tensor *t, void *dst, enum dtype dt, sail_err *err);
void gguf_weights_drop(const struct gguf_weights *g, const struct tensor *t);

#endif
