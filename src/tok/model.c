/* The model of a tokenizer behind a cache of words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tok/internal.h"

enum { CACHE_FIRST = 1 << 9, CACHE_MOST = 1 << 17, CACHE_WORD = 96, ID_LIMIT = 1 << 24 };

uint64_t hash_bytes(const char *s, size_t n)
{
    uint64_t h = n * 0x9E3779B97F4A7C15u, v;
    for (; n >= 8; n -= 8, s += 8) {
        memcpy(&v, s, 8);
        h = (h ^ v) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    v = 0;
    for (size_t i = 0; i < n; i++) v = v << 8 | (unsigned char)s[i];
    h = (h ^ v) * 0xD6E8FEB86659FD93u;
    return h ^ h >> 32;
}

int vocab_init(struct vocab *v, size_t n, sail_err *err)
{
    v->capacity = 64;
    while (v->capacity < n * 2 + 2) v->capacity *= 2;
    return mem_alloc(&v->slot, v->capacity, sizeof *v->slot, err);
}

void vocab_free(struct vocab *v) { free(v->slot); }

static struct vocab_slot *vocab_slot_of(const struct vocab *v, const char *s, size_t len)
{
    size_t i = hash_bytes(s, len) & (v->capacity - 1);
    while (v->slot[i].s && (v->slot[i].len != len || memcmp(v->slot[i].s, s, len))) i = (i + 1) & (v->capacity - 1);
    return &v->slot[i];
}

void vocab_put(struct vocab *v, const char *s, size_t len, int32_t id)
{
    struct vocab_slot *slot = vocab_slot_of(v, s, len);
    v->n += slot->s == NULL;
    if (len > v->longest) v->longest = len;
    *slot = (struct vocab_slot){s, (uint32_t)len, id};
}

int32_t vocab_get(const struct vocab *v, const char *s, size_t len)
{
    const struct vocab_slot *slot = vocab_slot_of(v, s, len);
    return slot->s ? slot->id : -1;
}

void vocab_bytes(const struct vocab *v, int32_t id[256])
{
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        id[i] = vocab_get(v, name, 6);
    }
}

/* {"piece": id}, or Unigram's [["piece", score]]. */
static int read_vocab(struct vocab *v, json_t *spec, bool scored, sail_err *err)
{
    if (scored ? !json_is_array(spec) : !json_is_object(spec)) return err_set(err, SAIL_FAILED, "tokenizer: model.vocab: expected %s", scored ? "an array" : "an object");
    int rc = vocab_init(v, scored ? json_array_size(spec) : json_object_size(spec), err);
    const char *token;
    size_t i;
    json_t *one;
    if (!rc && scored && json_array_size(spec) > ID_LIMIT) return err_set(err, SAIL_FAILED, "tokenizer: model.vocab: %zu pieces are too many", json_array_size(spec));
    if (!rc && scored) json_array_foreach(spec, i, one)
        {
            json_t *text = json_array_get(one, 0);
            if (!json_is_string(text) || !json_is_number(json_array_get(one, 1))) return err_set(err, SAIL_FAILED, "tokenizer: model.vocab[%zu]: expected [piece, score]", i);
            vocab_put(v, json_string_value(text), json_string_length(text), (int32_t)i);
        }
    if (!rc && !scored) json_object_foreach(spec, token, one)
        {
            if (!json_is_integer(one) || json_integer_value(one) < 0 || json_integer_value(one) > ID_LIMIT)
                return err_set(err, SAIL_FAILED, "tokenizer: model.vocab: the id of '%.60s': expected a number up to %d", token, ID_LIMIT);
            vocab_put(v, token, strlen(token), (int32_t)json_integer_value(one));
        }
    return rc;
}

int tokenizer_model_read(struct model *m, json_t *spec, sail_err *err)
{
    const char *type = json_string_value(json_object_get(spec, "type"));
    if (!json_is_object(spec)) return err_set(err, SAIL_FAILED, "tokenizer: model: expected an object");
    if (!type) // old files do not say
        type = json_object_get(spec, "merges") ? "BPE" : json_is_array(json_object_get(spec, "vocab")) ? "Unigram" : json_object_get(spec, "max_input_chars_per_word") ? "WordPiece" : "WordLevel";
    const bool bpe = !strcmp(type, "BPE"), unigram = !strcmp(type, "Unigram"), level = !strcmp(type, "WordLevel");
    if (!bpe && !unigram && !level && strcmp(type, "WordPiece"))
        return err_set(err, SAIL_FAILED, "tokenizer: model type '%.60s' is not supported: expected BPE, Unigram, WordPiece or WordLevel", type);
    m->kind = bpe ? MODEL_BPE : unigram ? MODEL_UNIGRAM : MODEL_WORDPIECE;
    buf_init(&m->cache_text, 0);
    buf_init(&m->mapped, 0);
    int rc = read_vocab(&m->vocab, json_object_get(spec, "vocab"), unigram, err);
    m->cache_slots = CACHE_FIRST;
    if (!rc) rc = mem_alloc(&m->cache, m->cache_slots, sizeof *m->cache, err);
    if (rc) return rc;
    return bpe ? bpe_read(&m->bpe, spec, &m->vocab, err) : unigram ? unigram_read(&m->unigram, spec, &m->vocab, err) : wordpiece_read(&m->wordpiece, spec, level, &m->vocab, err);
}

void tokenizer_model_free(struct model *m)
{
    vocab_free(&m->vocab);
    bpe_free(&m->bpe);
    unigram_free(&m->unigram);
    wordpiece_free(&m->wordpiece);
    free(m->cache);
    buf_release(&m->cache_text);
    ids_release(&m->cache_ids);
    buf_release(&m->mapped);
}

static int encode_word(struct model *m, const char *s, size_t n, bool as_bytes, struct ids *out, sail_err *err)
{
    if (m->kind == MODEL_BPE) return bpe_encode(&m->bpe, s, n, as_bytes, out, err);
    if (as_bytes) {
        buf_clear(&m->mapped);
        for (size_t i = 0; i < n; i++) {
            char c[4];
            buf_append(&m->mapped, c, utf8_put(c, byte_to_char((unsigned char)s[i])));
        }
        if (m->mapped.failed) return err_memory(err, n);
        s = m->mapped.data;
        n = m->mapped.len;
    }
    return m->kind == MODEL_UNIGRAM ? unigram_encode(&m->unigram, s, n, out, err) : wordpiece_encode(&m->wordpiece, s, n, out, err);
}

/* Half of the slots stay free; the largest cache takes no more words. */
static int make_room(struct model *m, bool *room, sail_err *err)
{
    *room = m->cache_used < m->cache_slots / 2;
    if (*room || m->cache_slots >= CACHE_MOST) return SAIL_OK;
    struct cache_slot *old = m->cache;
    const size_t n = m->cache_slots;
    int rc = mem_alloc(&m->cache, 4 * n, sizeof *m->cache, err);
    if (rc) {
        m->cache = old;
        return rc;
    }
    m->cache_slots = 4 * n;
    for (size_t k = 0; k < n; k++) {
        if (!old[k].hash) continue;
        size_t i = (old[k].hash >> 1) & (m->cache_slots - 1);
        while (m->cache[i].hash) i = (i + 1) & (m->cache_slots - 1);
        m->cache[i] = old[k];
    }
    free(old);
    *room = true;
    return SAIL_OK;
}

static int keep_word(struct model *m, uint64_t h, const char *s, size_t n, const int32_t *id, size_t n_id, sail_err *err)
{
    bool room;
    int rc = make_room(m, &room, err);
    if (rc || !room || n_id > UINT16_MAX) return rc;
    const struct cache_slot made = {h, (uint32_t)m->cache_text.len, (uint32_t)m->cache_ids.n, (uint16_t)n, (uint16_t)n_id};
    for (size_t k = 0; !rc && k < n_id; k++) rc = ids_push(&m->cache_ids, id[k], err);
    if (rc || !buf_append(&m->cache_text, s, n)) return rc ? rc : err_memory(err, n);
    size_t i = (h >> 1) & (m->cache_slots - 1);
    while (m->cache[i].hash) i = (i + 1) & (m->cache_slots - 1);
    m->cache[i] = made;
    m->cache_used++;
    return SAIL_OK;
}

int tokenizer_model_encode(struct model *m, const char *s, size_t n, bool as_bytes, struct ids *out, sail_err *err)
{
    if (!n) return SAIL_OK;
    if (n > CACHE_WORD) return encode_word(m, s, n, as_bytes, out, err);
    const uint64_t h = hash_bytes(s, n) | 1;
    for (size_t i = (h >> 1) & (m->cache_slots - 1); m->cache[i].hash; i = (i + 1) & (m->cache_slots - 1)) {
        const struct cache_slot *c = &m->cache[i];
        if (c->hash != h || c->len != n || memcmp(m->cache_text.data + c->start, s, n)) continue;
        for (uint32_t k = 0; k < c->n_ids; k++) {
            int rc = ids_push(out, m->cache_ids.id[c->ids + k], err);
            if (rc) return rc;
        }
        return SAIL_OK;
    }
    const size_t from = out->n;
    int rc = encode_word(m, s, n, as_bytes, out, err);
    return rc ? rc : keep_word(m, h, s, n, out->n > from ? out->id + from : NULL, out->n - from, err);
}
