/* Counts for the bench and the memory plan. */
#include "model/adapter.h"
#include "model/session.h"

/* Multiply-adds of one row through a product of a block and its adapter. */
static double linear_products(const struct model *m, const struct adapter *a, int64_t layer, enum linear_id id)
{
    const struct weight *w = &m->layer[layer].linear[id].w;
    const struct lora_linear *l = adapter_linear(a, layer, id);
    double n = (double)w->n_out * (double)w->n_in;
    for (int p = 0; l && p < w->n_part; p++)
        if (l->on[p]) n += (double)l->r[p] * (double)(w->n_in + w->part[p].n_out);
    return n;
}

/* Of one row through all blocks. */
static double row_products(const struct model *m, const struct adapter *a)
{
    double n = 0;
    for (int64_t i = 0; i < m->config.n_layer; i++)
        for (int id = 0; id < LINEAR_COUNT; id++) n += linear_products(m, a, i, (enum linear_id)id);
    return n;
}

/* Key rows that queries at positions [from, from + n) see, summed; window w (0: all before). */
static double pairs_seen(int64_t from, int64_t n, int64_t window)
{
    double sum = 0;
    for (int64_t p = from; p < from + n; p++) sum += (double)(window && p + 1 > window ? window : p + 1);
    return sum;
}

double model_attention_flops(struct policy p, const struct sequences *s)
{
    const struct model_config *c = &p.model->config;
    double pairs = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const int64_t fed = c->reward_head ? s->n_tok[i] : s->n_tok[i] - 1;
        for (int64_t k = 0; k < c->n_layer; k++) {
            const int64_t window = layer_attn_shape(c, k).window;
            pairs += (sequences_share(p.model, s, i) ? 0 : pairs_seen(0, s->n_prompt[i], window)) + pairs_seen(s->n_prompt[i], fed, window);
        }
    }
    return 4 * pairs * (double)q_width(c);
}

double model_flops(struct policy p, const struct sequences *s)
{
    const struct model *m = p.model;
    const struct model_config *c = &m->config;
    double rows = 0, targets = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const bool shares = sequences_share(m, s, i);
        const int64_t fed = c->reward_head || !s->n_tok[i] ? s->n_tok[i] : s->n_tok[i] - 1;
        rows += (double)(shares ? 0 : s->n_prompt[i]) + (double)fed;
        targets += c->reward_head ? 0 : (double)s->n_tok[i];
    }
    return model_attention_flops(p, s) + 2 * (rows * row_products(m, p.adapter) + targets * (double)(c->vocab * c->hidden));
}

double model_prefill_flops(struct policy p, int64_t n)
{
    const struct model *m = p.model;
    const struct model_config *c = &m->config;
    const int64_t last = c->n_layer - 1, window = layer_attn_shape(c, last).window;
    double pairs = pairs_seen(n - 1, 1, window), products = (double)n * row_products(m, p.adapter);
    for (int64_t k = 0; k < last; k++) pairs += pairs_seen(0, n, layer_attn_shape(c, k).window);
    for (int id = 0; id < LINEAR_COUNT; id++)
        if (id != LINEAR_QKV) products -= (double)(n - 1) * linear_products(m, p.adapter, last, (enum linear_id)id);
    return 4 * pairs * (double)q_width(c) + 2 * products;
}

double model_step_bytes(struct policy p)
{
    const struct model_config *c = &p.model->config;
    double values = row_products(p.model, p.adapter); // each is met once
    if (!c->reward_head) values += (double)c->vocab * (double)c->hidden;
    return values * (double)dtype_size(p.model->options.compute);
}
