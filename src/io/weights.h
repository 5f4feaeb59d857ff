/* Weight files: a Hugging Face folder (safetensors, single or sharded) or a GGUF file, seen alike: tensors under their
 * Hugging Face names in Hugging Face layout, and a config.json. */
#ifndef SAIL_IO_WEIGHTS_H
#define SAIL_IO_WEIGHTS_H

#include <jansson.h>

#include "sail.h"
#include "tensor/tensor.h"

struct weights;

/* path: a folder, or a file that ends in .gguf. Everything is validated here (offsets, overlaps, size products);
 * errors name file, tensor and offset. */
int weights_open(struct weights **out, const char *path, sail_err *err);
void weights_close(struct weights *w);
const char *weights_path(const struct weights *w);
bool weights_is_gguf(const struct weights *w);

/* config.json as it is; for GGUF one made from its keys in the spelling of transformers 4, with the same meaning. Borrowed. */
json_t *weights_config(const struct weights *w);
/* generation_config.json or NULL. Borrowed. */
json_t *weights_generation_config(const struct weights *w);

int64_t weights_count(const struct weights *w);
/* Borrowed. name, dtype and dims are set (a quantised GGUF tensor says BF16: it is rounded to that on load);
 * data is not: use weights_map or weights_load. */
const struct tensor *weights_at(const struct weights *w, int64_t i);
/* "BF16", of a GGUF file its own: "Q4_1". */
const char *weights_stored_type(const struct weights *w, const struct tensor *t);
int64_t weights_place(const struct weights *w, const char *name); /* its place in the order of names, 0 to count - 1; -1: there is no such tensor */
const struct tensor *weights_find(const struct weights *w, const char *name);

/* The tensor's bytes in the file when they are exactly its dtype, layout and are aligned to it; else NULL (quantised, permuted). */
const void *weights_map(const struct weights *w, const struct tensor *t);
/* Writes all values to dst as dt (F32 or BF16): converted, dequantised (then rounded to bf16, also on the way to f32),
 * un-permuted. */
int weights_load(const struct weights *w, const struct tensor *t, void *dst, enum dtype dt, sail_err *err);
/* The pages behind the tensor are not needed any more for now. */
void weights_drop(const struct weights *w, const struct tensor *t);

#endif
