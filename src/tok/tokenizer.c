#include "tok/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/err.h"
#include "base/file.h"
#include "tok/internal.h"

struct added {
    char *text;
    size_t len;
    int32_t id;
    bool special, normalized, lstrip, rstrip, single_word;
};

struct tokenizer {
    json_t *json; /* the vocabulary's strings live here */
    struct normalizers normalizers;
    struct pretokenizers pretokenizers;
    struct decoders decoders;
    struct bpe bpe;
    struct added *added;
    size_t n_added, added_capacity;
    bool starts[2][256]; /* [normalized]: first bytes of added tokens */
    struct token {
        const char *text;
        bool special, known;
    } *token; /* by id */
    int32_t n_token, bos, eos;
    struct ids prefix, suffix; /* what the post-processor adds */
    struct pieces a, b;        /* buffers of encode */
    struct buf normal, clean;
};

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
    t->token[id] = (struct token){text, special, true};
    return SAIL_OK;
}

static int read_added(struct tokenizer *t, json_t *list, sail_err *err)
{
    size_t i;
    json_t *j;
    json_array_foreach(list, i, j)
    {
        const char *text = json_string_value(json_object_get(j, "content"));
        json_t *id = json_object_get(j, "id");
        if (!text || !json_is_integer(id)) return err_set(err, SAIL_FAILED, "tokenizer: added_tokens[%zu]: expected content and id", i);
        if (!*text) continue;
        int rc = mem_grow(&t->added, t->n_added, &t->added_capacity, sizeof *t->added, err);
        if (rc) return rc;
        struct added *a = &t->added[t->n_added];
        *a = (struct added){.id = (int32_t)json_integer_value(id),
                            .special = json_is_true(json_object_get(j, "special")),
                            .normalized = json_is_true(json_object_get(j, "normalized")),
                            .lstrip = json_is_true(json_object_get(j, "lstrip")),
                            .rstrip = json_is_true(json_object_get(j, "rstrip")),
                            .single_word = json_is_true(json_object_get(j, "single_word"))};
        if (json_integer_value(id) < 0 || json_integer_value(id) > 1 << 24) return err_set(err, SAIL_FAILED, "tokenizer: added token '%.60s': id out of range", text);
        struct buf seen; // a normalized token is looked for in normalized text
        buf_init(&seen, 0);
        rc = a->normalized ? normalizers_run(&t->normalizers, text, strlen(text), &seen, err) : SAIL_OK;
        a->text = mem_strdup(a->normalized && seen.len ? seen.data : text);
        a->len = strlen(a->text);
        t->n_added++;
        buf_release(&seen);
        if (!rc) rc = name_token(t, a->id, text, a->special, err);
        if (rc) return rc;
        t->starts[a->normalized][(unsigned char)a->text[0]] = true;
    }
    return SAIL_OK;
}

static int push_named(struct tokenizer *t, const char *name, struct ids *out, sail_err *err)
{
    const int32_t id = tokenizer_find(t, name);
    return id < 0 ? err_set(err, SAIL_FAILED, "tokenizer: post-processor: token '%.60s' is not in the vocabulary", name) : ids_push(out, id, err);
}

static int read_template(struct tokenizer *t, json_t *spec, sail_err *err)
{
    bool after = false;
    size_t i, k;
    json_t *piece, *id;
    int rc = SAIL_OK;
    json_array_foreach(json_object_get(spec, "single"), i, piece)
    {
        json_t *special = json_object_get(piece, "SpecialToken");
        if (!special) {
            after = true;
            continue;
        }
        const char *name = json_string_value(json_object_get(special, "id"));
        json_t *ids = json_object_get(json_object_get(json_object_get(spec, "special_tokens"), name ? name : ""), "ids");
        if (!json_is_array(ids)) return err_set(err, SAIL_FAILED, "tokenizer: TemplateProcessing: special token '%.60s' has no ids", name ? name : "?");
        json_array_foreach(ids, k, id) if (!rc) rc = ids_push(after ? &t->suffix : &t->prefix, (int32_t)json_integer_value(id), err);
    }
    return rc;
}

static int read_post(struct tokenizer *t, json_t *spec, sail_err *err)
{
    if (!spec || json_is_null(spec)) return SAIL_OK;
    const char *type = json_string_value(json_object_get(spec, "type"));
    if (!type) type = "?";
    size_t i;
    json_t *one;
    if (!strcmp(type, "ByteLevel")) return SAIL_OK; // offsets only
    if (!strcmp(type, "TemplateProcessing")) return read_template(t, spec, err);
    if (!strcmp(type, "BertProcessing") || !strcmp(type, "RobertaProcessing")) {
        int rc = push_named(t, json_string_value(json_array_get(json_object_get(spec, "cls"), 0)), &t->prefix, err);
        return rc ? rc : push_named(t, json_string_value(json_array_get(json_object_get(spec, "sep"), 0)), &t->suffix, err);
    }
    if (strcmp(type, "Sequence")) return err_set(err, SAIL_FAILED, "post-processor '%s' is not supported", type);
    json_array_foreach(json_object_get(spec, "processors"), i, one)
    {
        int rc = read_post(t, one, err);
        if (rc) return rc;
    }
    return SAIL_OK;
}

static int read_json(struct tokenizer *t, sail_err *err)
{
    json_t *model = json_object_get(t->json, "model");
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type ? strcmp(type, "BPE") != 0 : !json_object_get(model, "merges"))
        return err_set(err, SAIL_FAILED, "tokenizer: model type '%s' is not supported: expected BPE", type ? type : "?");
    int rc = bpe_read(&t->bpe, model, err);
    if (!rc) rc = normalizers_read(&t->normalizers, json_object_get(t->json, "normalizer"), err);
    if (!rc) rc = pretokenizers_read(&t->pretokenizers, json_object_get(t->json, "pre_tokenizer"), err);
    if (!rc) rc = decoders_read(&t->decoders, json_object_get(t->json, "decoder"), err);
    const char *token;
    json_t *id;
    json_object_foreach(json_object_get(model, "vocab"), token, id) if (!rc) rc = name_token(t, (int32_t)json_integer_value(id), token, false, err);
    if (!rc) rc = read_added(t, json_object_get(t->json, "added_tokens"), err);
    return rc ? rc : read_post(t, json_object_get(t->json, "post_processor"), err);
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

/* transformers makes the post-processor of Llama and Gemma tokenizers anew from these two keys. */
static int apply_bos_flags(struct tokenizer *t, json_t *config, sail_err *err)
{
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    json_t *bos = json_object_get(config, "add_bos_token");
    if (!class || (!strstr(class, "Llama") && !strstr(class, "Gemma")) || !json_is_boolean(bos) || t->bos < 0) return SAIL_OK;
    t->prefix.n = 0;
    return json_is_true(bos) ? ids_push(&t->prefix, t->bos, err) : SAIL_OK;
}

static bool is_gguf(const char *path)
{
    const size_t n = strlen(path);
    return n > 5 && !strcmp(path + n - 5, ".gguf");
}

static int open_all(struct tokenizer *t, const char *path, sail_err *err)
{
    if (is_gguf(path)) {
        int rc = gguf_tokenizer_json(path, &t->json, &t->bos, &t->eos, err);
        return rc ? rc : read_json(t, err);
    }
    json_t *config = NULL; // model_max_length may be a number too big for an integer
    int rc = load(path, "tokenizer.json", JSON_ALLOW_NUL, &t->json, err);
    if (!rc && !t->json) rc = err_set(err, SAIL_FAILED, "%s: no tokenizer.json", path);
    if (!rc && (rc = read_json(t, err))) err_context(err, "%s/tokenizer.json", path);
    if (!rc) rc = load(path, "tokenizer_config.json", JSON_DECODE_INT_AS_REAL, &config, err);
    if (!rc && config) {
        t->bos = named_id(t, config, "bos_token");
        t->eos = named_id(t, config, "eos_token");
        rc = apply_bos_flags(t, config, err);
    }
    json_decref(config);
    return rc;
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
    if (is_gguf(path)) return true;
    char *file = path_join(path, "tokenizer.json");
    const bool there = path_exists(file);
    free(file);
    return there;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t) return;
    normalizers_free(&t->normalizers);
    pretokenizers_free(&t->pretokenizers);
    decoders_free(&t->decoders);
    bpe_free(&t->bpe);
    for (size_t i = 0; i < t->n_added; i++) free(t->added[i].text);
    free(t->added);
    free(t->token);
    ids_release(&t->prefix);
    ids_release(&t->suffix);
    pieces_release(&t->a);
    pieces_release(&t->b);
    buf_release(&t->normal);
    buf_release(&t->clean);
    json_decref(t->json);
    free(t);
}

int32_t tokenizer_find(const struct tokenizer *t, const char *token)
{
    for (size_t i = 0; token && i < t->n_added; i++)
        if (!strcmp(t->added[i].text, token)) return t->added[i].id;
    return token ? vocab_get(&t->bpe.vocab, token, strlen(token)) : -1;
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
    for (size_t i = 0; !rc && i < t->prefix.n; i++) rc = ids_push(out, t->prefix.id[i], err);
    return rc;
}

/* ---------------------------------------------------------------- encoding */

static bool word_at(const char *s, size_t n, size_t i, bool before)
{
    uint32_t c;
    if (before) {
        if (!i) return false;
        size_t at = i - 1;
        while (at && ((unsigned char)s[at] & 0xC0) == 0x80) at--;
        utf8_get(s + at, n - at, &c);
    } else {
        if (i >= n) return false;
        utf8_get(s + i, n - i, &c);
    }
    const utf8proc_category_t g = utf8proc_category((utf8proc_int32_t)c);
    return c == '_' || (g >= UTF8PROC_CATEGORY_LU && g <= UTF8PROC_CATEGORY_NO);
}

/* The longest added token at position i, or NULL. */
static const struct added *added_at(const struct tokenizer *t, const char *s, size_t n, size_t i, bool normalized)
{
    const struct added *best = NULL;
    if (!t->starts[normalized][(unsigned char)s[i]]) return NULL;
    for (size_t k = 0; k < t->n_added; k++) {
        const struct added *a = &t->added[k];
        if (a->normalized != normalized || a->len > n - i || memcmp(a->text, s + i, a->len) || (best && best->len >= a->len)) continue;
        best = a;
    }
    if (best && best->single_word && (word_at(s, n, i, true) || word_at(s, n, i + best->len, false))) return NULL;
    return best;
}

static bool blank(char c) { return c == ' ' || (c >= 9 && c <= 13); }

static int encode_plain(struct tokenizer *t, const char *s, size_t n, bool first, struct ids *out, sail_err *err)
{
    struct pieces *words;
    int rc = n ? pretokenizers_run(&t->pretokenizers, s, n, first, &t->a, &t->b, &words, err) : SAIL_OK;
    for (size_t i = 0; n && !rc && i < words->n; i++) rc = bpe_encode(&t->bpe, words->text.data + words->piece[i].start, words->piece[i].n, out, err);
    return rc;
}

static int encode_between(struct tokenizer *t, const char *s, size_t n, bool normalized, bool first, struct ids *out, sail_err *err);

/* Text between added tokens: normalized, cut at the added tokens that live in normalized text, then through the model. */
static int encode_text(struct tokenizer *t, const char *s, size_t n, bool normalized, bool first, struct ids *out, sail_err *err)
{
    if (!n) return SAIL_OK;
    if (normalized) return encode_plain(t, s, n, first, out, err);
    int rc = normalizers_run(&t->normalizers, s, n, &t->normal, err);
    return rc ? rc : encode_between(t, t->normal.data, t->normal.len, true, first, out, err);
}

static int encode_between(struct tokenizer *t, const char *s, size_t n, bool normalized, bool first, struct ids *out, sail_err *err)
{
    size_t from = 0;
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < n;) {
        const struct added *a = added_at(t, s, n, i, normalized);
        if (!a) {
            i++;
            continue;
        }
        size_t start = i, end = i + a->len;
        while (a->lstrip && start > from && blank(s[start - 1])) start--;
        while (a->rstrip && end < n && blank(s[end])) end++;
        rc = encode_text(t, s + from, start - from, normalized, first && from == 0, out, err);
        if (!rc) rc = ids_push(out, a->id, err);
        from = i = end;
    }
    return rc ? rc : encode_text(t, s + from, n - from, normalized, first && from == 0, out, err);
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, bool special, struct ids *out, sail_err *err)
{
    struct tokenizer *own = (struct tokenizer *)(uintptr_t)t; // caches and buffers move, what they mean does not
    buf_clear(&own->clean);
    utf8_lossy(text, len, &own->clean);
    if (own->clean.failed) return err_memory(err, len);
    int rc = special ? tokenizer_leading_specials(t, out, err) : SAIL_OK;
    if (!rc) rc = encode_between(own, own->clean.data, own->clean.len, false, true, out, err);
    for (size_t i = 0; special && !rc && i < t->suffix.n; i++) rc = ids_push(out, t->suffix.id[i], err);
    return rc;
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, bool skip_special, struct buf *out, sail_err *err)
{
    struct pieces a = {0}, b = {0};
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < n; i++) {
        const char *text = tokenizer_token(t, id[i]);
        if (!text) rc = err_set(err, SAIL_FAILED, "id %d is not in the tokenizer's vocabulary of %d", (int)id[i], (int)tokenizer_size(t));
        if (!rc && !(skip_special && t->token[id[i]].special)) rc = pieces_add(&a, text, strlen(text), err);
    }
    if (!rc) rc = decoders_run(&t->decoders, &a, &b, out, err);
    pieces_release(&a);
    pieces_release(&b);
    return rc;
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
