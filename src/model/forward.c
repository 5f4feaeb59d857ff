/* Forward over packed rows: log-probs of completions, or scores of reward heads. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/adapter.h"
#include "model/session.h"

/* Rows after packing (an upper bound), predicted tokens and longest sequence of a pass. */
static void count(const struct model *m, const struct sequences *s, int64_t *rows, int64_t *targets, int64_t *longest)
{
    *rows = *targets = *longest = 0;
    for (int64_t i = 0; i < s->n; i++) {
        *rows += (sequences_share(m, s, i) ? 0 : s->n_prompt[i]) + s->n_tok[i];
        *targets += m->config.reward_head ? 1 : s->n_tok[i];
        if (s->n_prompt[i] + s->n_tok[i] > *longest) *longest = s->n_prompt[i] + s->n_tok[i];
    }
}

size_t pass_bytes(const struct model *m, const struct adapter *a, int64_t rows, int64_t targets, bool keep)
{
    const size_t C = (size_t)m->config.hidden, size = dtype_size(m->options.compute), n = (size_t)targets;
    const size_t forward = acts_bytes(m, a, rows, keep) + block_scratch_bytes(m, a, rows) + arena_room((size_t)rows * C * sizeof(float)) +
                           arena_room(n * C * sizeof(float)) + arena_room(n * C * size) + arena_room(n * 2 * sizeof(float)) + 3 * arena_room(n * sizeof(float));
    return forward + (keep ? backward_bytes(m, a, rows, targets) : 0);
}

int session_prepare(struct model *m, const struct adapter *a, const struct sequences *s, bool keep, sail_err *err)
{
    if (!m->session) {
        int rc = mem_alloc(&m->session, 1, sizeof *m->session, err);
        if (!rc) rc = mem_alloc(&m->session->acts, (size_t)m->config.n_layer, sizeof *m->session->acts, err);
        if (rc) return rc;
    }
    struct session *q = m->session;
    int64_t rows, targets, longest;
    count(m, s, &rows, &targets, &longest);
    int rc = rope_ensure(m, longest, err);
    if (rc) return rc;
    const size_t packing = packing_bytes(m, s), need = packing + pass_bytes(m, a, rows, targets, keep);
    if (need > q->arena.capacity) {
        // room for the largest micro-batch from the first one on: a second arena would be touched anew, which takes seconds where the first touch is slow
        const int64_t most = m->options.micro_tokens + m->options.micro_tokens / 4;
        const size_t full = 2 * packing + pass_bytes(m, a, most, most, m->options.backward);
        arena_release(&q->arena);
        if ((rc = arena_init(&q->arena, need + need / 4 > full ? need + need / 4 : full, err))) return rc;
    }
    arena_reset(&q->arena, 0);
    q->kept = false;
    return SAIL_OK;
}

void session_free(struct session *s)
{
    if (!s) return;
    arena_release(&s->arena);
    free(s->acts);
    free(s);
}

/* The layers' activations: each its own where a backward follows, else (and where that makes them again) all in the same place. */
static void take_acts(struct model *m, const struct adapter *a, struct session *q, bool keep)
{
    const int64_t rows = q->packing.n_row, width = m->config.hidden;
    float *inputs = keep && m->options.recompute ? arena_take(&q->arena, (size_t)m->config.n_layer * (size_t)(rows * width) * sizeof(float)) : NULL;
    const size_t start = arena_mark(&q->arena);
    size_t end = start;
    for (int64_t i = 0; i < m->config.n_layer; i++) {
        if (!keep || inputs) arena_reset(&q->arena, start);
        layer_acts_take(&q->acts[i], m, a, i, &q->arena, rows, keep, inputs ? inputs + i * rows * width : keep ? NULL : q->x_last);
        if (arena_mark(&q->arena) > end) end = arena_mark(&q->arena);
    }
    arena_take(&q->arena, end - arena_mark(&q->arena)); // layers are of several sizes where not all are adapted alike
}

void session_run_block(struct model *m, const struct adapter *a, int64_t i, float *x3)
{
    const struct model_config *c = &m->config;
    struct session *q = m->session;
    struct layer_acts *k = &q->acts[i];
    const struct packing *p = &q->packing;
    const enum dtype t = m->options.compute;
    const int64_t width = qkv_width(c), k_at = q_width(c), v_at = k_at + kv_width(c);
    const struct attn_shape shape = layer_attn_shape(c, i);
    block_qkv(m, a, i, k, &p->turn, p->n_row, &q->scratch, p->key);
    ops->attn_fwd(k->attn, k_at, k->lse, k->qkv, width, element_at(k->qkv, t, k_at), element_at(k->qkv, t, v_at), width, t, p->segment, p->n_segment, &shape);
    block_rest(m, a, i, k, x3, p->n_row, &q->scratch, p->key);
}

static void run_blocks(struct model *m, const struct adapter *a, struct session *q, bool keep)
{
    const struct model_config *c = &m->config;
    struct packing *p = &q->packing;
    q->x_last = arena_take(&q->arena, (size_t)(p->n_row * c->hidden) * sizeof(float));
    q->scratch = block_scratch_take(m, a, &q->arena, p->n_row);
    take_acts(m, a, q, keep);
    embed_rows(m, a, q->acts[0].x1, p->id, p->pos, p->n_row, &q->scratch);
    for (int64_t i = 0; i < c->n_layer; i++) session_run_block(m, a, i, keep && i + 1 < c->n_layer ? q->acts[i + 1].x1 : q->x_last);
}

/* The rows whose hidden state the head needs: those that predict a completion token, or the last of each sequence. */
static void gather_last(struct model *m, struct session *q, const int32_t *row, int64_t n)
{
    const struct model_config *c = &m->config;
    q->gathered = arena_take(&q->arena, (size_t)(n * c->hidden) * sizeof(float));
    q->h_last = arena_take(&q->arena, (size_t)(n * c->hidden) * dtype_size(m->options.compute));
    q->stat_last = arena_take(&q->arena, (size_t)(n * norm_stats(c)) * sizeof(float));
    ops->gather_fwd(q->gathered, q->x_last, DTYPE_F32, row, n, c->hidden);
    norm_forward(c, &m->final_norm, q->h_last, m->options.compute, q->stat_last, q->gathered, DTYPE_F32, n, c->hidden);
}

static void run_head(struct model *m, const struct adapter *a, struct session *q, double *logp, float *token_logp, double *adjusted)
{
    const struct packing *p = &q->packing;
    gather_last(m, q, p->target_row, p->n_target);
    q->logp = arena_take(&q->arena, (size_t)p->n_target * sizeof(float));
    q->lse = arena_take(&q->arena, (size_t)p->n_target * sizeof(float));
    float *square = adjusted ? arena_take(&q->arena, (size_t)p->n_target * sizeof(float)) : NULL;
    ops->head_fwd(q->logp, q->lse, square, q->h_last, m->options.compute, m->config.hidden, head_weight(m, a), p->target, p->n_target, m->config.logit_softcap,
                  m->config.logit_scale);
    for (int64_t i = 0; i < p->n_sequence; i++) {
        double sum = 0, above = 0;
        for (int64_t k = p->sequence_start[i]; k < p->sequence_start[i + 1]; k++) {
            sum += p->weight[k] * q->logp[k];
            above += square ? (double)q->logp[k] - square[k] : 0;
        }
        if (logp) logp[i] = sum;
        if (adjusted) adjusted[i] = above / (double)(p->sequence_start[i + 1] - p->sequence_start[i]);
    }
    if (token_logp) memcpy(token_logp, q->logp, (size_t)p->n_target * sizeof *token_logp);
}

/* score = w . norm(x at the last token) + bias: all n_tok rows of a completion were fed. */
static void run_score_head(struct model *m, const struct adapter *a, struct session *q, double *score)
{
    struct packing *p = &q->packing;
    gather_last(m, q, p->last_row, p->n_sequence);
    q->logp = arena_take(&q->arena, (size_t)p->n_sequence * sizeof(float));
    ops->linear_fwd(q->logp, DTYPE_F32, 1, q->h_last, m->options.compute, m->config.hidden, head_weight(m, a), head_bias(m, a), p->n_sequence, 1, false);
    for (int64_t i = 0; score && i < p->n_sequence; i++) score[i] = q->logp[i];
}

static int run(struct policy p, const struct sequences *s, double *logp, float *token_logp, bool keep, sail_err *err)
{
    struct model *m = p.model;
    int rc = session_prepare(m, p.adapter, s, keep, err);
    if (rc) return rc;
    struct session *q = m->session;
    if ((rc = packing_make(&q->packing, &q->arena, m, s, err))) return rc;
    run_blocks(m, p.adapter, q, keep);
    if (m->config.reward_head)
        run_score_head(m, p.adapter, q, logp);
    else
        run_head(m, p.adapter, q, logp, token_logp, s->adjusted);
    q->kept = keep;
    q->adapter = p.adapter;
    return SAIL_OK;
}

static struct sequences part_of(const struct sequences *s, int64_t from, int64_t n)
{
    return (struct sequences){.n = n, .ids = s->ids + from, .n_prompt = s->n_prompt + from, .n_tok = s->n_tok + from, .group = s->group + from,
                              .counted = s->counted ? s->counted + from : NULL, .n_whole = s->n_whole ? s->n_whole + from : NULL, .tail = s->tail,
                              .adjusted = s->adjusted ? s->adjusted + from : NULL};
}

int model_forward(struct policy p, const struct sequences *s, double *logp, float *token_logp, sail_err *err)
{
    BUG_ON(!p.model->options.backward, "the model was opened without backward");
    return run(p, s, logp, token_logp, true, err);
}

static int run_all(struct policy p, const struct sequences *s, double *logp, float *token_logp, sail_err *err)
{
    for (int64_t from = 0, n; from < s->n; from += n) {
        n = model_micro_batch(p.model, s, from);
        const struct sequences part = part_of(s, from, n);
        int rc = run(p, &part, logp + from, token_logp, false, err);
        if (rc) return rc;
        if (token_logp) token_logp += p.model->session->packing.n_target;
    }
    return SAIL_OK;
}

int model_score(struct policy p, const struct sequences *s, double *logp, float *token_logp, sail_err *err)
{
    BUG_ON(p.model->config.reward_head, "a reward model has no log-probs");
    return run_all(p, s, logp, token_logp, err);
}

int model_predict(struct policy p, const struct sequences *s, double *logp, struct predictions *out, sail_err *err)
{
    BUG_ON(p.model->config.reward_head, "a reward model predicts no tokens");
    int rc = run(p, s, logp, NULL, false, err);
    return rc ? rc : predictions_take(out, p, err);
}

int model_reward(struct policy p, const struct sequences *s, double *score, sail_err *err)
{
    BUG_ON(!p.model->config.reward_head, "the model has no score head");
    return run_all(p, s, score, NULL, err);
}

int64_t model_micro_tokens(const struct model *m) { return m->options.micro_tokens; }

int64_t model_micro_batch(const struct model *m, const struct sequences *s, int64_t from)
{
    int64_t tokens = 0, whole = 0, i = from;
    for (; i < s->n; i++) {
        const bool shares = i > from && sequences_share(m, s, i);
        if (i > from && !shares) whole = i - from;
        tokens += (shares ? 0 : s->n_prompt[i]) + s->n_tok[i];
        if (tokens > m->options.micro_tokens && i > from) return whole ? whole : i - from;
    }
    return i - from;
}

int model_accumulate(struct policy p, const struct sequences *s, const double *coef, sail_err *err)
{
    int rc = SAIL_OK;
    for (int64_t from = 0, n; !rc && from < s->n; from += n) {
        n = model_micro_batch(p.model, s, from);
        const struct sequences part = part_of(s, from, n);
        rc = model_forward(p, &part, NULL, NULL, err);
        if (!rc) rc = model_backward(p, coef + from, NULL, err);
    }
    return rc;
}
