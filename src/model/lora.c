/* LoRA adapters (arXiv 2106.09685) as PEFT stores them: adapter_config.json and adapter_model.safetensors. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include "model/adapter.h"

static int64_t part_in(const struct model *m, int64_t layer, enum linear_id id) { return m->layer[layer].linear[id].w.n_in; }

static const struct linear_names *names_of(const struct model *m, int id) { return &m->config.family->linear[id]; }

/* "model.layers.3.self_attn.q_proj" */
static void module_path(char *out, const struct model *m, int64_t layer, int id, int part)
{
    module_name(out, m, m->config.family->prefix, layer, names_of(m, id)->part[part]);
}

int64_t adapter_max_rank(const struct adapter *a)
{
    int64_t most = 0;
    for (int64_t i = 0; a && i < a->model->config.n_layer * LINEAR_COUNT; i++)
        if (a->linear[i].r_sum > most) most = a->linear[i].r_sum;
    return most;
}

int adapter_add_param(struct adapter *a, char *name, int n_dim, int64_t rows, int64_t columns, struct param **out, sail_err *err)
{
    struct param *p = &a->param[a->n_param];
    *p = (struct param){.name = name, .n_dim = n_dim, .dim = {rows, n_dim > 1 ? columns : 0}, .n = rows * (n_dim > 1 ? columns : 1)};
    int rc = name ? mem_alloc(&p->value, (size_t)p->n, sizeof *p->value, err) : err_memory(err, 0);
    if (!rc && a->trainable) rc = mem_alloc(&p->grad, (size_t)p->n, sizeof *p->grad, err);
    a->n_param++;
    *out = p;
    return rc;
}

static int add_factor(struct adapter *a, const char *module, const char *which, int64_t rows, int64_t columns, struct param **out, sail_err *err)
{
    return adapter_add_param(a, mem_printf("base_model.model.%s.%s.weight", module, which), 2, rows, columns, out, err);
}

/* Makes the parameters of one targeted module. */
static int add_module(struct adapter *a, int64_t layer, enum linear_id id, int part, int64_t r, double scale, sail_err *err)
{
    struct lora_linear *l = &a->linear[layer * LINEAR_COUNT + id];
    char path[NAME_SIZE];
    module_path(path, a->model, layer, id, part);
    int rc = add_factor(a, path, "lora_A", r, part_in(a->model, layer, id), &l->pa[part], err);
    if (!rc) rc = add_factor(a, path, "lora_B", a->model->layer[layer].linear[id].w.part[part].n_out, r, &l->pb[part], err);
    if (!rc && a->is_dora) rc = adapter_add_param(a, mem_printf("base_model.model.%s.lora_magnitude_vector", path), 1, l->pb[part]->dim[0], 1, &l->pm[part], err);
    l->on[part] = true;
    l->r[part] = r;
    l->scale[part] = (float)scale;
    return rc;
}

/* The handles that the kernels see: the A's stacked, the B's one by one. */
static int prepare(struct adapter *a, sail_err *err)
{
    const struct model *m = a->model;
    for (int64_t i = 0; i < m->config.n_layer * LINEAR_COUNT; i++) {
        struct lora_linear *l = &a->linear[i];
        const struct weight *w = &m->layer[i / LINEAR_COUNT].linear[i % LINEAR_COUNT].w;
        l->a = (struct weight){.n_in = w->n_in};
        for (int p = 0; p < w->n_part; p++) {
            if (!l->on[p]) continue;
            l->r_start[p] = l->r_sum;
            l->r_sum += l->r[p];
            l->a.part[l->a.n_part++] = (struct weight_part){.data = l->pa[p]->value, .dtype = DTYPE_F32, .n_out = l->r[p], .ld = w->n_in};
            l->b[p] = (struct weight){.n_part = 1, .n_in = l->r[p], .n_out = w->part[p].n_out};
            l->b[p].part[0] = (struct weight_part){.data = l->pb[p]->value, .dtype = DTYPE_F32, .n_out = w->part[p].n_out, .ld = l->r[p]};
            int rc = ops->weight_prepare(&l->b[p], m->options.compute, err);
            if (rc) return rc;
        }
        l->a.n_out = l->r_sum;
        int rc = l->r_sum ? ops->weight_prepare(&l->a, m->options.compute, err) : SAIL_OK;
        if (rc) return rc;
    }
    return saved_modules_prepare(a, err);
}

static int new_adapter(struct adapter **out, struct model *m, bool trainable, sail_err *err)
{
    struct adapter *a;
    *out = NULL;
    int rc = mem_alloc(&a, 1, sizeof *a, err);
    if (rc) return rc;
    a->model = m;
    a->trainable = trainable;
    rc = mem_alloc(&a->linear, (size_t)(m->config.n_layer * LINEAR_COUNT), sizeof *a->linear, err);
    if (!rc) rc = mem_alloc(&a->param, (size_t)(m->config.n_layer * LINEAR_COUNT * WEIGHT_MAX_PARTS * 3) + 2 * SAVED_COUNT, sizeof *a->param, err);
    if (rc)
        adapter_close(a);
    else
        *out = a;
    return rc;
}

void adapter_close(struct adapter *a)
{
    if (!a) return;
    for (int64_t i = 0; a->linear && i < a->model->config.n_layer * LINEAR_COUNT; i++) {
        ops->weight_release(&a->linear[i].a);
        for (int p = 0; p < WEIGHT_MAX_PARTS; p++) ops->weight_release(&a->linear[i].b[p]);
    }
    saved_modules_release(a);
    dora_release(a);
    for (int64_t i = 0; i < a->n_param; i++) {
        free((char *)(uintptr_t)a->param[i].name);
        free(a->param[i].value);
        free(a->param[i].grad);
    }
    free(a->linear);
    free(a->param);
    adapter_config_release(&a->config);
    free(a);
}

static int no_target(const struct model *m, const char *targets, sail_err *err)
{
    char list[400] = "";
    for (int id = 0; id < LINEAR_COUNT; id++)
        for (int p = 0; p < names_of(m, id)->n_part; p++)
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", list[0] ? ", " : "", strrchr(names_of(m, id)->part[p], '.') + 1);
    return err_set(err, SAIL_USAGE, "--lora-targets %s: no module of the model is left by these names, layers and exclusions (there are %s)", targets ? targets : "all-linear", list);
}

/* The parameters that the config (or, where it leaves targets open, the file) asks for: modules in the order of the layers, then those outside. */
static int add_modules(struct adapter *a, const struct safetensors *file, sail_err *err)
{
    const struct model *m = a->model;
    int rc = SAIL_OK;
    for (int64_t i = 0; !rc && i < m->config.n_layer; i++)
        for (int id = 0; !rc && id < LINEAR_COUNT; id++)
            for (int p = 0; !rc && p < names_of(m, id)->n_part; p++) {
                char path[NAME_SIZE], name[NAME_SIZE + 40];
                struct module_plan plan;
                module_path(path, m, i, id, p);
                snprintf(name, sizeof name, "base_model.model.%s.lora_A.weight", path);
                rc = adapter_config_plan(&a->config, path, i, &plan, err);
                if (!rc && a->config.by_tensors) plan.on = file && safetensors_find(file, name);
                if (!rc && plan.on) rc = add_module(a, i, (enum linear_id)id, p, plan.r, plan.scale, err);
            }
    for (int id = 0; !rc && id < SAVED_COUNT; id++)
        if (a->config.saved[id][0]) rc = saved_module_add(a, (enum saved_id)id, a->config.saved[id], err);
    return rc;
}

static bool adapts_any(const struct adapter *a)
{
    for (int64_t i = 0; i < a->model->config.n_layer * LINEAR_COUNT; i++)
        for (int p = 0; p < WEIGHT_MAX_PARTS; p++)
            if (a->linear[i].on[p]) return true;
    return false;
}

/* A: Kaiming uniform with a = sqrt(5), as torch and PEFT; B stays zero. */
static void fill_factors(struct adapter *a, uint64_t seed)
{
    for (int64_t i = 0; i < a->model->config.n_layer * LINEAR_COUNT; i++)
        for (int part = 0; part < WEIGHT_MAX_PARTS; part++) {
            struct param *p = a->linear[i].pa[part];
            if (!p) continue;
            const double bound = 1 / sqrt((double)p->dim[1]);
            const uint64_t key = (uint64_t)(p - a->param);
            for (int64_t k = 0; k < p->n; k++) p->value[k] = (float)(bound * (2 * rng_uniform(seed, RNG_INIT, key, (uint64_t)k) - 1));
        }
}

/* A name that no module has is mostly a slip of the pen; PEFT passes over it, and so lists serve several families. */
static void warn_unknown(const struct adapter *a)
{
    const json_t *targets = json_object_get(a->config.json, "target_modules"), *v;
    const struct model *m = a->model;
    size_t i;
    json_array_foreach(targets, i, v)
    {
        bool known = false;
        for (int64_t layer = 0; !known && layer < m->config.n_layer; layer++)
            for (int id = 0; id < LINEAR_COUNT; id++)
                for (int p = 0; p < names_of(m, id)->n_part; p++) {
                    char path[NAME_SIZE];
                    module_path(path, m, layer, id, p);
                    known = known || name_ends_with(path, json_string_value(v));
                }
        if (!known) log_warning("--lora-targets: no module is called '%s'", json_string_value(v));
    }
}

int adapter_create(struct adapter **out, struct model *m, const struct lora_options *o, sail_err *err)
{
    struct adapter *a;
    *out = NULL;
    int rc = new_adapter(&a, m, true, err);
    if (rc) return rc;
    rc = adapter_config_create(&a->config, m, o, err);
    a->is_dora = a->config.dora;
    if (!rc) rc = add_modules(a, NULL, err);
    if (!rc && !adapts_any(a)) rc = no_target(m, o->targets, err);
    if (!rc) warn_unknown(a);
    if (!rc) fill_factors(a, o->seed);
    if (!rc) rc = prepare(a, err);
    if (!rc) rc = dora_prepare(a, true, err);
    if (rc)
        adapter_close(a);
    else
        *out = a;
    return rc;
}

static void shape_text(char *out, size_t size, const int64_t *dim, int n)
{
    *out = '\0';
    for (int i = 0; i < n; i++) snprintf(out + strlen(out), size - strlen(out), "%s%lld", i ? ", " : "", (long long)dim[i]);
}

/* Every parameter has its tensor, every tensor its parameter. */
static int read_tensors(struct adapter *a, const struct safetensors *s, sail_err *err)
{
    int rc = add_modules(a, s, err);
    for (int64_t i = 0; !rc && i < a->n_param; i++) {
        struct param *p = &a->param[i];
        const struct tensor *t = safetensors_find(s, p->name);
        if (!t) return err_set(err, SAIL_FAILED, "%s: tensor '%s' is missing (adapter_config.json asks for it)", s->path, p->name);
        if (t->n_dim != p->n_dim || t->dim[0] != p->dim[0] || (p->n_dim > 1 && t->dim[1] != p->dim[1]) || t->dtype > DTYPE_F64) {
            char want[64], got[200];
            shape_text(want, sizeof want, p->dim, p->n_dim);
            shape_text(got, sizeof got, t->dim, t->n_dim);
            return err_set(err, SAIL_FAILED, "%s: tensor '%s': expected floats of shape [%s], got %s [%s]", s->path, p->name, want, dtype_name(t->dtype), got);
        }
        tensor_convert(p->value, DTYPE_F32, t->data, t->dtype, p->n);
    }
    if (!rc && a->n_param != s->n) { // name one that nothing took
        for (int64_t i = 0; i < s->n; i++) {
            bool taken = false;
            for (int64_t k = 0; !taken && k < a->n_param; k++) taken = !strcmp(a->param[k].name, s->tensor[i].name);
            if (!taken) return err_set(err, SAIL_FAILED, "%s: tensor '%s' belongs to no module that adapter_config.json adapts in this model", s->path, s->tensor[i].name);
        }
    }
    return rc;
}

int adapter_open(struct adapter **out, struct model *m, const char *folder, bool trainable, sail_err *err)
{
    struct adapter *a;
    *out = NULL;
    int rc = new_adapter(&a, m, trainable, err);
    if (rc) return rc;
    struct safetensors s = {0};
    rc = adapter_config_open(&a->config, m, folder, err);
    a->is_dora = a->config.dora;
    char *path = path_join(folder, "adapter_model.safetensors");
    if (!rc && !(rc = safetensors_open(&s, path, err))) {
        rc = read_tensors(a, &s, err);
        safetensors_close(&s);
    }
    free(path);
    if (!rc && !adapts_any(a)) rc = err_set(err, SAIL_FAILED, "%s: the adapter adapts no module of this model", folder);
    if (!rc) rc = prepare(a, err);
    if (!rc) rc = dora_prepare(a, false, err);
    if (rc)
        adapter_close(a);
    else
        *out = a;
    return rc;
}

int adapter_copy(struct adapter **out, const struct adapter *from, sail_err *err)
{
    struct adapter *a;
    *out = NULL;
    int rc = new_adapter(&a, from->model, false, err);
    if (rc) return rc;
    a->is_dora = from->is_dora;
    for (int64_t i = 0; !rc && i < from->model->config.n_layer; i++)
        for (int id = 0; !rc && id < LINEAR_COUNT; id++)
            for (int p = 0; !rc && p < WEIGHT_MAX_PARTS; p++) {
                const struct lora_linear *l = &from->linear[i * LINEAR_COUNT + id];
                if (l->on[p]) rc = add_module(a, i, (enum linear_id)id, p, l->r[p], l->scale[p], err);
            }
    for (int id = 0; !rc && id < SAVED_COUNT; id++)
        if (from->saved[id].weight) rc = saved_module_add(a, (enum saved_id)id, from->config.saved[id], err);
    for (int64_t i = 0; !rc && i < a->n_param; i++) memcpy(a->param[i].value, from->param[i].value, (size_t)a->param[i].n * sizeof(float));
    if (!rc) rc = prepare(a, err);
    if (!rc) rc = dora_prepare(a, false, err);
    if (rc)
        adapter_close(a);
    else
        *out = a;
    return rc;
}

void adapter_blend(struct adapter *copy, const struct adapter *from, double keep)
{
    BUG_ON(copy->n_param != from->n_param, "adapters of %lld and %lld tensors", (long long)copy->n_param, (long long)from->n_param);
    for (int64_t i = 0; i < copy->n_param; i++)
        for (int64_t k = 0; k < copy->param[i].n; k++) copy->param[i].value[k] = (float)(keep * copy->param[i].value[k] + (1 - keep) * from->param[i].value[k]);
    policy_params_changed((struct policy){.model = copy->model, .adapter = copy});
}

void adapter_dropout(struct adapter *a, double share, uint64_t seed, uint64_t step)
{
    a->dropout = share;
    a->seed = seed;
    a->step = step;
}

int adapter_save(const struct adapter *a, const char *folder, sail_err *err)
{
    struct tensor *t;
    if (mem_alloc(&t, (size_t)a->n_param, sizeof *t, err)) return SAIL_FAILED;
    for (int64_t i = 0; i < a->n_param; i++)
        t[i] = (struct tensor){.name = a->param[i].name, .dtype = DTYPE_F32, .n_dim = a->param[i].n_dim, .dim = {a->param[i].dim[0], a->param[i].dim[1]}, .data = a->param[i].value};
    struct dir_writer w;
    int rc = dir_writer_open(&w, folder, err);
    if (!rc) {
        char *path = path_join(w.temporary, "adapter_model.safetensors");
        rc = safetensors_write(path, t, a->n_param, NULL, 0, err);
        free(path);
        if (!rc) rc = adapter_config_save(&a->config, a->model, w.temporary, err);
        if (!rc)
            rc = dir_writer_commit(&w, err);
        else
            dir_writer_abandon(&w);
    }
    free(t);
    return rc;
}
