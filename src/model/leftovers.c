/* Tensors that the file holds and the model has not asked for. Layers past those of the config are refused: half a model answers, and nobody sees why it answers badly. Names that mean nothing in
 * this model are warned of. What old files keep beside their weights, and heads that are not in use, stay silent. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "io/gguf_arch.h"
#include "model/internal.h"

/* Number of the layer that a tensor belongs to; -1: of none. */
static int64_t layer_of(const struct model *m, const char *name)
{
    const char *const parts[] = {m->prefix, m->config.family->layer};
    for (int i = 0; i < 2; i++) {
        const size_t n = strlen(parts[i]);
        if (strncmp(name, parts[i], n)) return -1;
        name += n;
    }
    char *end;
    const long long i = strtoll(name, &end, 10);
    return isdigit((unsigned char)*name) && *end == '.' && i < INT32_MAX ? i : -1;
}

static bool is_head(const struct model *m, const char *name)
{
    const char *const heads[] = {m->config.family->head, "lm_head", "score"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof heads / sizeof *heads; i++)
        if (strlen(heads[i]) == (size_t)(dot - name) && !strncmp(name, heads[i], (size_t)(dot - name))) return true;
    return false;
}

static int refuse_layers(const struct model *m, const char *first, int64_t layers, sail_err *err)
{
    const char *key = weights_is_gguf(m->file) ? "block_count" : m->config.family->key_layers ? m->config.family->key_layers : "num_hidden_layers";
    return err_set(err, SAIL_FAILED, "%s: %s is %lld, but the weights have %lld layers (the first tensor left over is '%s'): the config is cut, or that of another model", m->path, key,
                   (long long)m->config.n_layer, (long long)layers, first);
}

int leftovers_check(const struct model *m, sail_err *err)
{
    const char *unknown = NULL, *past = NULL;
    int64_t n_unknown = 0, first_layer = INT64_MAX, layers = 0;
    for (int64_t i = 0; i < weights_count(m->file); i++) {
        const char *name = weights_at(m->file, i)->name;
        if (m->used[weights_place(m->file, name)] || hf_name_is_buffer(name) || is_head(m, name)) continue;
        const int64_t layer = layer_of(m, name);
        if (layer >= m->config.n_layer) {
            if (layer >= layers) layers = layer + 1;
            if (layer < first_layer) first_layer = layer, past = name;
        } else {
            if (!n_unknown++) unknown = name;
        }
    }
    if (past) return refuse_layers(m, past, layers, err);
    if (unknown)
        log_warning_once("%s: %lld of %lld tensors mean nothing in a model of family %s with this config and are not used, '%s' the first", m->path, (long long)n_unknown, (long long)weights_count(m->file),
                         m->config.family->model_type, unknown);
    return SAIL_OK;
}
