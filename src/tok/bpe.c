/* Byte pair encoding: characters to ids, then the lowest-ranked adjacent merge, leftmost first, until none applies. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tok/internal.h"

enum { CACHE_SLOTS = 1 << 15, CACHE_WORD = 64 };

static uint64_t hash_bytes(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return h ^ h >> 29;
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
    *slot = (struct vocab_slot){s, (uint32_t)len, id};
}

int32_t vocab_get(const struct vocab *v, const char *s, size_t len)
{
    const struct vocab_slot *slot = vocab_slot_of(v, s, len);
    return slot->s ? slot->id : -1;
}

static struct merge_slot *merge_slot_of(const struct bpe *b, int32_t left, int32_t right)
{
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = (pair * 0x9E3779B97F4A7C15u >> 32) & (b->merge_capacity - 1);
    while (b->merge[i].pair != pair && b->merge[i].pair != UINT64_MAX) i = (i + 1) & (b->merge_capacity - 1);
    return &b->merge[i];
}

static int read_vocab(struct bpe *b, json_t *vocab, sail_err *err)
{
    if (!json_is_object(vocab)) return err_set(err, SAIL_FAILED, "tokenizer: model.vocab: expected an object");
    int rc = vocab_init(&b->vocab, json_object_size(vocab), err);
    const char *token;
    json_t *id;
    json_object_foreach(vocab, token, id)
    {
        if (rc) break;
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > 1 << 28) return err_set(err, SAIL_FAILED, "tokenizer: the id of '%.60s' is out of range", token);
        vocab_put(&b->vocab, token, strlen(token), (int32_t)json_integer_value(id));
    }
    return rc;
}

/* A merge: ["a", "b"], or the older "a b". */
static int read_merge(struct bpe *b, json_t *m, int32_t rank, struct buf *joined, sail_err *err)
{
    const char *left = json_string_value(json_array_get(m, 0)), *right = json_string_value(json_array_get(m, 1)), *text = json_string_value(m);
    size_t nl = left ? strlen(left) : 0, nr = right ? strlen(right) : 0;
    if (text) {
        const char *space = strchr(text, ' ');
        if (!space || strchr(space + 1, ' ')) return err_set(err, SAIL_FAILED, "tokenizer: merge %d '%.60s': expected two parts", (int)rank, text);
        left = text;
        nl = (size_t)(space - text);
        right = space + 1;
        nr = strlen(right);
    }
    if (!left || !right) return err_set(err, SAIL_FAILED, "tokenizer: merge %d: expected two strings", (int)rank);
    const size_t skip = b->subword_prefix ? strlen(b->subword_prefix) : 0; // the right part's continuation mark is not part of the product
    buf_clear(joined);
    buf_append(joined, left, nl);
    buf_append(joined, right + (nr >= skip && skip && !memcmp(right, b->subword_prefix, skip) ? skip : 0), nr - (nr >= skip && skip && !memcmp(right, b->subword_prefix, skip) ? skip : 0));
    const int32_t l = vocab_get(&b->vocab, left, nl), r = vocab_get(&b->vocab, right, nr), id = vocab_get(&b->vocab, joined->data ? joined->data : "", joined->len);
    if (l < 0 || r < 0 || id < 0) return err_set(err, SAIL_FAILED, "tokenizer: merge %d ('%.40s' + '%.40s') names a token outside the vocabulary", (int)rank, left, right);
    struct merge_slot *slot = merge_slot_of(b, l, r);
    if (slot->pair == UINT64_MAX) *slot = (struct merge_slot){(uint64_t)(uint32_t)l << 32 | (uint32_t)r, rank, id};
    return SAIL_OK;
}

static int read_merges(struct bpe *b, json_t *merges, sail_err *err)
{
    size_t i, n = json_array_size(merges);
    b->merge_capacity = 64;
    while (b->merge_capacity < n * 2 + 2) b->merge_capacity *= 2;
    int rc = mem_alloc(&b->merge, b->merge_capacity, sizeof *b->merge, err);
    for (i = 0; !rc && i < b->merge_capacity; i++) b->merge[i].pair = UINT64_MAX;
    struct buf joined;
    buf_init(&joined, 0);
    json_t *m;
    json_array_foreach(merges, i, m)
    {
        const char *text = json_string_value(m);
        if (!rc && !(text && !strncmp(text, "#version", 8))) rc = read_merge(b, m, (int32_t)i, &joined, err);
    }
    buf_release(&joined);
    return rc;
}

static char *optional(json_t *model, const char *key)
{
    const char *s = json_string_value(json_object_get(model, key));
    return s && *s ? mem_strdup(s) : NULL;
}

int bpe_read(struct bpe *b, json_t *model, sail_err *err)
{
    b->unk = -1;
    b->byte_fallback = json_is_true(json_object_get(model, "byte_fallback"));
    b->fuse_unk = json_is_true(json_object_get(model, "fuse_unk"));
    b->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    b->subword_prefix = optional(model, "continuing_subword_prefix");
    b->word_suffix = optional(model, "end_of_word_suffix");
    int rc = read_vocab(b, json_object_get(model, "vocab"), err);
    if (!rc) rc = read_merges(b, json_object_get(model, "merges"), err);
    if (!rc) rc = mem_alloc(&b->cache, CACHE_SLOTS, sizeof *b->cache, err);
    if (rc) return rc;
    buf_init(&b->cache_text, 0);
    const char *unk = json_string_value(json_object_get(model, "unk_token"));
    if (unk) b->unk = vocab_get(&b->vocab, unk, strlen(unk));
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        b->byte_id[i] = vocab_get(&b->vocab, name, 6);
    }
    return SAIL_OK;
}

void bpe_free(struct bpe *b)
{
    vocab_free(&b->vocab);
    free(b->merge);
    free(b->subword_prefix);
    free(b->word_suffix);
    free(b->cache);
    buf_release(&b->cache_text);
    ids_release(&b->cache_ids);
    free(b->symbol);
    free(b->heap);
}

/* ---------------------------------------------------------------- one word */

static int push_symbol(struct bpe *b, size_t *n, int32_t id, sail_err *err)
{
    int rc = mem_grow(&b->symbol, *n, &b->symbol_capacity, sizeof *b->symbol, err);
    if (rc) return rc;
    b->symbol[*n] = (struct symbol){id, (int32_t)*n - 1, (int32_t)*n + 1};
    ++*n;
    return SAIL_OK;
}

/* Characters to symbols. Unknown ones: their bytes, else the unknown token (fused when asked), else nothing. An unknown token waits until a known
 * character follows, and so comes after byte tokens in between: tokenizers does it so. */
static int make_symbols(struct bpe *b, const char *s, size_t n, size_t *count, sail_err *err)
{
    struct buf piece;
    buf_init(&piece, 0);
    bool waiting = false;
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < n;) {
        uint32_t c;
        const size_t len = utf8_get(s + i, n - i, &c);
        int32_t id;
        if ((b->subword_prefix && i) || (b->word_suffix && i + len == n)) {
            buf_clear(&piece);
            if (b->subword_prefix && i) buf_puts(&piece, b->subword_prefix);
            buf_append(&piece, s + i, len);
            if (b->word_suffix && i + len == n) buf_puts(&piece, b->word_suffix);
            id = vocab_get(&b->vocab, piece.data, piece.len);
        } else {
            id = vocab_get(&b->vocab, s + i, len);
        }
        bool bytes = id < 0 && b->byte_fallback;
        for (size_t k = 0; bytes && k < len; k++) bytes = b->byte_id[(unsigned char)s[i + k]] >= 0;
        if (id >= 0) {
            if (waiting) rc = push_symbol(b, count, b->unk, err);
            waiting = false;
            if (!rc) rc = push_symbol(b, count, id, err);
        } else if (bytes) {
            for (size_t k = 0; !rc && k < len; k++) rc = push_symbol(b, count, b->byte_id[(unsigned char)s[i + k]], err);
        } else if (b->unk >= 0) {
            if (waiting && !b->fuse_unk) rc = push_symbol(b, count, b->unk, err);
            waiting = true;
        }
        i += len;
    }
    if (!rc && waiting) rc = push_symbol(b, count, b->unk, err);
    buf_release(&piece);
    if (*count) b->symbol[*count - 1].next = -1;
    return rc;
}

static bool before(const struct candidate *x, const struct candidate *y) { return x->rank != y->rank ? x->rank < y->rank : x->pos < y->pos; }

static int heap_push(struct bpe *b, struct candidate c, sail_err *err)
{
    int rc = mem_grow(&b->heap, b->heap_n, &b->heap_capacity, sizeof *b->heap, err);
    if (rc) return rc;
    size_t i = b->heap_n++;
    for (; i && before(&c, &b->heap[(i - 1) / 2]); i = (i - 1) / 2) b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = c;
    return SAIL_OK;
}

static struct candidate heap_pop(struct bpe *b)
{
    const struct candidate top = b->heap[0], last = b->heap[--b->heap_n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= b->heap_n) break;
        if (child + 1 < b->heap_n && before(&b->heap[child + 1], &b->heap[child])) child++;
        if (!before(&b->heap[child], &last)) break;
        b->heap[i] = b->heap[child];
        i = child;
    }
    b->heap[i] = last;
    return top;
}

static int consider(struct bpe *b, int32_t pos, sail_err *err)
{
    const int32_t next = pos < 0 ? -1 : b->symbol[pos].next;
    if (next < 0) return SAIL_OK;
    const struct merge_slot *m = merge_slot_of(b, b->symbol[pos].id, b->symbol[next].id);
    if (m->pair == UINT64_MAX) return SAIL_OK;
    return heap_push(b, (struct candidate){m->rank, pos, m->id, b->symbol[pos].id, b->symbol[next].id}, err);
}

static int merge_all(struct bpe *b, size_t n, sail_err *err)
{
    b->heap_n = 0;
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i + 1 < n; i++) rc = consider(b, (int32_t)i, err);
    while (!rc && b->heap_n) {
        const struct candidate c = heap_pop(b);
        struct symbol *left = &b->symbol[c.pos];
        if (left->id != c.left || left->next < 0 || b->symbol[left->next].id != c.right) continue; // something merged there meanwhile
        struct symbol *right = &b->symbol[left->next];
        left->id = c.id;
        right->id = -1;
        left->next = right->next;
        if (left->next >= 0) b->symbol[left->next].prev = c.pos;
        rc = consider(b, left->prev, err);
        if (!rc) rc = consider(b, c.pos, err);
    }
    return rc;
}

static int encode_word(struct bpe *b, const char *s, size_t n, struct ids *out, sail_err *err)
{
    if (b->ignore_merges) {
        const int32_t id = vocab_get(&b->vocab, s, n);
        if (id >= 0) return ids_push(out, id, err);
    }
    size_t count = 0;
    int rc = make_symbols(b, s, n, &count, err);
    if (!rc) rc = merge_all(b, count, err);
    for (int32_t i = 0; !rc && count && i >= 0; i = b->symbol[i].next) rc = ids_push(out, b->symbol[i].id, err);
    return rc;
}

int bpe_encode(struct bpe *b, const char *s, size_t n, struct ids *out, sail_err *err)
{
    if (!n) return SAIL_OK;
    if (n > CACHE_WORD) return encode_word(b, s, n, out, err);
    const uint64_t h = hash_bytes(s, n) | 1; // 0 marks a free slot
    size_t i = h & (CACHE_SLOTS - 1);
    for (; b->cache[i].hash; i = (i + 1) & (CACHE_SLOTS - 1)) {
        const struct cache_slot *c = &b->cache[i];
        if (c->hash != h || c->len != n || memcmp(b->cache_text.data + c->start, s, n)) continue;
        for (uint32_t k = 0; k < c->n_ids; k++) {
            int rc = ids_push(out, b->cache_ids.id[c->ids + k], err);
            if (rc) return rc;
        }
        return SAIL_OK;
    }
    const size_t from = out->n;
    int rc = encode_word(b, s, n, out, err);
    if (rc || b->cache_used >= CACHE_SLOTS / 2) return rc;
    b->cache[i] = (struct cache_slot){h, (uint32_t)b->cache_text.len, (uint32_t)n, (uint32_t)b->cache_ids.n, (uint32_t)(out->n - from)};
    b->cache_used++;
    buf_append(&b->cache_text, s, n);
    for (size_t k = from; !rc && k < out->n; k++) rc = ids_push(&b->cache_ids, out->id[k], err);
    return rc;
}
