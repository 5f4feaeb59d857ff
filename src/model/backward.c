/* Backward of the pass that model_forward kept: sum_i coef_i * grad log pi(y_i). Activation gradients are overwritten, parameter
 * gradients added to. The gradient of the residual stream dx is one f32 buffer that walks from the head down. */
#include <string.h>

#include "base/err.h"
#include "model/adapter.h"
#include "model/session.h"

struct backward {
    struct model *m;
    const struct adapter *a;
    struct session *q;
    int64_t rows, targets;
    enum dtype t;
    float *dx;     /* (N, C) gradient of the residual stream */
    void *dxc;     /* (N, C) gradient of a branch in the compute dtype: what meets the products */
    float *dbranch; /* (N, C) the same in f32, where a norm follows the branch */
    float *dh;     /* (N, C) gradient of a product's input */
    void *dact;    /* (N, F) */
    void *dup;     /* (N, 2F) or (N, F) */
    void *dattn;   /* (N, H D) */
    void *dqkv;    /* (N, Q) */
    void *dsplit;  /* (N, Q) head by head */
    float *draw;   /* (N, H D) through the norms of q and k */
    void *dlora;   /* (N, rank) */
    float *ddrop;  /* (N, widest) */
    void *dgain;   /* (N, widest output) through DoRA's gains */
    float *dlast, *dgathered, *each; /* (targets, C) twice, (targets) */
    const struct predictions *of;    /* NULL: nothing pulls */
    const float *pull;
    float *kl;
};

static size_t place_buffers(struct backward *b, const struct model *m, struct arena *a)
{
    const struct model_config *c = &m->config;
    const size_t n = (size_t)b->rows, size = dtype_size(m->options.compute), C = (size_t)c->hidden, F = (size_t)c->inter;
    const size_t Q = (size_t)qkv_width(c), HD = (size_t)q_width(c), targets = (size_t)b->targets, rank = (size_t)adapter_max_rank(b->a);
    size_t bytes = arena_place(a, &b->dx, n * C * sizeof(float));
    bytes += arena_place(a, &b->dxc, n * C * size);
    if (m->layer[0].norm[NORM_ATTENTION_OUT].w || c->residual_scale != 1) bytes += arena_place(a, &b->dbranch, n * C * sizeof(float));
    bytes += arena_place(a, &b->dh, n * C * sizeof(float));
    bytes += arena_place(a, &b->dact, n * F * size);
    bytes += arena_place(a, &b->dup, n * (size_t)up_width(c) * size);
    bytes += arena_place(a, &b->dattn, n * HD * size);
    bytes += arena_place(a, &b->dqkv, n * Q * size);
    if (c->family->per_head_qkv) bytes += arena_place(a, &b->dsplit, n * Q * size);
    if (c->qk_norm) bytes += arena_place(a, &b->draw, n * HD * sizeof(float));
    if (rank) bytes += arena_place(a, &b->dlora, n * rank * size);
    if (rank && b->a->dropout > 0) bytes += arena_place(a, &b->ddrop, n * (F > C ? F > HD ? F : HD : C > HD ? C : HD) * sizeof(float));
    if (b->a && b->a->is_dora) bytes += arena_place(a, &b->dgain, n * (size_t)widest_output(c) * size);
    bytes += arena_place(a, &b->dlast, targets * C * sizeof(float));
    bytes += arena_place(a, &b->dgathered, targets * C * sizeof(float));
    bytes += 2 * arena_room(targets * sizeof(float)); // each, and what a reward head turns it into
    if (a) b->each = arena_take(a, targets * sizeof(float));
    return bytes;
}

size_t backward_bytes(const struct model *m, const struct adapter *a, int64_t rows, int64_t targets)
{
    struct backward b = {.a = a, .rows = rows, .targets = targets};
    return place_buffers(&b, m, NULL);
}

/* The adapter's part of linear_backward. dy: already through the gains, where there are any; x: what the adapter saw. */
struct lora_pass {
    const struct lora_linear *l;
    const void *dy, *x, *lora_t;
    bool dropping;
};

/* y_p += s_p (x A^T) B_p^T:   dT_p = s_p dy_p B_p,  dB_p += s_p dy_p^T T_p,  dA_p += dT_p^T x */
static void factors_backward(struct backward *b, const struct weight *w, const struct lora_pass *f)
{
    const struct lora_linear *l = f->l;
    int64_t column = 0;
    for (int p = 0; p < w->n_part; p++) {
        const int64_t width = w->part[p].n_out;
        if (l->on[p]) {
            const void *dyp = element_of(f->dy, b->t, column);
            void *dt = element_at(b->dlora, b->t, l->r_start[p]);
            ops->linear_bwd_x(dt, b->t, l->r_sum, dyp, b->t, w->n_out, &l->b[p], b->rows, l->scale[p], false);
            ops->linear_bwd_w(l->pb[p]->grad, dyp, b->t, w->n_out, element_of(f->lora_t, b->t, l->r_start[p]), b->t, l->r_sum, width, l->r[p],
                              b->rows, l->scale[p], false);
            ops->linear_bwd_w(l->pa[p]->grad, dt, b->t, l->r_sum, f->x, b->t, w->n_in, l->r[p], w->n_in, b->rows, 1, false);
        }
        column += width;
    }
}

/* dx += dT A; and where x was dropped out, the mask that multiplied x multiplies all that the adapter gives back: dT A and, with DoRA, ((g - 1) dy) W. */
static void lora_input_backward(struct backward *b, int64_t layer, enum linear_id id, void *dx, enum dtype dxt, const void *dy, const struct lora_pass *f)
{
    const struct weight *w = &b->m->layer[layer].linear[id].w;
    const struct lora_linear *l = f->l;
    if (!f->dropping) {
        ops->linear_bwd_x(dx, dxt, w->n_in, b->dlora, b->t, l->r_sum, &l->a, b->rows, 1, true);
        return;
    }
    ops->linear_bwd_x(b->ddrop, DTYPE_F32, w->n_in, b->dlora, b->t, l->r_sum, &l->a, b->rows, 1, false);
    if (l->gain) {
        columns_scale(b->dgain, b->t, w->n_out, dy, b->t, w->n_out, l->extra, NULL, b->rows, w->n_out, false);
        ops->linear_bwd_x(b->ddrop, DTYPE_F32, w->n_in, b->dgain, b->t, w->n_out, w, b->rows, 1, true);
    }
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

/* What the adapter saw of x (its dropout drawn again), and dy through DoRA's gains; the magnitudes get their gradient on the way. */
static struct lora_pass lora_pass_of(struct backward *b, int64_t layer, enum linear_id id, const void *dy, const void *x, const void *lora_t)
{
    const struct weight *w = &b->m->layer[layer].linear[id].w;
    struct lora_pass f = {.l = adapter_linear(b->a, layer, id), .dy = dy, .x = x, .lora_t = lora_t};
    if (!f.l) return f;
    f.dropping = b->a->dropout > 0;
    if (f.dropping) {
        lora_drop(b->a, layer, id, b->q->scratch.spare, x, b->t, b->q->packing.key, b->rows, w->n_in);
        f.x = b->q->scratch.spare;
    }
    if (!f.l->gain) return f;
    dora_magnitude_backward(b->m, b->a, layer, id, dy, f.x, lora_t, b->rows, &b->q->scratch);
    columns_scale(b->dgain, b->t, w->n_out, dy, b->t, w->n_out, f.l->gain, NULL, b->rows, w->n_out, false);
    f.dy = b->dgain;
    return f;
}

/* y = x W^T + bias:   dx = dy W,  dW_p += dy_p^T x,  dbias_p += column sums of dy_p.   dx NULL: nothing below needs it. */
static void linear_backward(struct backward *b, int64_t layer, enum linear_id id, void *dx, enum dtype dxt, const void *dy, const void *x,
                            const void *lora_t)
{
    const struct linear *l = &b->m->layer[layer].linear[id];
    const struct lora_pass f = lora_pass_of(b, layer, id, dy, x, lora_t);
    if (dx) ops->linear_bwd_x(dx, dxt, l->w.n_in, f.dropping ? dy : f.dy, b->t, l->w.n_out, &l->w, b->rows, 1, false);
    // the parts' gradients lie one behind the other: one product
    if (!b->a) ops->linear_bwd_w(l->dw[0]->grad, dy, b->t, l->w.n_out, x, b->t, l->w.n_in, l->w.n_out, l->w.n_in, b->rows, 1, l->w.part[0].transposed);
    int64_t column = 0;
    for (int p = 0; !b->a && l->dbias[p] && p < l->w.n_part; p++) {
        ops->bias_bwd(l->dbias[p]->grad, element_of(dy, b->t, column), b->t, l->w.n_out, b->rows, l->w.part[p].n_out);
        column += l->w.part[p].n_out;
    }
    if (!f.l) return;
    factors_backward(b, &l->w, &f);
    if (dx) lora_input_backward(b, layer, id, dx, dxt, dy, &f);
}

void norm_backward_acc(const struct model_config *c, const struct norm *n, float *dx, const void *dy, enum dtype dyt, const void *x,
                       enum dtype xt, const float *stat, int64_t rows, int64_t width, bool frozen)
{
    float *dw = frozen ? NULL : n->dw, *db = frozen ? NULL : n->db;
    if (c->family->layernorm)
        ops->layernorm_bwd_acc(dx, dw, db, dy, dyt, x, xt, n->w, stat, rows, width);
    else
        ops->rmsnorm_bwd_acc(dx, dw, dy, dyt, x, xt, n->w, stat, rows, width, c->family->norm_offset);
}

/* x' = x + scale branch, or x' = x + norm(branch):   dxc = dL/dbranch from dx = dL/dx' */
static void branch_backward(struct backward *b, int64_t i, enum norm_id after)
{
    const int64_t C = b->m->config.hidden;
    const struct norm *n = &b->m->layer[i].norm[after];
    const struct layer_acts *k = &b->q->acts[i];
    const float scale = b->m->config.residual_scale;
    if (!n->w && scale == 1) {
        ops->convert(b->dxc, b->t, b->dx, DTYPE_F32, b->rows * C);
        return;
    }
    memset(b->dbranch, 0, (size_t)(b->rows * C) * sizeof *b->dbranch);
    if (!n->w)
        ops->add_acc(b->dbranch, b->dx, DTYPE_F32, b->rows * C, scale);
    else
        norm_backward_acc(&b->m->config, n, b->dbranch, b->dx, DTYPE_F32, k->branch[after == NORM_MLP_OUT], DTYPE_F32, k->stat[after], b->rows, C, b->a);
    ops->convert(b->dxc, b->t, b->dbranch, DTYPE_F32, b->rows * C);
}

/* h = norm(x), or h = x:   dx += ... from dh */
static void input_backward(struct backward *b, int64_t i, enum norm_id id, const float *x)
{
    const int64_t C = b->m->config.hidden;
    const struct norm *n = &b->m->layer[i].norm[id];
    if (n->w)
        norm_backward_acc(&b->m->config, n, b->dx, b->dh, DTYPE_F32, x, DTYPE_F32, b->q->acts[i].stat[id], b->rows, C, b->a);
    else
        ops->add_acc(b->dx, b->dh, DTYPE_F32, b->rows * C, 1);
}

/* x3 = x2 + down(act(gate_up(norm2(x2)))):   in: dx = dL/dx3, out: dx = dL/dx2. Parallel: norm2 reads x1. */
static void mlp_backward(struct backward *b, int64_t i)
{
    const struct model_config *c = &b->m->config;
    struct layer_acts *k = &b->q->acts[i];
    const struct block_scratch *s = &b->q->scratch;
    const float *input = c->parallel ? k->x1 : k->x2;
    // was: x3 += down(act)
    branch_backward(b, i, NORM_MLP_OUT);
    mlp_activate(c, s->act, k->gate_up, b->t, b->rows); // made again: cheaper than kept
    linear_backward(b, i, LINEAR_DOWN, b->dact, b->t, b->dxc, s->act, k->lora[LINEAR_DOWN]);
    // was: act = silu(gate) * up
    if (c->family->gated)
        ops->glu_bwd(b->dup, b->dact, k->gate_up, b->t, b->rows, c->inter, c->act);
    else
        ops->act_bwd(b->dup, b->dact, k->gate_up, b->t, b->rows * c->inter, c->act);
    // was: gate_up = norm2(x2) W^T
    block_input(b->m, i, mlp_norm(c), k, input, b->rows, s);
    linear_backward(b, i, LINEAR_GATE_UP, b->dh, DTYPE_F32, b->dup, s->h, k->lora[LINEAR_GATE_UP]);
    input_backward(b, i, mlp_norm(c), input);
}

/* was: q = norm(q_raw), the same for k */
static void qk_norm_backward(struct backward *b, int64_t i)
{
    const struct model_config *c = &b->m->config;
    const struct layer *l = &b->m->layer[i];
    struct layer_acts *k = &b->q->acts[i];
    void *heads = b->q->scratch.spare;
    for (int keys = 0; keys < 2; keys++) {
        const int64_t n = qk_norm_count(c, keys), width = qk_norm_width(c, keys), total = b->rows * (keys ? kv_width(c) : q_width(c)), each = total / n, normed = each / width;
        const void *raw = element_of(k->qk_raw, b->t, keys ? b->rows * q_width(c) : 0);
        const float *stat = keys ? k->stat_k : k->stat_q;
        heads_gather(c, heads, b->dqkv, b->t, b->rows, keys);
        memset(b->draw, 0, (size_t)total * sizeof *b->draw);
        for (int64_t h = 0; h < n; h++)
            norm_backward_acc(c, (keys ? l->k_norm : l->q_norm) + h, b->draw + h * each, element_of(heads, b->t, h * each), b->t, element_of(raw, b->t, h * each), b->t,
                              stat + h * normed * norm_stats(c), normed, width, b->a);
        ops->convert(heads, b->t, b->draw, DTYPE_F32, total);
        heads_scatter(c, b->dqkv, heads, b->t, b->rows, keys);
    }
}

static void rope_backward(struct backward *b, int64_t i)
{
    const struct model_config *c = &b->m->config;
    if (c->kind[i].rope < 0) return;
    const struct turns *turn = &b->q->packing.turn;
    const struct rope_table *r = &turn->table[c->kind[i].rope];
    const int64_t rot = c->rope[c->kind[i].rope].rot, q = qkv_width(c);
    ops->rope_bwd(b->dqkv, b->t, q, turn->row, r->cosine, r->sine, b->rows, c->n_head + c->n_kv, c->head_dim, rot);
    if (c->family->interleaved) heads_pair(c, b->dqkv, b->t, b->rows);
}

/* x2 = x1 + o(attention(qkv(norm1(x1)))):   in: dx = dL/dx2, out: dx = dL/dx1 */
static void attention_backward(struct backward *b, int64_t i, bool need_input)
{
    const struct model_config *c = &b->m->config;
    struct layer_acts *k = &b->q->acts[i];
    const struct block_scratch *s = &b->q->scratch;
    const struct packing *p = &b->q->packing;
    const struct attn_shape shape = layer_attn_shape(c, i);
    const int64_t q = qkv_width(c), k_at = q_width(c), v_at = k_at + kv_width(c);
    // was: x2 += o(attn); in parallel blocks both branches have the gradient that mlp_backward left in dxc
    if (!c->parallel) branch_backward(b, i, NORM_ATTENTION_OUT);
    linear_backward(b, i, LINEAR_O, b->dattn, b->t, b->dxc, k->attn, k->lora[LINEAR_O]);
    // was: attn = softmax(q k^T) v
    ops->attn_bwd(b->dqkv, q, element_at(b->dqkv, b->t, k_at), element_at(b->dqkv, b->t, v_at), q, b->dattn, k_at, k->attn, k_at, k->lse, k->qkv, q,
                  element_at(k->qkv, b->t, k_at), element_at(k->qkv, b->t, v_at), q, b->t, p->segment, p->n_segment, &shape);
    // was: q, k turned by RoPE
    rope_backward(b, i);
    if (c->qk_norm) qk_norm_backward(b, i);
    // was: qkv = norm1(x1) W^T
    const void *dy = b->dqkv;
    if (b->dsplit) {
        heads_split(c, b->dsplit, b->dqkv, b->t, b->rows);
        dy = b->dsplit;
    }
    block_input(b->m, i, NORM_ATTENTION, k, k->x1, b->rows, s);
    linear_backward(b, i, LINEAR_QKV, need_input ? b->dh : NULL, DTYPE_F32, dy, s->h, k->lora[LINEAR_QKV]);
    if (need_input) input_backward(b, i, NORM_ATTENTION, k->x1);
}

static float *grad_of(const struct backward *b, struct param *p) { return !b->a && p ? p->grad : NULL; }
/* Of embeddings and heads: the adapter's own, else the model's. */
static float *saved_grad(const struct backward *b, struct param *saved, struct param *p) { return saved ? saved->grad : grad_of(b, p); }

/* logp = head(norm(x_last at the predicting rows)):   out: dx */
static void head_backward(struct backward *b, const double *coef, const float *token_weight)
{
    struct model *m = b->m;
    const struct model_config *c = &m->config;
    struct session *q = b->q;
    const struct packing *p = &q->packing;
    const int64_t n = b->targets;
    const struct saved_module *own = b->a ? &b->a->saved[SAVED_HEAD] : &(struct saved_module){0};
    float *dhead = saved_grad(b, own->weight, m->dhead), *dbias = saved_grad(b, own->bias, m->dscore_bias);
    for (int64_t i = 0; i < p->n_sequence; i++) {
        if (c->reward_head)
            b->each[i] = (float)coef[i];
        else
            for (int64_t k = p->sequence_start[i]; k < p->sequence_start[i + 1]; k++) b->each[k] = (float)(coef[i] * p->weight[k] * (token_weight ? token_weight[k] : 1.0));
    }
    if (c->reward_head) { // was: score = h . w + bias
        void *dy = arena_take(&q->arena, (size_t)n * sizeof(float));
        ops->convert(dy, b->t, b->each, DTYPE_F32, n);
        ops->linear_bwd_x(b->dlast, DTYPE_F32, c->hidden, dy, b->t, 1, head_weight(m, b->a), n, 1, false);
        if (dhead) ops->linear_bwd_w(dhead, dy, b->t, 1, q->h_last, b->t, c->hidden, 1, c->hidden, n, 1, false);
        if (dbias) ops->bias_bwd(dbias, dy, b->t, 1, n, 1);
    } else {
        ops->head_bwd(b->dlast, dhead, q->h_last, b->t, c->hidden, head_weight(m, b->a), p->target, q->lse, b->each, n, c->logit_softcap, c->logit_scale);
        if (b->of) {
            const struct policy from = b->of->policy;
            ops->head_kl_bwd_acc(b->kl, b->dlast, dhead, q->h_last, b->t, c->hidden, head_weight(m, b->a), q->lse, b->of->h, from.model->config.hidden, head_weight(from.model, from.adapter), b->of->lse, b->pull, n,
                                 c->logit_softcap, c->logit_scale);
        }
    }
    memset(b->dgathered, 0, (size_t)(n * c->hidden) * sizeof *b->dgathered);
    norm_backward_acc(c, &m->final_norm, b->dgathered, b->dlast, DTYPE_F32, q->gathered, DTYPE_F32, q->stat_last, n, c->hidden, b->a);
    memset(b->dx, 0, (size_t)(b->rows * c->hidden) * sizeof *b->dx);
    ops->gather_bwd_acc(b->dx, b->dgathered, c->reward_head ? p->last_row : p->target_row, n, c->hidden);
}

int model_backward(struct policy policy, const double *coef, const float *token_weight, sail_err *err) { return model_backward_pulled(policy, coef, token_weight, NULL, NULL, NULL, err); }

int model_backward_pulled(struct policy policy, const double *coef, const float *token_weight, const struct predictions *of, const float *pull, float *kl, sail_err *err)
{
    struct model *m = policy.model;
    struct session *q = m->session;
    BUG_ON(!q || !q->kept || q->adapter != policy.adapter, "model_backward without the model_forward of the same policy");
    BUG_ON(!policy.adapter && !m->options.train_full, "a frozen model without an adapter has nothing to learn");
    if (policy.adapter && !policy.adapter->trainable) return err_set(err, SAIL_FAILED, "the adapter is frozen");
    if (of && (of->policy.model->config.logit_softcap != m->config.logit_softcap || of->policy.model->config.logit_scale != m->config.logit_scale))
        return err_set(err, SAIL_FAILED, "%s and %s cap or scale their logits differently: no KL between them is taken", m->path, of->policy.model->path);
    q->kept = false;
    const int64_t targets = m->config.reward_head ? q->packing.n_sequence : q->packing.n_target;
    struct backward b = {.m = m, .a = policy.adapter, .q = q, .rows = q->packing.n_row, .targets = targets, .t = m->options.compute};
    b.of = of;
    b.pull = pull;
    b.kl = kl;
    BUG_ON(of && (of->n != targets || of->policy.model->options.compute != b.t || m->config.reward_head), "predictions of another pass: %lld tokens, here %lld", (long long)of->n, (long long)targets);
    place_buffers(&b, m, &q->arena);
    head_backward(&b, coef, token_weight);
    float *dembed = saved_grad(&b, b.a ? b.a->saved[SAVED_EMBED].weight : NULL, m->dembed);
    for (int64_t i = m->config.n_layer - 1; i >= 0; i--) {
        if (m->options.recompute && i + 1 < m->config.n_layer) session_run_block(m, b.a, i, q->x_last); // the last block's activations are still there
        mlp_backward(&b, i);
        attention_backward(&b, i, i > 0 || dembed); // below the first block only an embedding in training needs dx
    }
    if (dembed) ops->embed_bwd(dembed, b.dx, q->packing.id, b.rows, m->config.hidden, m->config.embed_scale);
    if (grad_of(&b, m->dposition)) ops->embed_bwd(m->dposition->grad, b.dx, q->packing.pos, b.rows, m->config.hidden, 1);
    return SAIL_OK;
}
