#include "tok/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "tok/internal.h"

void ids_release(struct ids *v)
{
    free(v->id);
    *v = (struct ids){0};
}

int ids_push(struct ids *v, int32_t id, sail_err *err)
{
    int rc = mem_grow(&v->id, v->n, &v->capacity, sizeof *v->id, err);
    if (!rc) v->id[v->n++] = id;
    return rc;
}

/* ---------------------------------------------------------------- reading */

static int name_token(struct tokenizer *t, int32_t id, const char *text, bool special, sail_err *err)
{
    if (id < 0 || id > 1 << 24) return err_set(err, SAIL_FAILED, "tokenizer: id %d of '%.60s' is out of range", (int)id, text);
    if (id >= t->n_token) {
        const int32_t want = id < 1024 ? 1024 : id + id / 2;
        struct token *p = realloc(t->token, (size_t)want * sizeof *p);
        if (!p) return err_memory(err, (size_t)want * sizeof *p);
        memset(p + t->n_token, 0, (size_t)(want - t->n_token) * sizeof *p);
        t->token = p;
        t->n_token = want;
    }
    t->token[id] = (struct token){.text = text, .special = special, .known = true};
    return SAIL_OK;
}

static int name_tokens(struct tokenizer *t, json_t *vocab, sail_err *err)
{
    const char *token;
    size_t i;
    json_t *one;
    int rc = SAIL_OK;
    json_array_foreach(vocab, i, one) if (!rc) rc = name_token(t, (int32_t)i, json_string_value(json_array_get(one, 0)), false, err);
    json_object_foreach(vocab, token, one) if (!rc) rc = name_token(t, (int32_t)json_integer_value(one), token, false, err);
    for (i = 0; !rc && i < t->added.n; i++) {
        const struct added *a = &t->added.token[i];
        // A normalized one decodes to its normalized form, which the library knows to be special only where it is the same.
        if (!(rc = name_token(t, a->id, a->text, a->special && !strcmp(a->text, a->content), err))) t->token[a->id].added = a;
    }
    return rc;
}

static int read_json(struct tokenizer *t, sail_err *err)
{
    json_t *model = json_object_get(t->json, "model");
    int rc = tokenizer_model_read(&t->model, model, err);
    if (!rc) rc = normalizers_read(&t->normalizers, json_object_get(t->json, "normalizer"), err);
    if (!rc) rc = pretokenizers_read(&t->pretokenizers, json_object_get(t->json, "pre_tokenizer"), err);
    if (!rc) rc = decoders_read(&t->decoders, json_object_get(t->json, "decoder"), err);
    if (!rc) rc = added_read(&t->added, json_object_get(t->json, "added_tokens"), &t->normalizers, &t->model.vocab, err);
    if (!rc) rc = name_tokens(t, json_object_get(model, "vocab"), err);
    return rc ? rc : post_read(&t->post, json_object_get(t->json, "post_processor"), err);
}

static int32_t named_id(const struct tokenizer *t, json_t *config, const char *key)
{
    json_t *v = json_object_get(config, key);
    const char *s = json_is_object(v) ? json_string_value(json_object_get(v, "content")) : json_string_value(v);
    return s ? tokenizer_find(t, s) : -1;
}

static int load(const char *folder, const char *name, size_t flags, json_t **out, sail_err *err)
{
    char *path = path_join(folder, name), *text;
    size_t n;
    int rc = SAIL_OK;
    *out = NULL;
    if (path_exists(path) && !(rc = file_read(path, (size_t)1 << 29, &text, &n, err))) {
        json_error_t why;
        *out = json_loadb(text, n, flags, &why);
        free(text);
        if (!json_is_object(*out)) rc = err_set(err, SAIL_FAILED, "%s:%d: not a JSON object: %s", path, *out ? 0 : why.line, *out ? "another type" : why.text);
    }
    free(path);
    return rc;
}

/* transformers makes the post-processor of Llama and Gemma tokenizers anew from add_bos_token. */
static int apply_bos_flags(struct tokenizer *t, json_t *config, sail_err *err)
{
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    json_t *bos = json_object_get(config, "add_bos_token");
    if (!class || (!strstr(class, "Llama") && !strstr(class, "Gemma")) || !json_is_boolean(bos) || t->bos < 0) return SAIL_OK;
    struct ids post = {0};
    bool after = false;
    int rc = json_is_true(bos) ? ids_push(&post, t->bos, err) : SAIL_OK;
    for (size_t i = 0; !rc && i < t->post.n; i++) {
        after = after || t->post.id[i] == POST_TEXT;
        if (after) rc = ids_push(&post, t->post.id[i], err);
    }
    ids_release(&t->post);
    t->post = post;
    return rc;
}

static bool is_gguf(const char *path)
{
    const size_t n = strlen(path);
    return n > 5 && !strcmp(path + n - 5, ".gguf");
}

/* A GGUF's keys, a folder's tokenizer.json, or its SentencePiece model: all in the form of the second. */
static int load_json(const char *path, json_t **json, int32_t *bos, int32_t *eos, sail_err *err)
{
    if (is_gguf(path)) return gguf_tokenizer_json(path, json, bos, eos, err);
    int rc = load(path, "tokenizer.json", JSON_ALLOW_NUL, json, err);
    if (rc || *json) return rc;
    char *file = path_join(path, "tokenizer.model");
    rc = path_exists(file) ? spm_tokenizer_json(file, json, bos, eos, err) : err_set(err, SAIL_FAILED, "%s: neither tokenizer.json nor tokenizer.model", path);
    free(file);
    return rc;
}

static int open_all(struct tokenizer *t, const char *path, sail_err *err)
{
    json_t *config = NULL; // model_max_length may be a number too big for an integer
    int rc = load_json(path, &t->json, &t->bos, &t->eos, err);
    if (!rc && (rc = read_json(t, err))) err_context(err, "%s", path);
    if (rc || is_gguf(path)) return rc;
    rc = load(path, "tokenizer_config.json", JSON_DECODE_INT_AS_REAL, &config, err);
    if (!rc && config) {
        if (json_object_get(config, "bos_token")) t->bos = named_id(t, config, "bos_token");
        if (json_object_get(config, "eos_token")) t->eos = named_id(t, config, "eos_token");
        rc = apply_bos_flags(t, config, err);
    }
    json_decref(config);
    return rc;
}

int tokenizer_json(const char *path, json_t **out, sail_err *err)
{
    int32_t bos, eos;
    *out = NULL;
    return load_json(path, out, &bos, &eos, err);
}

int tokenizer_open(struct tokenizer **out, const char *path, sail_err *err)
{
    struct tokenizer *t;
    *out = NULL;
    if (mem_alloc(&t, 1, sizeof *t, err)) return SAIL_FAILED;
    t->bos = t->eos = -1;
    int rc = open_all(t, path, err);
    if (rc)
        tokenizer_close(t);
    else
        *out = t;
    return rc;
}

bool tokenizer_exists(const char *path)
{
    if (is_gguf(path)) return gguf_has_tokenizer(path);
    char *json = path_join(path, "tokenizer.json"), *model = path_join(path, "tokenizer.model");
    const bool there = path_exists(json) || path_exists(model);
    free(json);
    free(model);
    return there;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t) return;
    normalizers_free(&t->normalizers);
    pretokenizers_free(&t->pretokenizers);
    decoders_free(&t->decoders);
    tokenizer_model_free(&t->model);
    added_free(&t->added);
    free(t->token);
    ids_release(&t->post);
    words_release(&t->words);
    normal_release(&t->normal);
    buf_release(&t->clean);
    decoding_release(&t->decoding);
    json_decref(t->json);
    free(t);
}

int32_t tokenizer_find(const struct tokenizer *t, const char *token)
{
    for (size_t i = 0; token && i < t->added.n; i++)
        if (!strcmp(t->added.token[i].content, token)) return t->added.token[i].id;
    return token ? vocab_get(&t->model.vocab, token, strlen(token)) : -1;
}

const char *tokenizer_token(const struct tokenizer *t, int32_t id) { return id >= 0 && id < t->n_token && t->token[id].known ? t->token[id].text : NULL; }
int32_t tokenizer_eos(const struct tokenizer *t) { return t->eos; }
int32_t tokenizer_bos(const struct tokenizer *t) { return t->bos; }

int32_t tokenizer_size(const struct tokenizer *t)
{
    int32_t n = t->n_token;
    while (n > 0 && !t->token[n - 1].known) n--;
    return n;
}

int tokenizer_leading_specials(const struct tokenizer *t, struct ids *out, sail_err *err)
{
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < t->post.n && t->post.id[i] != POST_TEXT; i++) rc = ids_push(out, t->post.id[i], err);
    return rc;
}

/* ---------------------------------------------------------------- encoding */

static int encode_plain(struct tokenizer *t, const char *s, size_t n, size_t head, struct ids *out, sail_err *err)
{
    struct words *w = &t->words;
    int rc = n ? pretokenizers_run(&t->pretokenizers, s, n, head, w, err) : SAIL_OK;
    for (size_t i = 0; n && !rc && i < w->n; i++) rc = tokenizer_model_encode(&t->model, w->text + w->piece[i].start, w->piece[i].n, w->as_bytes, out, err);
    return rc;
}

static int encode_between(struct tokenizer *t, const char *s, size_t n, bool normalized, size_t head, struct ids *out, sail_err *err);

/* Text between added tokens: normalized, cut at the added tokens that live in normalized text, then through the model. head: bytes that stand
 * for the first character of the whole text. */
static int encode_text(struct tokenizer *t, const char *s, size_t n, bool normalized, size_t head, struct ids *out, sail_err *err)
{
    if (!n) return SAIL_OK;
    if (normalized) return encode_plain(t, s, n, head, out, err);
    if (!t->normalizers.n) return encode_between(t, s, n, true, head, out, err);
    int rc = normalizers_run(&t->normalizers, s, n, &t->normal, &head, err);
    return rc ? rc : encode_between(t, t->normal.text.data, t->normal.text.len, true, head, out, err);
}

static int encode_between(struct tokenizer *t, const char *s, size_t n, bool normalized, size_t head, struct ids *out, sail_err *err)
{
    size_t from = 0, search = 0, start, end;
    const struct added *a;
    int rc = SAIL_OK;
    while (!rc && (a = added_next(&t->added, normalized, s, n, from, &search, &start, &end))) {
        if (start > from) rc = encode_text(t, s + from, start - from, normalized, head > from ? head - from : 0, out, err);
        if (!rc) rc = ids_push(out, a->id, err);
        from = end;
    }
    return !rc && from < n ? encode_text(t, s + from, n - from, normalized, head > from ? head - from : 0, out, err) : rc;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, bool special, struct ids *out, sail_err *err)
{
    struct tokenizer *own = (struct tokenizer *)(uintptr_t)t; // caches and buffers move, what they mean does not
    buf_clear(&own->clean);
    utf8_lossy(text, len, &own->clean);
    if (own->clean.failed) return err_memory(err, len);
    const char *s = own->clean.data;
    const size_t n = own->clean.len, head = n ? utf8_next(s, n, 0) : 0;
    int rc = SAIL_OK;
    if (!special) return n ? encode_between(own, s, n, false, head, out, err) : SAIL_OK;
    for (size_t i = 0; !rc && i < t->post.n; i++) {
        if (t->post.id[i] != POST_TEXT)
            rc = ids_push(out, t->post.id[i], err);
        else if (n)
            rc = encode_between(own, s, n, false, head, out, err);
    }
    return rc;
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, bool skip_special, struct buf *out, sail_err *err)
{
    struct decoding *w = &((struct tokenizer *)(uintptr_t)t)->decoding; // as in encode
    int rc = SAIL_OK;
    pieces_clear(&w->pieces[0]);
    w->pieces[0].text.max = 0; // the decoders set another
    for (size_t i = 0; !rc && i < n; i++) {
        const char *text = tokenizer_token(t, id[i]);
        if (!text) rc = err_set(err, SAIL_FAILED, "id %d is not in the tokenizer's vocabulary of %d", (int)id[i], (int)tokenizer_size(t));
        if (!rc && !(skip_special && t->token[id[i]].special)) rc = pieces_add(&w->pieces[0], text, strlen(text), err);
    }
    return rc ? rc : decoders_run(&t->decoders, w, out, err);
}

static int write_json(const char *folder, const char *name, json_t *j, size_t flags, sail_err *err)
{
    char *text = json_dumps(j, flags), *path = path_join(folder, name);
    int rc = text ? file_replace(path, text, strlen(text), err) : err_memory(err, 0);
    free(text);
    free(path);
    return rc;
}

int tokenizer_save_gguf(const char *gguf_path, const char *folder, sail_err *err)
{
    json_t *root;
    int32_t bos, eos;
    int rc = gguf_tokenizer_json(gguf_path, &root, &bos, &eos, err);
    if (rc) return rc;
    json_object_set_new(root, "version", json_string("1.0"));
    json_t *config = json_object(), *name;
    const char *token;
    json_object_foreach(json_object_get(json_object_get(root, "model"), "vocab"), token, name)
    {
        if (json_integer_value(name) == bos) json_object_set_new(config, "bos_token", json_string(token));
        if (json_integer_value(name) == eos) json_object_set_new(config, "eos_token", json_string(token));
    }
    json_object_set_new(config, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    rc = write_json(folder, "tokenizer.json", root, JSON_COMPACT, err);
    if (!rc) rc = write_json(folder, "tokenizer_config.json", config, JSON_INDENT(2), err);
    json_decref(config);
    json_decref(root);
    return rc;
}
