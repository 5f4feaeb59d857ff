/* sail inspect: what a model folder or GGUF file is, and what it needs; its shapes are checked, its weights stay where they are. */
#include <jansson.h>
#include <string.h>

#include "base/err.h"
#include "io/weights.h"
#include "jobs/jobs.h"
#include "model/model.h"
#include "template/template.h"
#include "tok/tokenizer.h"

static const char *head_of(const struct model_facts *f) { return f->reward_head ? "score (reward model)" : f->tied ? "language model, tied to the embedding" : "language model"; }

/* {"BF16": 134515008, ...}: values by type. */
static json_t *types_of(const struct weights *w, size_t *bytes)
{
    json_t *types = json_object();
    *bytes = 0;
    for (int64_t i = 0; i < weights_count(w); i++) {
        const struct tensor *t = weights_at(w, i);
        const char *name = weights_stored_type(w, t);
        json_object_set_new(types, name, json_integer(json_integer_value(json_object_get(types, name)) + (json_int_t)tensor_count(t)));
        *bytes += (size_t)tensor_count(t) * dtype_size(t->dtype);
    }
    return types;
}

static int describe_weights(const char *path, json_t *out, sail_err *err)
{
    struct weights *w = NULL;
    int rc = weights_open(&w, path, err);
    if (rc) return rc;
    size_t bytes;
    json_t *types = types_of(w, &bytes);
    const char *class = json_string_value(json_array_get(json_object_get(weights_config(w), "architectures"), 0));
    json_object_set_new(out, "path", json_string(path));
    json_object_set_new(out, "form", json_string(weights_is_gguf(w) ? "GGUF file" : "Hugging Face folder"));
    json_object_set_new(out, "architecture", class ? json_string(class) : json_null());
    json_object_set_new(out, "tensors", json_integer((json_int_t)weights_count(w)));
    json_object_set_new(out, "types", types);
    json_object_set_new(out, "bytes_in_memory", json_integer((json_int_t)bytes));
    weights_close(w);
    return SAIL_OK;
}

/* The plan of scoring and of training an adapter, in bf16 and micro-batches of the default size. */
static int describe_model(const char *path, json_t *out, sail_err *err)
{
    for (int train = 0; train < 2; train++) {
        struct model *m = NULL;
        const struct model_options o = {.compute = DTYPE_BF16, .backward = train, .facts_only = true};
        int rc = model_open(&m, path, &o, err);
        if (rc) return rc;
        const struct model_facts *f = model_facts(m);
        const struct model_memory need = model_memory((struct policy){.model = m}, 0);
        json_t *eos = json_array();
        for (int i = 0; i < f->n_eos; i++) json_array_append_new(eos, json_integer(f->eos[i]));
        json_object_update_missing_new(out, json_pack("{ss sI sI sI sI sI sI sI sI sI so ss}", "family", f->family, "parameters", (json_int_t)f->n_param, "layers", (json_int_t)f->n_layer, "hidden",
                                                      (json_int_t)f->hidden, "heads", (json_int_t)f->n_head, "key_value_heads", (json_int_t)f->n_kv, "head_dim", (json_int_t)f->head_dim,
                                                      "intermediate", (json_int_t)f->inter, "vocabulary", (json_int_t)f->vocab, "context", (json_int_t)f->max_position, "eos", eos, "head", head_of(f)));
        json_object_set_new(out, train ? "memory_lora_training" : "memory_scoring", json_pack("{sI sI sI}", "weights", (json_int_t)need.weights, "layouts", (json_int_t)need.layouts, "activations", (json_int_t)need.activations));
        model_close(m);
    }
    return SAIL_OK;
}

static int describe_text(const char *path, json_t *out, sail_err *err)
{
    struct tokenizer *t = NULL;
    struct chat_template *chat = NULL;
    int rc = tokenizer_exists(path) ? tokenizer_open(&t, path, err) : SAIL_OK;
    if (!rc && t) {
        const int32_t bos = tokenizer_bos(t), eos = tokenizer_eos(t);
        const char *b = bos < 0 ? NULL : tokenizer_token(t, bos), *e = eos < 0 ? NULL : tokenizer_token(t, eos);
        json_object_set_new(out, "tokenizer", json_pack("{sI ss* ss*}", "size", (json_int_t)tokenizer_size(t), "bos", b, "eos", e));
    }
    if (!rc && !t) json_object_set_new(out, "tokenizer", json_null());
    if (!rc && template_exists(path)) rc = template_open(&chat, path, err);
    char *source = rc || !chat ? NULL : template_source(path);
    if (!rc) json_object_set_new(out, "chat_template_bytes", source ? json_integer((json_int_t)strlen(source)) : json_null());
    free(source);
    template_close(chat);
    tokenizer_close(t);
    return rc;
}

static double mib_of(const json_t *memory, const char *key) { return (double)json_integer_value(json_object_get(memory, key)) / (1 << 20); }

static long long whole(const json_t *j, const char *key) { return json_integer_value(json_object_get(j, key)); }

static void print_memory(const json_t *j, const char *key, const char *label)
{
    const json_t *m = json_object_get(j, key);
    printf("%-14s layouts %.0f MiB, activations %.0f MiB, other weights %.0f MiB\n", label, mib_of(m, "layouts"), mib_of(m, "activations"), mib_of(m, "weights"));
}

static void print_text(const json_t *j)
{
    const json_t *tokenizer = json_object_get(j, "tokenizer"), *chat = json_object_get(j, "chat_template_bytes");
    const char *class = json_string_value(json_object_get(j, "architecture")), *bos = json_string_value(json_object_get(tokenizer, "bos")), *eos = json_string_value(json_object_get(tokenizer, "eos"));
    char *types = json_dumps(json_object_get(j, "types"), JSON_COMPACT), *ids = json_dumps(json_object_get(j, "eos"), JSON_COMPACT);
    printf("model          %s (%s)\n", json_string_value(json_object_get(j, "path")), json_string_value(json_object_get(j, "form")));
    printf("architecture   %s, family %s\n", class ? class : "(not said)", json_string_value(json_object_get(j, "family")));
    printf("parameters     %lld in %lld tensors, %s, %.0f MiB as they run\n", whole(j, "parameters"), whole(j, "tensors"), types, (double)whole(j, "bytes_in_memory") / (1 << 20));
    printf("shape          %lld layers, hidden %lld, intermediate %lld, %lld heads (%lld for keys and values) of %lld\n", whole(j, "layers"), whole(j, "hidden"), whole(j, "intermediate"),
           whole(j, "heads"), whole(j, "key_value_heads"), whole(j, "head_dim"));
    printf("head           %s\n", json_string_value(json_object_get(j, "head")));
    printf("vocabulary     %lld ids, answers end at %s; context %lld tokens\n", whole(j, "vocabulary"), ids, whole(j, "context"));
    if (json_is_object(tokenizer))
        printf("tokenizer      %lld ids, BOS %s, EOS %s\n", whole(tokenizer, "size"), bos ? bos : "none", eos ? eos : "none");
    else
        printf("tokenizer      none: rows must be ids\n");
    if (json_is_integer(chat))
        printf("chat template  %lld bytes\n", (long long)json_integer_value(chat));
    else
        printf("chat template  none: conversational rows are refused\n");
    print_memory(j, "memory_scoring", "to score");
    print_memory(j, "memory_lora_training", "to train LoRA");
    free(types);
    free(ids);
}

int job_inspect(const sail_config *c, sail_err *err)
{
    if (!c->action) return err_set(err, SAIL_USAGE, "`sail inspect` needs a model folder or a .gguf file");
    json_t *j = json_object();
    int rc = describe_weights(c->action, j, err);
    if (!rc) rc = describe_model(c->action, j, err);
    if (!rc) rc = describe_text(c->action, j, err);
    char *text = !rc && c->json ? json_dumps(j, JSON_INDENT(2)) : NULL;
    if (text) printf("%s\n", text);
    if (!rc && !c->json) print_text(j);
    free(text);
    json_decref(j);
    return rc;
}
