/* What learns: the policy's parameters, their gradients, and what is made of them again after an optimizer step. */
#include <string.h>

#include "base/err.h"
#include "model/adapter.h"

int64_t policy_params(struct policy p, struct param **out)
{
    *out = p.adapter ? p.adapter->param : p.model->param;
    return p.adapter ? p.adapter->n_param : p.model->n_param;
}

void policy_zero_grad(struct policy p)
{
    struct param *q;
    const int64_t n = policy_params(p, &q);
    for (int64_t i = 0; i < n; i++) memset(q[i].grad, 0, (size_t)q[i].n * sizeof *q[i].grad);
}

static void refresh_adapter(struct adapter *a)
{
    for (int64_t i = 0; i < a->model->config.n_layer * LINEAR_COUNT; i++) {
        struct lora_linear *l = &a->linear[i];
        if (!l->r_sum) continue;
        ops->weight_refresh(&l->a);
        for (int p = 0; p < WEIGHT_MAX_PARTS; p++)
            if (l->on[p]) ops->weight_refresh(&l->b[p]);
    }
    saved_modules_refresh(a);
    dora_refresh(a);
}

/* Biases live twice when trained: as parameters of their parts and joined for the product. */
static void refresh_bias(struct linear *l)
{
    float *at = l->bias;
    for (int p = 0; l->bias && p < l->w.n_part; p++) {
        memcpy(at, l->dbias[p]->value, (size_t)l->dbias[p]->n * sizeof *at);
        at += l->dbias[p]->n;
    }
}

void policy_params_changed(struct policy p)
{
    if (p.adapter) {
        refresh_adapter(p.adapter);
        return;
    }
    struct model *m = p.model;
    BUG_ON(!m->n_param, "the weights of a frozen model do not change");
    for (int64_t i = 0; i < m->config.n_layer; i++)
        for (int id = 0; id < LINEAR_COUNT; id++) {
            ops->weight_refresh(&m->layer[i].linear[id].w);
            refresh_bias(&m->layer[i].linear[id]);
        }
    ops->weight_refresh(&m->head);
}
