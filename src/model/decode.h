/* Cached decoding: keys and values of prompts and answers in one cache of rows per layer; the same block code as the full forward. */
#ifndef SAIL_MODEL_DECODE_H
#define SAIL_MODEL_DECODE_H

#include "model/model.h"

struct kv_cache;
/* rows: cache rows (tokens) in all; most: rows of one pass (prefill or step). Kept between runs, grown when needed. */
int kv_cache_create(struct kv_cache **out, struct model *m, sail_err *err);
void kv_cache_free(struct kv_cache *c);
size_t kv_cache_bytes(const struct kv_cache *c); /* that it may fill, as reserved */
int kv_cache_reserve(struct kv_cache *c, struct policy p, int64_t rows, int64_t most, int64_t n_pos, sail_err *err);

struct prefill {
    const int32_t *ids;
    int64_t n, row; /* tokens, first cache row: a multiple of CACHE_BLOCK */
};
/* Runs whole prompts; x (n, C): the residual stream at the last token of each. */
void kv_prefill(struct kv_cache *c, struct policy p, const struct prefill *prompt, int64_t n, float *x);
/* One token for each row: its keys and values go to cache row `row->start + row->n - 1`, x (n, C) as above. Adjacent rows with the same prefix read it together. */
void kv_step(struct kv_cache *c, struct policy p, const int32_t *id, const struct attn_cache_row *row, int64_t n, float *x);
/* logits (n, V) f32 of residual rows x (n, C), kv_logits_row() floats apart: rows whose beginnings lie multiples of 4 KiB apart would share a few lines of the caches. */
int64_t kv_logits_row(const struct model *m);
void kv_logits(struct kv_cache *c, struct policy p, const float *x, int64_t n, float *logits);

#endif
