/* What a model and its adapters take of memory, from the same sums that take it. */
#include "base/err.h"
#include "model/adapter.h"
#include "model/session.h"

enum { SHORTEST_ROW = 8 }; /* tokens; only a pass over shorter ones takes more than is said here, by some bytes */

static size_t factors_bytes(const struct adapter *a, const struct lora_linear *l)
{
    const enum dtype t = a->model->options.compute;
    size_t bytes = ops->weight_bytes(l->a.n_out, l->a.n_in, t);
    for (int p = 0; p < WEIGHT_MAX_PARTS; p++)
        if (l->on[p]) bytes += ops->weight_bytes(l->b[p].n_out, l->b[p].n_in, t);
    return bytes;
}

/* What the products and gains of an adapter are kept in. */
static size_t layouts_bytes(const struct adapter *a)
{
    const struct model *m = a->model;
    size_t bytes = a->is_dora ? dora_room(a) : 0;
    for (int64_t i = 0; i < m->config.n_layer * LINEAR_COUNT; i++)
        if (a->linear[i].r_sum) bytes += factors_bytes(a, &a->linear[i]);
    const struct weight *head = &a->saved[SAVED_HEAD].w;
    return bytes + (a->saved[SAVED_HEAD].weight ? ops->weight_bytes(head->n_out, head->n_in, m->options.compute) : 0);
}

size_t adapter_memory(const struct adapter *a)
{
    size_t bytes = layouts_bytes(a);
    for (int64_t i = 0; i < a->n_param; i++) bytes += (size_t)a->param[i].n * sizeof(float) * (a->param[i].grad ? 2 : 1);
    return bytes;
}

struct model_memory model_memory(struct policy p, int64_t rows)
{
    const struct model *m = p.model;
    if (!rows) rows = m->options.micro_tokens;
    return (struct model_memory){.weights = m->weight_bytes,
                                 .layouts = m->layout_bytes + (p.adapter ? layouts_bytes(p.adapter) : 0),
                                 .activations = packing_room(m, rows, rows, rows / SHORTEST_ROW + 1, rows) + pass_bytes(m, p.adapter, rows, rows, m->options.backward)};
}
