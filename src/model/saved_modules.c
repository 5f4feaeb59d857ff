/* modules_to_save: embeddings and heads that an adapter replaces by copies of its own, trained in full. A head that was tied to the embeddings
 * is a module of its own from then on. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/adapter.h"

/* PEFT's rule for this list: a path that ends with the entry. */
static bool ends(const char *path, const char *entry)
{
    const size_t n = strlen(path), k = strlen(entry);
    return k && n >= k && !strcmp(path + n - k, entry);
}

bool saved_module_find(const struct model *m, const char *entry, enum saved_id *id, char *path, size_t size)
{
    const struct family *f = m->config.family;
    char embed[96];
    snprintf(embed, sizeof embed, "%s%s", f->prefix, f->embed);
    const char *score = m->config.score_name;
    // GPT-NeoX's head is embed_out in its file, and lm_head among the modules of newer transformers.
    const char *const names[] = {embed, score ? score : f->head, score ? score : "lm_head"};
    for (int i = 0; i < 3; i++) {
        if (!ends(names[i], entry)) continue;
        *id = i ? SAVED_HEAD : SAVED_EMBED;
        snprintf(path, size, "%s", names[i]);
        return true;
    }
    return false;
}

int saved_module_add(struct adapter *a, enum saved_id id, const char *path, sail_err *err)
{
    const struct model *m = a->model;
    const struct weight *base = id == SAVED_EMBED ? &m->embed : &m->head;
    const struct weight_part *from = &base->part[0];
    struct saved_module *s = &a->saved[id];
    int rc = adapter_add_param(a, mem_printf("base_model.model.%s.weight", path), 2, from->n_out, base->n_in, &s->weight, err);
    if (rc) return rc;
    tensor_convert(s->weight->value, DTYPE_F32, from->data, from->dtype, s->weight->n);
    s->w = (struct weight){.n_part = 1, .n_in = base->n_in, .n_out = from->n_out};
    s->w.part[0] = (struct weight_part){.data = s->weight->value, .dtype = DTYPE_F32, .n_out = from->n_out, .ld = base->n_in};
    if (id == SAVED_EMBED || !m->score_bias) return SAIL_OK;
    rc = adapter_add_param(a, mem_printf("base_model.model.%s.bias", path), 1, 1, 1, &s->bias, err);
    if (!rc) s->bias->value[0] = m->score_bias[0];
    return rc;
}

/* Embeddings are looked up in the parameter itself; heads are products. */
int saved_modules_prepare(struct adapter *a, sail_err *err)
{
    return a->saved[SAVED_HEAD].weight ? ops->weight_prepare(&a->saved[SAVED_HEAD].w, a->model->options.compute, err) : SAIL_OK;
}

void saved_modules_refresh(struct adapter *a)
{
    if (a->saved[SAVED_HEAD].weight) ops->weight_refresh(&a->saved[SAVED_HEAD].w);
}

void saved_modules_release(struct adapter *a) { ops->weight_release(&a->saved[SAVED_HEAD].w); }
