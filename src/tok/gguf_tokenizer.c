#define _GNU_SOURCE
/* A GGUF's tokenizer keys as a tokenizer.json: byte-level BPE ("gpt2") with the pre-tokenizer that its name stands for, and SentencePiece BPE ("llama"). */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "io/gguf.h"
#include "tok/internal.h"

static const char llama3[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char qwen2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* How text is cut before the merges, by tokenizer.ggml.pre. */
static const struct {
    const char *name, *regex; /* regex NULL: ByteLevel's own */
    bool digits, ignore_merges, nfc;
} pres[] = {
    {"gpt-2", NULL, false, false, false},      {"default", NULL, false, false, false}, {"smollm", NULL, true, false, false},   {"starcoder", NULL, true, false, false},
    {"refact", NULL, true, false, false},      {"command-r", NULL, true, false, false}, {"olmo", NULL, false, false, false},    {"llama-bpe", llama3, false, true, false},
    {"llama3", llama3, false, true, false},    {"llama-v3", llama3, false, true, false}, {"qwen2", qwen2, false, false, true},  {"stablelm2", qwen2, false, false, true},
};

static json_t *token_string(const struct gguf *g, const char *key, int64_t i)
{
    size_t n;
    const char *s = gguf_array_string(g, key, i, &n);
    return s ? json_stringn(s, n) : NULL;
}

/* Vocabulary and added tokens; types 3 (control) and 4 (user) are matched whole. */
static int put_vocab(const struct gguf *g, json_t *vocab, json_t *added, sail_err *err)
{
    enum gguf_type type;
    int64_t n;
    if (!gguf_array(g, "tokenizer.ggml.tokens", &type, &n) || type != GGUF_STRING) return err_set(err, SAIL_FAILED, "%s: tokenizer.ggml.tokens: expected an array of strings", gguf_path(g));
    for (int64_t i = 0; i < n; i++) {
        json_t *s = token_string(g, "tokenizer.ggml.tokens", i);
        if (!s) return err_set(err, SAIL_FAILED, "%s: token %lld is not UTF-8", gguf_path(g), (long long)i);
        int64_t kind = 1;
        gguf_array_i64(g, "tokenizer.ggml.token_type", i, &kind);
        json_object_set_new(vocab, json_string_value(s), json_integer(i));
        if (kind == 3 || kind == 4 || kind == 2)
            json_array_append_new(added, json_pack("{sI sO sb sb sb sb sb}", "id", (json_int_t)i, "content", s, "special", kind != 4, "normalized", 0, "lstrip", 0, "rstrip", 0, "single_word", 0));
        json_decref(s);
    }
    return SAIL_OK;
}

static int byte_level(const struct gguf *g, json_t *root, json_t *model, sail_err *err)
{
    const char *pre = gguf_string(g, "tokenizer.ggml.pre");
    size_t which = 1;
    if (pre) {
        for (which = 0; which < sizeof pres / sizeof *pres && strcmp(pre, pres[which].name); which++) {}
        if (which == sizeof pres / sizeof *pres) return err_set(err, SAIL_FAILED, "%s: tokenizer.ggml.pre '%s' is not supported", gguf_path(g), pre);
    }
    json_t *steps = json_array();
    if (pres[which].digits) json_array_append_new(steps, json_pack("{ss sb}", "type", "Digits", "individual_digits", 1));
    if (pres[which].regex) {
        json_array_append_new(steps, json_pack("{ss s{ss} ss sb}", "type", "Split", "pattern", "Regex", pres[which].regex, "behavior", "Isolated", "invert", 0));
        json_array_append_new(steps, json_pack("{ss sb sb sb}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 0, "use_regex", 0));
    } else {
        json_array_append_new(steps, json_pack("{ss sb sb sb}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1));
    }
    json_object_set_new(root, "normalizer", pres[which].nfc ? json_pack("{ss}", "type", "NFC") : json_null());
    json_object_set_new(root, "pre_tokenizer", json_pack("{ss so}", "type", "Sequence", "pretokenizers", steps));
    json_object_set_new(root, "decoder", json_pack("{ss sb sb sb}", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1, "use_regex", 1));
    json_object_set_new(model, "ignore_merges", json_boolean(pres[which].ignore_merges));
    enum gguf_type type;
    int64_t n;
    if (!gguf_array(g, "tokenizer.ggml.merges", &type, &n) || type != GGUF_STRING) return err_set(err, SAIL_FAILED, "%s: tokenizer.ggml.merges: expected an array of strings", gguf_path(g));
    json_t *merges = json_array();
    json_object_set_new(model, "merges", merges);
    for (int64_t i = 0; i < n; i++) {
        json_t *m = token_string(g, "tokenizer.ggml.merges", i);
        if (!m) return err_set(err, SAIL_FAILED, "%s: merge %lld is not UTF-8", gguf_path(g), (long long)i);
        json_array_append_new(merges, m);
    }
    return SAIL_OK;
}

struct scored_merge {
    double score;
    int64_t left_len, id;
};

static int by_score(const void *x, const void *y)
{
    const struct scored_merge *a = x, *b = y;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->id != b->id) return a->id < b->id ? -1 : 1;
    return a->left_len < b->left_len ? -1 : a->left_len > b->left_len;
}

/* SentencePiece BPE merges any two pieces whose product is a piece, best score first: every way to cut a piece in two becomes a merge of its rank. */
static int score_merges(const struct gguf *g, json_t *vocab, json_t *merges, sail_err *err)
{
    enum gguf_type type;
    int64_t n = 0;
    gguf_array(g, "tokenizer.ggml.tokens", &type, &n);
    struct scored_merge *m = NULL;
    size_t count = 0, capacity = 0;
    int rc = SAIL_OK;
    for (int64_t i = 0; !rc && i < n; i++) {
        size_t len;
        const char *s = gguf_array_string(g, "tokenizer.ggml.tokens", i, &len);
        double score = 0;
        int64_t kind = 1;
        gguf_array_f64(g, "tokenizer.ggml.scores", i, &score);
        gguf_array_i64(g, "tokenizer.ggml.token_type", i, &kind);
        for (size_t cut = 1; !rc && kind == 1 && cut < len; cut++) {
            if (((unsigned char)s[cut] & 0xC0) == 0x80) continue;
            char *left = strndup(s, cut), *right = strndup(s + cut, len - cut);
            if (left && right && json_object_get(vocab, left) && json_object_get(vocab, right) && !(rc = mem_grow(&m, count, &capacity, sizeof *m, err)))
                m[count++] = (struct scored_merge){score, (int64_t)cut, i};
            free(left);
            free(right);
        }
    }
    if (count) qsort(m, count, sizeof *m, by_score);
    for (size_t k = 0; !rc && k < count; k++) {
        size_t len;
        const char *s = gguf_array_string(g, "tokenizer.ggml.tokens", m[k].id, &len);
        json_array_append_new(merges, json_pack("[oo]", json_stringn(s, (size_t)m[k].left_len), json_stringn(s + m[k].left_len, len - (size_t)m[k].left_len)));
    }
    free(m);
    return rc;
}

static int sentencepiece(const struct gguf *g, json_t *root, json_t *model, sail_err *err)
{
    bool space = true;
    gguf_bool(g, "tokenizer.ggml.add_space_prefix", &space);
    json_t *replace = json_pack("{ss s{ss} ss}", "type", "Replace", "pattern", "String", " ", "content", "\xE2\x96\x81");
    json_t *steps = space ? json_pack("[{ssss}o]", "type", "Prepend", "prepend", "\xE2\x96\x81", replace) : json_pack("[o]", replace);
    json_object_set_new(root, "normalizer", json_pack("{ss so}", "type", "Sequence", "normalizers", steps));
    json_object_set_new(root, "pre_tokenizer", json_null());
    json_t *decoders = json_pack("[{ss s{ss} ss}{ss}{ss}]", "type", "Replace", "pattern", "String", "\xE2\x96\x81", "content", " ", "type", "ByteFallback", "type", "Fuse");
    if (space) json_array_append_new(decoders, json_pack("{ss ss si si}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    json_object_set_new(root, "decoder", json_pack("{ss so}", "type", "Sequence", "decoders", decoders));
    json_object_set_new(model, "byte_fallback", json_true());
    json_object_set_new(model, "fuse_unk", json_true());
    json_t *merges = json_array();
    json_object_set_new(model, "merges", merges);
    return score_merges(g, json_object_get(model, "vocab"), merges, err);
}

static json_t *token_at(const struct gguf *g, int32_t id)
{
    json_t *s = token_string(g, "tokenizer.ggml.tokens", id);
    return s ? s : json_string("");
}

/* What is put around a text; a pair of texts is only there because the format asks for it. */
static void put_post(const struct gguf *g, json_t *root, int32_t bos, int32_t eos, bool bos_default)
{
    bool add_bos = bos_default, add_eos = false;
    gguf_bool(g, "tokenizer.ggml.add_bos_token", &add_bos);
    gguf_bool(g, "tokenizer.ggml.add_eos_token", &add_eos);
    const int32_t around[2] = {add_bos ? bos : -1, add_eos ? eos : -1};
    json_t *single = json_array(), *special = json_object();
    for (int k = 0; k < 2; k++) {
        if (k) json_array_append_new(single, json_pack("{s{ss si}}", "Sequence", "id", "A", "type_id", 0));
        if (around[k] < 0) continue;
        json_t *name = token_at(g, around[k]);
        json_array_append_new(single, json_pack("{s{sO si}}", "SpecialToken", "id", name, "type_id", 0));
        json_object_set_new(special, json_string_value(name), json_pack("{sO s[i] s[O]}", "id", name, "ids", (int)around[k], "tokens", name));
        json_decref(name);
    }
    json_t *pair = json_pack("[{s{ss si}}{s{ss si}}]", "Sequence", "id", "A", "type_id", 0, "Sequence", "id", "B", "type_id", 1);
    json_object_set_new(root, "post_processor", json_pack("{ss so so so}", "type", "TemplateProcessing", "single", single, "pair", pair, "special_tokens", special));
}

static int build(const struct gguf *g, json_t *root, int32_t *bos, int32_t *eos, sail_err *err)
{
    const char *kind = gguf_string(g, "tokenizer.ggml.model");
    const bool bytes = kind && !strcmp(kind, "gpt2"), spm = kind && !strcmp(kind, "llama");
    if (!bytes && !spm) return err_set(err, SAIL_FAILED, "%s: tokenizer.ggml.model '%s' is not supported: expected gpt2 or llama", gguf_path(g), kind ? kind : "(absent)");
    json_t *vocab = json_object(), *added = json_array(), *model = json_pack("{ss so}", "type", "BPE", "vocab", vocab);
    json_object_set_new(root, "added_tokens", added);
    json_object_set_new(root, "model", model);
    int rc = put_vocab(g, vocab, added, err);
    uint64_t id;
    if (!rc && gguf_u64(g, "tokenizer.ggml.bos_token_id", &id)) *bos = (int32_t)id;
    if (!rc && gguf_u64(g, "tokenizer.ggml.eos_token_id", &id)) *eos = (int32_t)id;
    if (!rc && gguf_u64(g, "tokenizer.ggml.unknown_token_id", &id)) {
        json_t *s = token_string(g, "tokenizer.ggml.tokens", (int64_t)id);
        if (s && spm) json_object_set_new(model, "unk_token", s);
        else json_decref(s);
    }
    if (!rc) rc = bytes ? byte_level(g, root, model, err) : sentencepiece(g, root, model, err);
    if (!rc) put_post(g, root, *bos, *eos, spm);
    return rc;
}

int gguf_tokenizer_json(const char *path, json_t **out, int32_t *bos, int32_t *eos, sail_err *err)
{
    struct gguf *g;
    int rc = gguf_open(&g, path, err);
    if (rc) return rc;
    json_t *root = json_object();
    *bos = *eos = -1;
    rc = root ? build(g, root, bos, eos, err) : err_memory(err, 0);
    gguf_close(g);
    if (rc)
        json_decref(root);
    else
        *out = root;
    return rc;
}
