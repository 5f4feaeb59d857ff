/* Opens a model: every tensor is found by name, checked against the config's shapes, mapped where the file allows it, and laid out for the kernels. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "model/adapter.h"

int model_own(struct model *m, size_t n, size_t size, void *out, sail_err *err)
{
    int rc = mem_grow(&m->owned, m->n_owned, &m->owned_capacity, sizeof *m->owned, err);
    if (!rc) rc = mem_alloc(out, n, size, err);
    if (!rc) memcpy(&m->owned[m->n_owned++], out, sizeof(void *));
    return rc;
}

void module_name(char *out, const struct model *m, const char *prefix, int64_t layer, const char *module)
{
    snprintf(out, NAME_SIZE, "%s%s%lld.%s", prefix, m->config.family->layer, (long long)layer, module);
}

static int find(const struct model *m, const char *name, int64_t rows, int64_t columns, const struct tensor **out, sail_err *err)
{
    const struct tensor *t = *out = weights_find(m->file, name);
    if (!t) return err_set(err, SAIL_FAILED, "%s: tensor '%s' is missing", m->path, name);
    if (columns && (t->n_dim != 2 || t->dim[0] != rows || t->dim[1] != columns))
        return err_set(err, SAIL_FAILED, "%s: tensor '%s': expected shape [%lld, %lld], got %d dims, first [%lld, %lld]", m->path, name, (long long)rows, (long long)columns, t->n_dim,
                       (long long)(t->n_dim > 0 ? t->dim[0] : 1), (long long)(t->n_dim > 1 ? t->dim[1] : 1));
    if (!columns && (t->n_dim != 1 || t->dim[0] != rows))
        return err_set(err, SAIL_FAILED, "%s: tensor '%s': expected shape [%lld], got %d dims, first [%lld]", m->path, name, (long long)rows, t->n_dim,
                       (long long)(t->n_dim > 0 ? t->dim[0] : 1));
    if (t->dtype != DTYPE_F32 && t->dtype != DTYPE_BF16 && t->dtype != DTYPE_F16)
        return err_set(err, SAIL_FAILED, "%s: tensor '%s': expected F32, BF16 or F16, got %s", m->path, name, dtype_name(t->dtype));
    m->used[weights_place(m->file, name)] = true;
    return SAIL_OK;
}

/* Room for masters and gradients: fresh pages of the arena, which are zero. */
struct room {
    float *value, *grad;
};
static struct room room_take(struct model *m, int64_t n) { return (struct room){arena_take(&m->trained, (size_t)n * sizeof(float)), arena_take(&m->trained, (size_t)n * sizeof(float))}; }

/* Enough for every tensor of the file and a fresh score head; what stays untouched costs nothing. */
static int open_room(struct model *m, sail_err *err)
{
    size_t bytes = 2 * arena_room((size_t)m->config.hidden * sizeof(float));
    for (int64_t i = 0; i < weights_count(m->file); i++) {
        size_t n;
        if (!size_mul(&n, (size_t)tensor_count(weights_at(m->file, i)), 2 * sizeof(float)) || !size_add(&bytes, bytes, n) || !size_add(&bytes, bytes, 2 * arena_room(1))) return err_memory(err, SIZE_MAX);
    }
    return arena_init(&m->trained, bytes, err);
}

/* A row of the parameter table: an f32 master and its gradient. Zeros where the file has no such tensor. */
static int add_param(struct model *m, const char *name, const struct tensor *t, struct room room, struct param **out, sail_err *err)
{
    struct param *p = &m->param[m->n_param];
    *p = (struct param){.n_dim = t->n_dim, .n = tensor_count(t), .value = room.value, .grad = room.grad};
    memcpy(p->dim, t->dim, sizeof p->dim);
    char *copy;
    int rc = model_own(m, strlen(name) + 1, 1, &copy, err);
    if (!rc && weights_find(m->file, name)) {
        rc = weights_load(m->file, t, p->value, DTYPE_F32, err);
        weights_drop(m->file, t);
    }
    if (rc) return rc;
    strcpy(copy, name);
    p->name = copy;
    m->n_param++;
    *out = p;
    return SAIL_OK;
}

/* A vector in f32 (columns 0), or a small matrix: norms and biases. */
static int load_values(struct model *m, const char *name, int64_t rows, int64_t columns, float **out, struct param **param, sail_err *err)
{
    const struct tensor *t = NULL;
    const int64_t n = columns ? rows * columns : rows;
    int rc = find(m, name, rows, columns, &t, err);
    if (rc) return rc;
    if (m->options.train_full) {
        if (!(rc = add_param(m, name, t, room_take(m, n), param, err))) *out = (*param)->value;
        return rc;
    }
    if ((rc = model_own(m, (size_t)n, sizeof **out, out, err))) return rc;
    m->weight_bytes += (size_t)n * sizeof **out;
    return weights_load(m->file, t, *out, DTYPE_F32, err);
}

static int load_vector(struct model *m, const char *name, int64_t n, float **out, struct param **param, sail_err *err) { return load_values(m, name, n, 0, out, param, err); }

static int load_norm(struct model *m, const char *module, int64_t n, struct norm *out, sail_err *err)
{
    char name[NAME_SIZE + 8];
    struct param *w = NULL, *b = NULL;
    const bool bias = m->config.family->layernorm && !m->config.family->norm_without_bias;
    snprintf(name, sizeof name, "%s.weight", module);
    int rc = load_vector(m, name, n, &out->w, &w, err);
    snprintf(name, sizeof name, "%s.bias", module);
    if (!rc && bias) rc = load_vector(m, name, n, &out->b, &b, err);
    out->dw = w ? w->grad : NULL;
    out->db = b ? b->grad : NULL;
    return rc;
}

/* A weight for each head: all in one matrix, or each a tensor of its own where the module's name has a '*'. They have no bias. */
static int load_norms_of_heads(struct model *m, const char *module, int64_t n_head, struct norm *out, sail_err *err)
{
    const int64_t d = m->config.head_dim;
    const char *star = strchr(module, '*');
    char name[NAME_SIZE + 32];
    struct param *p = NULL;
    float *w = NULL;
    int rc = SAIL_OK;
    snprintf(name, sizeof name, "%s.weight", module);
    if (!star) rc = load_values(m, name, n_head, d, &w, &p, err);
    for (int64_t h = 0; !rc && h < n_head; h++) {
        if (star) snprintf(name, sizeof name, "%.*s%lld%s.weight", (int)(star - module), module, (long long)h, star + 1);
        if (star) rc = load_vector(m, name, d, &w, &p, err);
        out[h] = (struct norm){.w = w + (star ? 0 : h * d), .dw = p ? p->grad + (star ? 0 : h * d) : NULL};
    }
    return rc;
}

static int load_qk_norm(struct model *m, int64_t i, bool keys, struct norm **out, sail_err *err)
{
    const struct model_config *c = &m->config;
    const int64_t n = qk_norm_count(c, keys);
    char module[NAME_SIZE];
    module_name(module, m, m->prefix, i, keys ? c->family->k_norm : c->family->q_norm);
    int rc = model_own(m, (size_t)n, sizeof **out, out, err);
    if (rc) return rc;
    return c->qk_norm == QK_NORM_EACH ? load_norms_of_heads(m, module, n, *out, err) : load_norm(m, module, qk_norm_width(c, keys), *out, err);
}

/* One part of a product: trained (f32 master in the room given), mapped as the file has it, or read into memory. */
static int load_part(struct model *m, const char *name, int64_t n_out, int64_t n_in, bool transposed, struct room room, struct weight_part *part,
                     struct param **param, sail_err *err)
{
    const struct tensor *t = NULL;
    int rc = find(m, name, transposed ? n_in : n_out, transposed ? n_out : n_in, &t, err);
    if (rc) return rc;
    *part = (struct weight_part){.n_out = n_out, .ld = transposed ? n_out : n_in, .transposed = transposed, .dtype = t->dtype};
    if (m->options.train_full) {
        if ((rc = add_param(m, name, t, room, param, err))) return rc;
        part->dtype = DTYPE_F32;
        part->data = (*param)->value;
        return SAIL_OK;
    }
    if (m->options.facts_only || (part->data = weights_map(m->file, t))) return SAIL_OK;
    void *data;
    if (part->dtype == DTYPE_F16) part->dtype = DTYPE_F32; // unaligned half floats: rare, kept exact
    const size_t n = (size_t)tensor_count(t);
    if ((rc = model_own(m, n, dtype_size(part->dtype), &data, err))) return rc;
    part->data = data;
    m->weight_bytes += n * dtype_size(part->dtype);
    rc = weights_load(m->file, t, data, part->dtype, err);
    weights_drop(m->file, t);
    return rc;
}

/* For a product's n values, where it is trained in full. */
static struct room part_room(struct model *m, int64_t n) { return m->options.train_full ? room_take(m, n) : (struct room){0}; }

static int prepare(struct model *m, struct weight *w, sail_err *err)
{
    w->n_out = 0;
    for (int p = 0; p < w->n_part; p++) w->n_out += w->part[p].n_out;
    m->layout_bytes += ops->weight_bytes(w->n_out, w->n_in, m->options.compute);
    return m->options.facts_only ? SAIL_OK : ops->weight_prepare(w, m->options.compute, err);
}

static int64_t part_width(const struct model_config *c, enum linear_id id, int part)
{
    const bool fused = c->family->linear[id].n_part == 1;
    switch (id) {
    case LINEAR_QKV: return fused ? qkv_width(c) : part == 0 ? q_width(c) : kv_width(c);
    case LINEAR_GATE_UP: return fused ? up_width(c) : c->inter;
    default: return c->hidden;
    }
}

static bool has_bias(const struct model_config *c, enum linear_id id)
{
    return id == LINEAR_QKV ? c->qkv_bias : id == LINEAR_O ? c->o_bias : c->mlp_bias;
}

/* Frozen sources that the layouts replace: memory goes back, pages of the file too. */
static void drop_sources(struct model *m, int64_t i, enum linear_id id)
{
    struct weight *w = &m->layer[i].linear[id].w;
    if (m->options.train_full || !w->self_contained) return;
    for (int p = 0; p < w->n_part; p++) {
        for (size_t k = 0; k < m->n_owned; k++) {
            if (m->owned[k] != w->part[p].data) continue;
            free(m->owned[k]);
            m->owned[k] = m->owned[--m->n_owned];
            m->weight_bytes -= (size_t)(w->part[p].n_out * w->n_in) * dtype_size(w->part[p].dtype);
            break;
        }
        char name[NAME_SIZE + 8];
        module_name(name, m, m->prefix, i, m->config.family->linear[id].part[p]);
        strcat(name, ".weight");
        weights_drop(m->file, weights_find(m->file, name));
        w->part[p].data = NULL;
    }
}

static int load_linear(struct model *m, int64_t i, enum linear_id id, sail_err *err)
{
    const struct model_config *c = &m->config;
    const struct linear_names *names = &c->family->linear[id];
    struct linear *l = &m->layer[i].linear[id];
    const int64_t n_in = id == LINEAR_O ? q_width(c) : id == LINEAR_DOWN ? c->inter : c->hidden;
    l->w = (struct weight){.n_part = names->n_part, .n_in = n_in};
    int64_t n_out = 0;
    for (int p = 0; p < names->n_part; p++) n_out += part_width(c, id, p);
    const struct room all = part_room(m, n_out * n_in);
    int rc = has_bias(c, id) ? model_own(m, (size_t)n_out, sizeof *l->bias, &l->bias, err) : SAIL_OK;
    int64_t at = 0;
    for (int p = 0; !rc && p < names->n_part; p++) {
        char module[NAME_SIZE], name[NAME_SIZE + 8];
        module_name(module, m, m->prefix, i, names->part[p]);
        snprintf(name, sizeof name, "%s.weight", module);
        const struct room room = m->options.train_full ? (struct room){all.value + at * n_in, all.grad + at * n_in} : all;
        rc = load_part(m, name, part_width(c, id, p), n_in, c->family->conv1d, room, &l->w.part[p], &l->dw[p], err);
        if (!rc && l->bias) {
            float *bias;
            snprintf(name, sizeof name, "%s.bias", module);
            rc = load_vector(m, name, part_width(c, id, p), &bias, &l->dbias[p], err);
            if (!rc) memcpy(l->bias + at, bias, (size_t)part_width(c, id, p) * sizeof *bias);
        }
        at += part_width(c, id, p);
    }
    if (!rc && !(rc = prepare(m, &l->w, err))) drop_sources(m, i, id);
    return rc;
}

static int load_layer(struct model *m, int64_t i, sail_err *err)
{
    const struct model_config *c = &m->config;
    const struct family *f = c->family;
    struct layer *l = &m->layer[i];
    char module[NAME_SIZE];
    int rc = SAIL_OK;
    for (int k = 0; !rc && k < NORM_COUNT; k++) {
        if (!f->norm[k] || (k == NORM_MLP && c->shared_norm)) continue;
        module_name(module, m, m->prefix, i, f->norm[k]);
        rc = load_norm(m, module, c->hidden, &l->norm[k], err);
    }
    if (!rc && c->qk_norm) rc = load_qk_norm(m, i, false, &l->q_norm, err);
    if (!rc && c->qk_norm) rc = load_qk_norm(m, i, true, &l->k_norm, err);
    for (int id = 0; !rc && id < LINEAR_COUNT; id++) rc = load_linear(m, i, (enum linear_id)id, err);
    return rc;
}

/* "wte" -> "transformer.wte.weight" */
static const char *top_name(const struct model *m, const char *module, char *out)
{
    snprintf(out, NAME_SIZE, "%s%s.weight", m->prefix, module);
    return out;
}

/* A score head of zeros: every answer starts at score 0, the loss at log 2. */
static int load_fresh_head(struct model *m, sail_err *err)
{
    const int64_t hidden = m->config.hidden;
    const struct tensor shape = {.name = "score.weight", .dtype = DTYPE_F32, .n_dim = 2, .dim = {1, hidden}};
    struct weight_part *part = &m->head.part[0];
    *part = (struct weight_part){.n_out = 1, .ld = hidden, .dtype = DTYPE_F32};
    void *zeros = NULL;
    int rc = m->options.train_full ? add_param(m, shape.name, &shape, room_take(m, hidden), &m->dhead, err) : model_own(m, (size_t)hidden, sizeof(float), &zeros, err);
    if (rc) return rc;
    part->data = m->options.train_full ? m->dhead->value : zeros;
    return prepare(m, &m->head, err);
}

static int load_head(struct model *m, sail_err *err)
{
    const struct model_config *c = &m->config;
    char name[NAME_SIZE];
    const struct tensor *embed = weights_find(m->file, top_name(m, c->family->embed, name));
    m->head = (struct weight){.n_part = 1, .n_in = c->hidden};
    if (m->fresh_head) return load_fresh_head(m, err);
    if (c->reward_head) {
        snprintf(name, sizeof name, "%s.weight", c->score_name);
        int rc = load_part(m, name, 1, c->hidden, false, part_room(m, c->hidden), &m->head.part[0], &m->dhead, err);
        snprintf(name, sizeof name, "%s.bias", c->score_name);
        if (!rc && weights_find(m->file, name)) rc = load_vector(m, name, 1, &m->score_bias, &m->dscore_bias, err);
        return rc ? rc : prepare(m, &m->head, err);
    }
    snprintf(name, sizeof name, "%s.weight", c->family->head);
    if (!weights_find(m->file, name) && weights_find(m->file, "lm_head.weight")) strcpy(name, "lm_head.weight");
    if (c->tied && !weights_find(m->file, name)) {
        m->head.part[0] = m->embed.part[0];
        m->dhead = m->dembed;
        const int rc = prepare(m, &m->head, err);
        if (weights_map(m->file, embed)) weights_drop(m->file, embed); // rows that are looked up come back page by page
        return rc;
    }
    int rc = load_part(m, name, c->vocab, c->hidden, false, part_room(m, c->vocab * c->hidden), &m->head.part[0], &m->dhead, err);
    return rc ? rc : prepare(m, &m->head, err);
}

static int load_all(struct model *m, sail_err *err)
{
    const struct model_config *c = &m->config;
    const struct family *f = c->family;
    char name[NAME_SIZE];
    int rc = mem_alloc(&m->layer, (size_t)c->n_layer, sizeof *m->layer, err);
    if (!rc) rc = mem_alloc(&m->param, (size_t)(c->n_layer * (24 + c->n_head + c->n_kv)) + 8, sizeof *m->param, err);
    if (!rc && m->options.train_full) rc = open_room(m, err);
    if (rc) return rc;
    m->prefix = f->prefix;
    if (!weights_find(m->file, top_name(m, f->embed, name))) { // gpt2's first files have no prefix
        m->prefix = "";
        if (!weights_find(m->file, top_name(m, f->embed, name))) m->prefix = f->prefix;
    }
    m->embed = (struct weight){.n_part = 1, .n_in = c->hidden, .n_out = c->vocab};
    rc = load_part(m, top_name(m, f->embed, name), c->vocab, c->hidden, false, part_room(m, c->vocab * c->hidden), &m->embed.part[0], &m->dembed, err);
    if (!rc && f->position) {
        m->position = (struct weight){.n_part = 1, .n_in = c->hidden, .n_out = c->max_position};
        rc = load_part(m, top_name(m, f->position, name), c->max_position, c->hidden, false, part_room(m, c->max_position * c->hidden), &m->position.part[0], &m->dposition, err);
    }
    for (int64_t i = 0; !rc && i < c->n_layer; i++) rc = load_layer(m, i, err);
    snprintf(name, sizeof name, "%s%s", m->prefix, f->final_norm);
    if (!rc) rc = load_norm(m, name, c->hidden, &m->final_norm, err);
    return rc ? rc : load_head(m, err);
}

static void fill_facts(struct model *m)
{
    const struct model_config *c = &m->config;
    struct model_facts *f = &m->facts;
    *f = (struct model_facts){.vocab = c->vocab, .hidden = c->hidden, .n_layer = c->n_layer, .n_head = c->n_head, .n_kv = c->n_kv, .head_dim = c->head_dim, .inter = c->inter,
                              .max_position = c->context, .rope_switch = c->rope_switch, .rope_dynamic = c->rope_dynamic, .n_eos = c->n_eos, .bos = c->bos, .pad = c->pad, .tied = c->tied, .reward_head = c->reward_head};
    snprintf(f->family, sizeof f->family, "%s", c->family->model_type);
    memcpy(f->eos, c->eos, sizeof f->eos);
    f->file_dtype = m->embed.part[0].dtype;
    char name[NAME_SIZE];
    const struct tensor *embed = weights_find(m->file, top_name(m, c->family->embed, name));
    if (embed) f->file_dtype = embed->dtype;
    for (int64_t i = 0; i < weights_count(m->file); i++) f->n_param += tensor_count(weights_at(m->file, i));
}

int model_open(struct model **out, const char *path, const struct model_options *o, sail_err *err)
{
    *out = NULL;
    struct model *m;
    if (mem_alloc(&m, 1, sizeof *m, err)) return SAIL_FAILED;
    m->options = *o;
    if (o->train_full) m->options.backward = true;
    if (!m->options.micro_tokens) m->options.micro_tokens = 1024;
    m->path = mem_strdup(path);
    int rc = weights_open(&m->file, path, err);
    if (!rc) rc = model_config_read(&m->config, weights_config(m->file), weights_generation_config(m->file), path, err);
    if (!rc && o->reward_head && !m->config.reward_head) {
        m->fresh_head = m->config.reward_head = true;
        m->config.score_name = "score";
        if (weights_find(m->file, "score.weight")) rc = err_set(err, SAIL_FAILED, "%s: a language model with a tensor 'score.weight'", path);
    }
    // Gemma's constant is rounded as the weights that it multiplies are: to bf16 when they run in bf16.
    if (!rc && o->compute == DTYPE_BF16 && m->config.family->embed_by_sqrt) m->config.embed_scale = bf16_to_f32(f32_to_bf16(m->config.embed_scale));
    if (!rc) rc = mem_alloc(&m->used, (size_t)weights_count(m->file), sizeof *m->used, err);
    if (!rc) rc = load_all(m, err);
    if (!rc) rc = leftovers_check(m, err);
    free(m->used);
    m->used = NULL;
    if (rc) {
        model_close(m);
        return rc;
    }
    fill_facts(m);
    *out = m;
    return SAIL_OK;
}

void model_close(struct model *m)
{
    if (!m) return;
    for (int64_t i = 0; m->layer && i < m->config.n_layer; i++)
        for (int id = 0; id < LINEAR_COUNT; id++)
            ops->weight_release(&m->layer[i].linear[id].w);
    ops->weight_release(&m->head);
    for (size_t i = 0; i < m->n_owned; i++) free(m->owned[i]);
    arena_release(&m->trained);
    free(m->owned);
    free(m->layer);
    free(m->param);
    rope_free(m);
    model_config_release(&m->config);
    session_free(m->session);
    weights_close(m->file);
    free(m->path);
    free(m);
}

const struct model_facts *model_facts(const struct model *m) { return &m->facts; }

static int check_ids(const struct model *m, const int32_t *ids, int64_t n, const char *what, sail_err *err)
{
    for (int64_t t = 0; t < n; t++)
        if (ids[t] < 0 || ids[t] >= m->config.vocab)
            return err_set(err, SAIL_FAILED, "%s: token %lld is id %d, outside the model's vocabulary of %lld", what, (long long)t, (int)ids[t], (long long)m->config.vocab);
    return SAIL_OK;
}

int model_check_prompt(const struct model *m, const int32_t *ids, int64_t n, const char *what, sail_err *err)
{
    if (n < 1) return err_set(err, SAIL_FAILED, "%s: the prompt has no tokens (and the tokenizer no BOS): nothing predicts the first one", what);
    return check_ids(m, ids, n, what, err);
}

int model_check(const struct model *m, const int32_t *ids, int64_t n_prompt, int64_t n_tok, const char *what, sail_err *err)
{
    int rc = model_check_prompt(m, ids, n_prompt, what, err);
    if (rc) return rc;
    if (n_tok < 1) return err_set(err, SAIL_FAILED, "%s: the completion has no tokens", what);
    if (n_prompt + n_tok > m->config.context)
        return err_set(err, SAIL_FAILED, "%s: %lld tokens (prompt %lld, completion %lld) are more than the model's context of %lld", what, (long long)(n_prompt + n_tok),
                       (long long)n_prompt, (long long)n_tok, (long long)m->config.context);
    return check_ids(m, ids, n_prompt + n_tok, what, err);
}
