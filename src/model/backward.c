/* Backward of the pass that model_forward kept: sum_i coef_i * grad log pi(y_i). Activation gradients are overwritten, parameter gradients added to. The
 * gradient of the residual stream dx is one f32 buffer that walks from the head down. */
#include <string.h>

#include "base/err.h"
#include "model/session.h"

struct backward {
    struct model *m;
    const struct adapter *a;
    struct session *q;
    int64_t rows;
    enum dtype t;
    float *dx;     /* (N, C) gradient of the residual stream */
    void *dxc;     /* (N, C) the same in the compute dtype: what meets the products */
    float *dh;     /* (N, C) gradient of a normed input */
    void *dact;    /* (N, F) */
    void *dgu;     /* (N, 2F) */
    void *dattn;   /* (N, H D) */
    void *dqkv;    /* (N, Q) */
    float *draw;   /* (N, Q) f32: through the norms of q and k */
    void *dlora;   /* (N, rank) */
    float *ddrop;  /* (N, widest) */
};

static inline void *at(void *base, enum dtype t, int64_t i) { return (char *)base + (size_t)i * dtype_size(t); }
static inline const void *at_const(const void *base, enum dtype t, int64_t i) { return (const char *)base + (size_t)i * dtype_size(t); }

static void take_buffers(struct backward *b)
{
    const struct model_config *c = &b->m->config;
    struct arena *a = &b->q->arena;
    const size_t n = (size_t)b->rows, size = dtype_size(b->t), C = (size_t)c->hidden, F = (size_t)c->inter, Q = (size_t)qkv_width(c);
    b->dx = arena_take(a, n * C * sizeof(float));
    b->dxc = arena_take(a, n * C * size);
    b->dh = arena_take(a, n * C * sizeof(float));
    b->dact = arena_take(a, n * F * size);
    b->dgu = arena_take(a, n * 2 * F * size);
    b->dattn = arena_take(a, n * (size_t)(c->n_head * c->head_dim) * size);
    b->dqkv = arena_take(a, n * Q * size);
    if (c->qk_norm) b->draw = arena_take(a, n * Q * sizeof(float));
    size_t rank = 0;
    for (int64_t i = 0; b->a && i < c->n_layer * LINEAR_COUNT; i++)
        if ((size_t)b->a->linear[i].r_sum > rank) rank = (size_t)b->a->linear[i].r_sum;
    if (rank) b->dlora = arena_take(a, n * rank * size);
    if (rank && b->a->dropping && b->a->dropout > 0) b->ddrop = arena_take(a, n * (F > C ? F : C) * sizeof(float));
}

/* y_p += s_p (x A^T) B_p^T:   dT_p = s_p dy_p B_p,  dB_p += s_p dy_p^T T_p,  dA_p += dT_p^T x,  dx += dT A */
static void lora_backward(struct backward *b, int64_t layer, enum linear_id id, void *dx, enum dtype dxt, const void *dy, const void *x, const void *lora_t)
{
    const struct lora_linear *l = adapter_linear(b->a, layer, id);
    if (!l) return;
    const struct weight *w = &b->m->layer[layer].linear[id].w;
    const bool dropping = b->a->dropping && b->a->dropout > 0;
    if (dropping) {
        lora_drop(b->a, layer, id, b->q->scratch.dropped, x, b->t, b->q->packing.key, b->rows, w->n_in);
        x = b->q->scratch.dropped;
    }
    int64_t column = 0;
    for (int p = 0; p < w->n_part; p++) {
        const int64_t width = w->part[p].n_out;
        if (l->on[p]) {
            const void *dyp = at_const(dy, b->t, column);
            void *dt = at(b->dlora, b->t, l->r_start[p]);
            ops->linear_bwd_x(dt, b->t, l->r_sum, dyp, b->t, w->n_out, &l->b[p], b->rows, l->scale[p], false);
            ops->linear_bwd_w(l->pb[p]->grad, dyp, b->t, w->n_out, at_const(lora_t, b->t, l->r_start[p]), b->t, l->r_sum, width, l->r[p], b->rows, l->scale[p], false);
            ops->linear_bwd_w(l->pa[p]->grad, dt, b->t, l->r_sum, x, b->t, w->n_in, l->r[p], w->n_in, b->rows, 1, false);
        }
        column += width;
    }
    if (!dx) return;
    if (!dropping) {
        ops->linear_bwd_x(dx, dxt, w->n_in, b->dlora, b->t, l->r_sum, &l->a, b->rows, 1, true);
        return;
    }
    // The mask that multiplied x multiplies its gradient; drawn again, into the buffer that held the dropped input.
    ops->linear_bwd_x(b->ddrop, DTYPE_F32, w->n_in, b->dlora, b->t, l->r_sum, &l->a, b->rows, 1, false);
    lora_drop(b->a, layer, id, b->ddrop, b->ddrop, DTYPE_F32, b->q->packing.key, b->rows, w->n_in);
    if (dxt == DTYPE_F32) {
        ops->add_acc(dx, b->ddrop, DTYPE_F32, b->rows * w->n_in, 1);
        return;
    }
    for (int64_t i = 0; i < b->rows * w->n_in; i++) {
        uint16_t *d = (uint16_t *)dx + i;
        *d = f32_to_bf16(bf16_to_f32(*d) + b->ddrop[i]);
    }
}

/* y = x W^T + bias:   dx = dy W,  dW_p += dy_p^T x,  dbias_p += column sums of dy_p.   dx NULL: nothing below needs it. */
static void linear_backward(struct backward *b, int64_t layer, enum linear_id id, void *dx, enum dtype dxt, const void *dy, const void *x, const void *lora_t)
{
    const struct linear *l = &b->m->layer[layer].linear[id];
    if (dx) ops->linear_bwd_x(dx, dxt, l->w.n_in, dy, b->t, l->w.n_out, &l->w, b->rows, 1, false);
    int64_t column = 0;
    for (int p = 0; !b->a && p < l->w.n_part; p++) {
        const void *dyp = at_const(dy, b->t, column);
        if (l->dw[p]) ops->linear_bwd_w(l->dw[p]->grad, dyp, b->t, l->w.n_out, x, b->t, l->w.n_in, l->w.part[p].n_out, l->w.n_in, b->rows, 1, false);
        if (l->dbias[p]) ops->bias_bwd(l->dbias[p]->grad, dyp, b->t, l->w.n_out, b->rows, l->w.part[p].n_out);
        column += l->w.part[p].n_out;
    }
    lora_backward(b, layer, id, dx, dxt, dy, x, lora_t);
}

static float *grad_of(const struct backward *b, struct param *p) { return !b->a && p ? p->grad : NULL; }

/* x3 = x2 + down(glu(gate_up(norm2(x2)))):   in: dx = dL/dx3, out: dx = dL/dx2 */
static void mlp_backward(struct backward *b, int64_t i)
{
    const struct model_config *c = &b->m->config;
    const struct layer *l = &b->m->layer[i];
    struct layer_acts *k = &b->q->acts[i];
    const struct block_scratch *s = &b->q->scratch;
    // was: x3 += down(act)
    ops->convert(b->dxc, b->t, b->dx, DTYPE_F32, b->rows * c->hidden);
    ops->glu_fwd(s->act, k->gate_up, b->t, b->rows, c->inter, c->act); // made again: cheaper than kept
    linear_backward(b, i, LINEAR_DOWN, b->dact, b->t, b->dxc, s->act, k->lora[LINEAR_DOWN]);
    // was: act = silu(gate) * up
    ops->glu_bwd(b->dgu, b->dact, k->gate_up, b->t, b->rows, c->inter, c->act);
    // was: gate_up = norm2(x2) W^T
    ops->rmsnorm_fwd(s->h, b->t, k->rstd2, k->x2, DTYPE_F32, l->norm2, b->rows, c->hidden, c->norm_eps, 0);
    linear_backward(b, i, LINEAR_GATE_UP, b->dh, DTYPE_F32, b->dgu, s->h, k->lora[LINEAR_GATE_UP]);
    ops->rmsnorm_bwd_acc(b->dx, grad_of(b, l->dnorm2), b->dh, DTYPE_F32, k->x2, DTYPE_F32, l->norm2, k->rstd2, b->rows, c->hidden, 0);
}

/* was: q = norm(q_raw) per head, the same for k */
static void qk_norm_backward(struct backward *b, int64_t i)
{
    const struct model_config *c = &b->m->config;
    const struct layer *l = &b->m->layer[i];
    struct layer_acts *k = &b->q->acts[i];
    const int64_t q = qkv_width(c), k_at = c->n_head * c->head_dim, d = c->head_dim;
    ops->convert(b->draw, DTYPE_F32, b->dqkv, b->t, b->rows * q);
    for (int64_t r = 0; r < b->rows; r++) {
        memset(b->draw + r * q, 0, (size_t)((c->n_head + c->n_kv) * d) * sizeof(float));
        ops->rmsnorm_bwd_acc(b->draw + r * q, grad_of(b, l->dq_norm), at(b->dqkv, b->t, r * q), b->t, at(k->qkv_raw, b->t, r * q), b->t, l->q_norm, k->rstd_q + r * c->n_head, c->n_head, d, 0);
        ops->rmsnorm_bwd_acc(b->draw + r * q + k_at, grad_of(b, l->dk_norm), at(b->dqkv, b->t, r * q + k_at), b->t, at(k->qkv_raw, b->t, r * q + k_at), b->t, l->k_norm,
                             k->rstd_k + r * c->n_kv, c->n_kv, d, 0);
    }
    ops->convert(b->dqkv, b->t, b->draw, DTYPE_F32, b->rows * q);
}

/* x2 = x1 + o(attention(qkv(norm1(x1)))):   in: dx = dL/dx2, out: dx = dL/dx1 */
static void attention_backward(struct backward *b, int64_t i, bool need_input)
{
    const struct model_config *c = &b->m->config;
    const struct layer *l = &b->m->layer[i];
    struct layer_acts *k = &b->q->acts[i];
    const struct block_scratch *s = &b->q->scratch;
    const struct packing *p = &b->q->packing;
    const struct attn_shape shape = layer_attn_shape(c, i);
    const int64_t q = qkv_width(c), k_at = c->n_head * c->head_dim, v_at = k_at + c->n_kv * c->head_dim;
    // was: x2 += o(attn)
    ops->convert(b->dxc, b->t, b->dx, DTYPE_F32, b->rows * c->hidden);
    linear_backward(b, i, LINEAR_O, b->dattn, b->t, b->dxc, k->attn, k->lora[LINEAR_O]);
    // was: attn = softmax(q k^T) v
    ops->attn_bwd(b->dqkv, q, at(b->dqkv, b->t, k_at), at(b->dqkv, b->t, v_at), q, b->dattn, k_at, k->attn, k_at, k->lse, k->qkv, q, at(k->qkv, b->t, k_at), at(k->qkv, b->t, v_at), q, b->t,
                  p->segment, p->n_segment, &shape);
    // was: q, k turned by RoPE
    ops->rope_bwd(b->dqkv, b->t, q, p->pos, b->m->rope.cosine, b->m->rope.sine, b->rows, c->n_head, c->head_dim, c->rope.rot);
    ops->rope_bwd(at(b->dqkv, b->t, k_at), b->t, q, p->pos, b->m->rope.cosine, b->m->rope.sine, b->rows, c->n_kv, c->head_dim, c->rope.rot);
    if (c->qk_norm) qk_norm_backward(b, i);
    // was: qkv = norm1(x1) W^T
    ops->rmsnorm_fwd(s->h, b->t, k->rstd1, k->x1, DTYPE_F32, l->norm1, b->rows, c->hidden, c->norm_eps, 0);
    linear_backward(b, i, LINEAR_QKV, need_input ? b->dh : NULL, DTYPE_F32, b->dqkv, s->h, k->lora[LINEAR_QKV]);
    if (need_input) ops->rmsnorm_bwd_acc(b->dx, grad_of(b, l->dnorm1), b->dh, DTYPE_F32, k->x1, DTYPE_F32, l->norm1, k->rstd1, b->rows, c->hidden, 0);
}

/* logp = head(norm(x_last at the predicting rows)):   out: dx */
static void head_backward(struct backward *b, const double *coef, const float *token_weight)
{
    struct model *m = b->m;
    const struct model_config *c = &m->config;
    struct session *q = b->q;
    const struct packing *p = &q->packing;
    const int64_t n = c->reward_head ? p->n_sequence : p->n_target;
    float *dh = arena_take(&q->arena, (size_t)(n * c->hidden) * sizeof *dh), *dg = arena_take(&q->arena, (size_t)(n * c->hidden) * sizeof *dg);
    float *each = arena_take(&q->arena, (size_t)n * sizeof *each);
    for (int64_t i = 0; i < p->n_sequence; i++) {
        if (c->reward_head)
            each[i] = (float)coef[i];
        else
            for (int64_t k = p->sequence_start[i]; k < p->sequence_start[i + 1]; k++) each[k] = (float)(coef[i] * (token_weight ? token_weight[k] : 1.0));
    }
    if (c->reward_head) { // was: score = h . w + bias
        void *dy = arena_take(&q->arena, (size_t)n * sizeof(float));
        ops->convert(dy, b->t, each, DTYPE_F32, n);
        ops->linear_bwd_x(dh, DTYPE_F32, c->hidden, dy, b->t, 1, &m->head, n, 1, false);
        if (grad_of(b, m->dhead)) ops->linear_bwd_w(m->dhead->grad, dy, b->t, 1, q->h_last, b->t, c->hidden, 1, c->hidden, n, 1, false);
        if (grad_of(b, m->dscore_bias)) ops->bias_bwd(m->dscore_bias->grad, dy, b->t, 1, n, 1);
    } else {
        ops->head_bwd(dh, grad_of(b, m->dhead), q->h_last, b->t, c->hidden, &m->head, p->target, q->lse, each, n, 0, 1);
    }
    memset(dg, 0, (size_t)(n * c->hidden) * sizeof *dg);
    ops->rmsnorm_bwd_acc(dg, grad_of(b, m->dfinal_norm), dh, DTYPE_F32, q->gathered, DTYPE_F32, m->final_norm, q->rstd_last, n, c->hidden, 0);
    memset(b->dx, 0, (size_t)(b->rows * c->hidden) * sizeof *b->dx);
    ops->gather_bwd_acc(b->dx, dg, c->reward_head ? p->last_row : p->target_row, n, c->hidden);
}

int model_backward(struct policy policy, const double *coef, const float *token_weight, sail_err *err)
{
    struct model *m = policy.model;
    struct session *q = m->session;
    BUG_ON(!q || !q->kept || q->adapter != policy.adapter, "model_backward without the model_forward of the same policy");
    if (policy.adapter && !policy.adapter->trainable) return err_set(err, SAIL_FAILED, "the adapter is frozen");
    q->kept = false;
    struct backward b = {.m = m, .a = policy.adapter, .q = q, .rows = q->packing.n_row, .t = m->options.compute};
    take_buffers(&b);
    head_backward(&b, coef, token_weight);
    for (int64_t i = m->config.n_layer - 1; i >= 0; i--) {
        mlp_backward(&b, i);
        attention_backward(&b, i, i > 0 || !policy.adapter); // below the first block only an embedding in training needs dx
    }
    if (grad_of(&b, m->dembed)) ops->embed_bwd(m->dembed->grad, b.dx, q->packing.id, b.rows, m->config.hidden, 1);
    return SAIL_OK;
}
