/* Heads of queries, keys and values on their way between what a product gives and what attention and the norms of heads want. */
#include <string.h>

#include "model/internal.h"

/* Rows of q or k: (m, H D) side by side, or (H, m, D) where each head has its own norm. to_heads: from qkv; else back. */
static void move_heads(const struct model_config *c, char *qkv, char *heads, enum dtype t, int64_t rows, bool keys, bool to_heads)
{
    const int64_t q = qkv_width(c), at = keys ? q_width(c) : 0, n = qk_norm_count(c, keys), width = (keys ? kv_width(c) : q_width(c)) / n;
    const size_t size = dtype_size(t);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t h = 0; h < n; h++) {
            char *in_row = qkv + (size_t)(i * q + at + h * width) * size, *apart = heads + (size_t)((h * rows + i) * width) * size;
            if (to_heads)
                memcpy(apart, in_row, (size_t)width * size);
            else
                memcpy(in_row, apart, (size_t)width * size);
        }
}

void heads_gather(const struct model_config *c, void *heads, const void *qkv, enum dtype t, int64_t rows, bool keys)
{
    move_heads(c, (char *)(uintptr_t)qkv, heads, t, rows, keys, true);
}

void heads_scatter(const struct model_config *c, void *qkv, const void *heads, enum dtype t, int64_t rows, bool keys)
{
    move_heads(c, qkv, (char *)(uintptr_t)heads, t, rows, keys, false);
}

void heads_join(const struct model_config *c, void *qkv, const void *split, enum dtype t, int64_t rows)
{
    const size_t head = (size_t)c->head_dim * dtype_size(t);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t h = 0; h < c->n_head; h++)
            for (int64_t k = 0; k < 3; k++)
                memcpy((char *)qkv + (size_t)((i * 3 + k) * c->n_head + h) * head, (const char *)split + (size_t)((i * c->n_head + h) * 3 + k) * head, head);
}

void heads_split(const struct model_config *c, void *split, const void *qkv, enum dtype t, int64_t rows)
{
    const size_t head = (size_t)c->head_dim * dtype_size(t);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t h = 0; h < c->n_head; h++)
            for (int64_t k = 0; k < 3; k++)
                memcpy((char *)split + (size_t)((i * c->n_head + h) * 3 + k) * head, (const char *)qkv + (size_t)((i * 3 + k) * c->n_head + h) * head, head);
}

/* Element 2j + i of a head <-> element j + i D / 2. Values stay where they are: attention sees q and k in the same order. */
static void reorder(const struct model_config *c, void *qkv, enum dtype t, int64_t rows, bool apart)
{
    const size_t size = dtype_size(t), head = (size_t)c->head_dim * size;
    const int64_t n = c->n_head + c->n_kv, q = qkv_width(c), half = c->head_dim / 2;
#pragma omp parallel for num_threads(backend_thread_count()) schedule(static)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t h = 0; h < n; h++) {
            char *x = element_at(qkv, t, i * q + h * c->head_dim), old[HEAD_DIM_MAX * sizeof(float)];
            memcpy(old, x, head);
            for (int64_t j = 0; j < c->head_dim; j++) {
                const size_t near = (size_t)j, far = (size_t)(j % 2 * half + j / 2);
                memcpy(x + (apart ? far : near) * size, old + (apart ? near : far) * size, size);
            }
        }
}

void heads_unpair(const struct model_config *c, void *qkv, enum dtype t, int64_t rows) { reorder(c, qkv, t, rows, true); }
void heads_pair(const struct model_config *c, void *qkv, enum dtype t, int64_t rows) { reorder(c, qkv, t, rows, false); }
