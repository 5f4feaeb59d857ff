/* SentencePiece vocabularies as tokenizer.json objects. */
#define _GNU_SOURCE
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "tok/internal.h"

void spm_release(struct spm *m)
{
    for (size_t i = 0; i < m->n; i++) free(m->piece[i].text);
    free(m->piece);
    free(m->charsmap);
}

json_t *added_token_json(int64_t id, json_t *content, int type)
{
    if (type >= 2 && type <= 4)
        return json_pack("{sI so sb sb sb sb sb}", "id", (json_int_t)id, "content", content, "special", type != 4, "normalized", 0, "lstrip", 0, "rstrip", 0, "single_word", 0);
    json_decref(content);
    return NULL;
}

json_t *post_json(int32_t before, const char *before_text, int32_t after, const char *after_text)
{
    const int32_t around[2] = {before, after};
    const char *const texts[2] = {before_text, after_text};
    json_t *single = json_array(), *special = json_object();
    for (int k = 0; k < 2; k++) {
        if (k) json_array_append_new(single, json_pack("{s{ss si}}", "Sequence", "id", "A", "type_id", 0));
        if (around[k] < 0) continue;
        json_array_append_new(single, json_pack("{s{ss si}}", "SpecialToken", "id", texts[k], "type_id", 0));
        json_object_set_new(special, texts[k], json_pack("{ss s[i] s[s]}", "id", texts[k], "ids", (int)around[k], "tokens", texts[k]));
    }
    json_t *pair = json_pack("[{s{ss si}}{s{ss si}}]", "Sequence", "id", "A", "type_id", 0, "Sequence", "id", "B", "type_id", 1);
    return json_pack("{ss so so so}", "type", "TemplateProcessing", "single", single, "pair", pair, "special_tokens", special);
}

/* ---------------------------------------------------------------- merges */

enum { MOST_PIECE = 1024 }; // every cut of a piece is looked up

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
static int put_merges(const struct spm *m, json_t *merges, sail_err *err)
{
    struct vocab known = {0};
    struct scored_merge *found = NULL;
    size_t count = 0, capacity = 0;
    int rc = vocab_init(&known, m->n, err);
    for (size_t i = 0; !rc && i < m->n; i++) vocab_put(&known, m->piece[i].text, m->piece[i].len, (int32_t)i);
    for (size_t i = 0; !rc && i < m->n; i++) {
        const struct spm_piece *p = &m->piece[i];
        for (size_t cut = 1; !rc && p->type == 1 && cut < p->len; cut++) {
            if (((unsigned char)p->text[cut] & 0xC0) == 0x80 || vocab_get(&known, p->text, cut) < 0 || vocab_get(&known, p->text + cut, p->len - cut) < 0) continue;
            rc = mem_grow(&found, count, &capacity, sizeof *found, err);
            if (!rc) found[count++] = (struct scored_merge){p->score, (int64_t)cut, (int64_t)i};
        }
    }
    if (count) qsort(found, count, sizeof *found, by_score);
    for (size_t k = 0; !rc && k < count; k++) {
        const struct spm_piece *p = &m->piece[found[k].id];
        const size_t left = (size_t)found[k].left_len;
        json_array_append_new(merges, json_pack("[oo]", json_stringn(p->text, left), json_stringn(p->text + left, p->len - left)));
    }
    free(found);
    vocab_free(&known);
    return rc;
}

static json_t *replace_json(const char *kind, const char *what, const char *by) { return json_pack("{ss s{ss} ss}", "type", "Replace", "pattern", kind, what, "content", by); }

static int put_normalizer(const struct spm *m, json_t *root, sail_err *err)
{
    json_t *steps = json_array();
    int rc = SAIL_OK;
    if (m->charsmap_len) {
        struct buf text;
        buf_init(&text, 0);
        base64_encode(m->charsmap, m->charsmap_len, &text);
        if (text.failed) rc = err_memory(err, m->charsmap_len);
        if (!rc) json_array_append_new(steps, json_pack("{ss ss sb}", "type", "Precompiled", "precompiled_charsmap", text.data, "longest", 1));
        buf_release(&text);
    }
    if (m->squeeze_spaces) {
        json_array_append_new(steps, replace_json("Regex", "\\A +| +\\z", ""));
        json_array_append_new(steps, replace_json("Regex", " {2,}", " "));
    }
    if (m->dummy_prefix) json_array_append_new(steps, json_pack("{ssss}", "type", "Prepend", "prepend", "\xE2\x96\x81"));
    json_array_append_new(steps, replace_json("String", " ", "\xE2\x96\x81"));
    json_object_set_new(root, "normalizer", json_pack("{ss so}", "type", "Sequence", "normalizers", steps));
    json_object_set_new(root, "pre_tokenizer", json_null());
    return rc;
}

static void put_decoder(const struct spm *m, json_t *root)
{
    json_t *decoders = json_pack("[o{ss}{ss}]", replace_json("String", "\xE2\x96\x81", " "), "type", "ByteFallback", "type", "Fuse");
    const int blanks = m->squeeze_spaces && m->own_rules ? INT_MAX : m->dummy_prefix; // that no text begins with
    if (blanks) json_array_append_new(decoders, json_pack("{ss ss si si}", "type", "Strip", "content", " ", "start", blanks, "stop", 0));
    json_object_set_new(root, "decoder", json_pack("{ss so}", "type", "Sequence", "decoders", decoders));
}

int spm_put(const struct spm *m, json_t *root, sail_err *err)
{
    json_t *added = json_array(), *vocab = m->unigram ? json_array() : json_object();
    json_t *model = json_pack("{ss so sb sb}", "type", m->unigram ? "Unigram" : "BPE", "vocab", vocab, "byte_fallback", m->byte_fallback, "single_precision", m->own_rules);
    json_object_set_new(root, "added_tokens", added);
    json_object_set_new(root, "model", model);
    for (size_t i = 0; i < m->n; i++) {
        const struct spm_piece *p = &m->piece[i];
        if (p->len > MOST_PIECE) return err_set(err, SAIL_FAILED, "tokenizer: piece %zu has %zu bytes: expected at most %d", i, p->len, MOST_PIECE);
        if (isnan(p->score)) return err_set(err, SAIL_FAILED, "tokenizer: the score of piece %zu is not a number", i);
        json_t *text = json_stringn(p->text, p->len);
        if (!text) return err_set(err, SAIL_FAILED, "tokenizer: piece %zu is not UTF-8", i);
        const bool user_defined = p->type == 4 && m->own_rules;
        if (m->unigram)
            json_array_append_new(vocab, json_pack("[Of]", text, p->score));
        else if (!json_object_get(vocab, p->text)) // of two equal pieces the first counts
            json_object_set_new(vocab, p->text, json_integer((json_int_t)i));
        json_t *whole = user_defined && m->unigram ? (json_decref(text), NULL) : added_token_json((int64_t)i, text, p->type);
        if (whole && user_defined) json_object_update_new(whole, json_pack("{sb sb}", "normalized", 1, "as_is", 1));
        if (whole) json_array_append_new(added, whole);
    }
    if (m->unk >= 0 && (size_t)m->unk < m->n) {
        if (m->unigram)
            json_object_set_new(model, "unk_id", json_integer(m->unk));
        else
            json_object_set_new(model, "unk_token", json_string(m->piece[m->unk].text));
    }
    int rc = put_normalizer(m, root, err);
    put_decoder(m, root);
    if (rc || m->unigram) return rc;
    json_t *merges = json_array();
    json_object_set_new(model, "merges", merges);
    json_object_set_new(model, "fuse_unk", json_true());
    return put_merges(m, merges, err);
}

/* ---------------------------------------------------------------- the model file: protocol buffers */

struct field {
    uint32_t number;
    int wire;
    uint64_t value; /* varint or fixed */
    const unsigned char *data;
    size_t len;
};

static bool varint(const unsigned char **p, const unsigned char *end, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; *p < end && shift < 64; shift += 7) {
        const unsigned char b = *(*p)++;
        *out |= (uint64_t)(b & 0x7F) << shift;
        if (b < 0x80) return true;
    }
    return false;
}

/* 1: a field, 0: the end, -1: broken. */
static int next_field(const unsigned char **p, const unsigned char *end, struct field *f)
{
    uint64_t key;
    if (*p == end) return 0;
    if (!varint(p, end, &key) || key >> 3 == 0 || key >> 3 > UINT32_MAX) return -1;
    *f = (struct field){.number = (uint32_t)(key >> 3), .wire = (int)(key & 7)};
    if (f->wire == 0) return varint(p, end, &f->value) ? 1 : -1;
    if (f->wire == 2 && !varint(p, end, &f->value)) return -1;
    const uint64_t len = f->wire == 2 ? f->value : f->wire == 5 ? 4 : f->wire == 1 ? 8 : UINT64_MAX;
    if (len > (uint64_t)(end - *p)) return -1;
    f->data = *p;
    f->len = (size_t)len;
    *p += len;
    if (f->wire != 2) memcpy(&f->value, f->data, f->len);
    return 1;
}

static int read_piece(struct spm *m, const unsigned char *p, size_t n, sail_err *err)
{
    struct field f;
    int rc = mem_grow(&m->piece, m->n, &m->capacity, sizeof *m->piece, err), more;
    if (rc) return rc;
    struct spm_piece *piece = &m->piece[m->n++];
    *piece = (struct spm_piece){.type = 1};
    const unsigned char *end = p + n;
    while ((more = next_field(&p, end, &f)) > 0) {
        if (f.number == 1 && f.wire == 2) {
            free(piece->text);
            piece->text = strndup((const char *)f.data, f.len);
            piece->len = piece->text ? strlen(piece->text) : 0;
            if (!piece->text) return err_memory(err, f.len);
        }
        if (f.number == 2 && f.wire == 5) {
            float score;
            memcpy(&score, f.data, 4);
            piece->score = (double)score;
        }
        if (f.number == 3 && f.wire == 0) piece->type = (int)(f.value & 0xFF);
    }
    if (!piece->text && !(piece->text = strdup(""))) return err_memory(err, 1);
    return more < 0 ? err_set(err, SAIL_FAILED, "piece %zu is broken", m->n - 1) : SAIL_OK;
}

static int read_trainer(struct spm *m, const unsigned char *p, size_t n, sail_err *err)
{
    struct field f;
    int more;
    const unsigned char *end = p + n;
    while ((more = next_field(&p, end, &f)) > 0) {
        if (f.wire != 0) continue;
        if (f.number == 3 && f.value > 2) return err_set(err, SAIL_FAILED, "model_type %llu is not supported: expected 1 (unigram) or 2 (bpe)", (unsigned long long)f.value);
        if (f.number == 3) m->unigram = f.value != 2;
        if (f.number == 24 && f.value) return err_set(err, SAIL_FAILED, "treat_whitespace_as_suffix is not supported");
        if (f.number == 35) m->byte_fallback = f.value != 0;
        if (f.number == 40) m->unk = (int32_t)(uint32_t)f.value;
        if (f.number == 41) m->bos = (int32_t)(uint32_t)f.value;
        if (f.number == 42) m->eos = (int32_t)(uint32_t)f.value;
    }
    return more < 0 ? err_set(err, SAIL_FAILED, "the trainer settings are broken") : SAIL_OK;
}

static int read_normalizer(struct spm *m, const unsigned char *p, size_t n, sail_err *err)
{
    struct field f;
    int more;
    const unsigned char *end = p + n;
    while ((more = next_field(&p, end, &f)) > 0) {
        if (f.number == 2 && f.wire == 2 && f.len && !m->charsmap) {
            if (!(m->charsmap = malloc(f.len))) return err_memory(err, f.len);
            memcpy(m->charsmap, f.data, f.len);
            m->charsmap_len = f.len;
        }
        if (f.number == 3 && f.wire == 0) m->dummy_prefix = f.value != 0;
        if (f.number == 4 && f.wire == 0) m->squeeze_spaces = f.value != 0;
        if (f.number == 5 && f.wire == 0 && !f.value) return err_set(err, SAIL_FAILED, "escape_whitespaces = false is not supported");
    }
    return more < 0 ? err_set(err, SAIL_FAILED, "the normalizer settings are broken") : SAIL_OK;
}

static int read_model(struct spm *m, const unsigned char *p, size_t n, sail_err *err)
{
    struct field f;
    int more = 0, rc = SAIL_OK;
    const unsigned char *end = p + n;
    *m = (struct spm){.own_rules = true, .unigram = true, .dummy_prefix = true, .squeeze_spaces = true, .unk = 0, .bos = 1, .eos = 2};
    while (!rc && (more = next_field(&p, end, &f)) > 0) {
        if (f.wire != 2) continue;
        if (f.number == 1) rc = read_piece(m, f.data, f.len, err);
        if (f.number == 2) rc = read_trainer(m, f.data, f.len, err);
        if (f.number == 3) rc = read_normalizer(m, f.data, f.len, err);
    }
    if (!rc && (more < 0 || !m->n)) rc = err_set(err, SAIL_FAILED, "not a SentencePiece model");
    return rc;
}

int spm_tokenizer_json(const char *path, json_t **out, int32_t *bos, int32_t *eos, sail_err *err)
{
    struct file_map file;
    struct spm m = {0};
    json_t *root = json_object();
    int rc = file_map_open(&file, path, err);
    if (rc) return json_decref(root), rc;
    if ((rc = read_model(&m, file.data, file.len, err)) || (rc = spm_put(&m, root, err))) err_context(err, "%s", path);
    file_map_close(&file);
    if (!rc) {
        *bos = m.bos >= 0 && (size_t)m.bos < m.n ? m.bos : -1;
        *eos = m.eos >= 0 && (size_t)m.eos < m.n ? m.eos : -1;
        // Llama's way for BPE, T5's for Unigram
        const int32_t before = m.unigram ? -1 : *bos, after = m.unigram ? *eos : -1;
        json_object_set_new(root, "post_processor", post_json(before, before >= 0 ? m.piece[before].text : "", after, after >= 0 ? m.piece[after].text : ""));
        *out = root;
    } else {
        json_decref(root);
    }
    spm_release(&m);
    return rc;
}
