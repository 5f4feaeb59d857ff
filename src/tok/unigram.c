/* Unigram: the cut of a text into pieces with the greatest sum of scores. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tok/internal.h"

static const double unknown_penalty = 10;

static struct trie_edge *edge_of(const struct unigram *u, uint32_t node, uint32_t byte)
{
    size_t i = (((uint64_t)node << 8 | byte) * 0x9E3779B97F4A7C15u >> 32) & (u->edge_capacity - 1);
    while (u->edge[i].to && (u->edge[i].node != node || u->edge[i].byte != byte)) i = (i + 1) & (u->edge_capacity - 1);
    return &u->edge[i];
}

static int new_node(struct unigram *u, sail_err *err)
{
    int rc = mem_grow(&u->node_id, u->n_node, &u->node_capacity, sizeof *u->node_id, err);
    if (!rc) u->node_id[u->n_node++] = -1;
    return rc;
}

static int put_piece(struct unigram *u, const char *s, size_t n, int32_t id, sail_err *err)
{
    uint32_t node = 0;
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < n; i++) {
        struct trie_edge *e = edge_of(u, node, (unsigned char)s[i]);
        if (!e->to) {
            *e = (struct trie_edge){node, (unsigned char)s[i], (uint32_t)u->n_node};
            rc = new_node(u, err);
        }
        node = e->to;
    }
    if (!rc && n) u->node_id[node] = id;
    return rc;
}

static int read_pieces(struct unigram *u, json_t *vocab, sail_err *err)
{
    size_t i, bytes = 0;
    json_t *piece;
    json_array_foreach(vocab, i, piece) bytes += json_string_length(json_array_get(piece, 0));
    for (u->edge_capacity = 64; u->edge_capacity < 2 * bytes + 2;) u->edge_capacity *= 2;
    int rc = mem_alloc(&u->edge, u->edge_capacity, sizeof *u->edge, err);
    if (!rc) rc = mem_alloc(&u->score, json_array_size(vocab), sizeof *u->score, err);
    if (!rc) rc = new_node(u, err);
    double least = INFINITY;
    json_array_foreach(vocab, i, piece)
    {
        if (rc) break;
        json_t *text = json_array_get(piece, 0);
        u->score[i] = json_number_value(json_array_get(piece, 1));
        if (u->score[i] < least) least = u->score[i];
        rc = put_piece(u, json_string_value(text), json_string_length(text), (int32_t)i, err);
    }
    u->unk_score = least - unknown_penalty;
    return rc;
}

int unigram_read(struct unigram *u, json_t *model, const struct vocab *vocab, sail_err *err)
{
    json_t *pieces = json_object_get(model, "vocab");
    int64_t unk;
    u->vocab = vocab;
    int rc = member_count(model, "unk_id", -1, &unk, "tokenizer: model Unigram", err);
    if (!rc) rc = member_bool(model, "byte_fallback", false, &u->byte_fallback, "tokenizer: model Unigram", err);
    if (!rc) rc = member_bool(model, "single_precision", false, &u->single, "tokenizer: model Unigram", err);
    if (!rc && unk >= (int64_t)json_array_size(pieces)) return err_set(err, SAIL_FAILED, "tokenizer: model Unigram: unk_id %lld, but the vocabulary has %zu pieces", (long long)unk, json_array_size(pieces));
    u->unk = (int32_t)unk;
    vocab_bytes(vocab, u->byte_id);
    return rc ? rc : read_pieces(u, pieces, err);
}

void unigram_free(struct unigram *u)
{
    free(u->score);
    free(u->edge);
    free(u->node_id);
    free(u->end);
    free(u->path.piece);
}

static void reach(const struct unigram *u, size_t end, double score, size_t start, int32_t id)
{
    struct lattice_end *e = &u->end[end];
    if (u->single) score = (double)(float)score;
    if (e->start >= 0 && score <= e->score) return;
    *e = (struct lattice_end){score, (int64_t)start, id};
}

static int best_path(struct unigram *u, const char *s, size_t n, sail_err *err)
{
    if (u->end_capacity < n + 1) {
        free(u->end);
        u->end_capacity = 0;
        int rc = mem_alloc(&u->end, 2 * n + 64, sizeof *u->end, err);
        if (rc) return rc;
        u->end_capacity = 2 * n + 64;
    }
    for (size_t i = 0; i <= n; i++) u->end[i] = (struct lattice_end){0, -1, -1};
    for (size_t at = 0; at < n;) {
        const size_t next = utf8_next(s, n, at);
        const double here = u->end[at].score;
        bool single = false;
        uint32_t node = 0;
        for (size_t k = at; k < n && (node = edge_of(u, node, (unsigned char)s[k])->to); k++) {
            const int32_t id = u->node_id[node];
            if (id < 0) continue;
            reach(u, k + 1, u->score[id] + here, at, id);
            single = single || k + 1 == next;
        }
        if (!single) {
            if (u->unk < 0) return err_set(err, SAIL_FAILED, "tokenizer: '%.*s' is in no piece, and the model has no unknown token", (int)(next - at), s + at);
            reach(u, next, u->unk_score + here, at, u->unk);
        }
        at = next;
    }
    return SAIL_OK;
}

/* A piece, or a run of unknown text: its bytes where the vocabulary has them all. */
static int put_text(const struct unigram *u, const char *s, size_t n, struct ids *out, sail_err *err)
{
    const int32_t id = vocab_get(u->vocab, s, n);
    if (id >= 0) return ids_push(out, id, err);
    bool bytes = u->byte_fallback;
    for (size_t i = 0; bytes && i < n; i++) bytes = u->byte_id[(unsigned char)s[i]] >= 0;
    int rc = SAIL_OK;
    for (size_t i = 0; bytes && !rc && i < n; i++) rc = ids_push(out, u->byte_id[(unsigned char)s[i]], err);
    return bytes ? rc : ids_push(out, u->unk, err);
}

/* The pieces of the best path, last one first; neighbouring unknown ones are one. */
static int trace_back(struct unigram *u, size_t n, sail_err *err)
{
    bool joins = false;
    int rc = SAIL_OK;
    u->path.n = 0;
    for (size_t stop = n, start; !rc && stop > 0; stop = start) {
        const struct lattice_end *e = &u->end[stop];
        const bool unknown = u->unk >= 0 && e->id == u->unk;
        start = (size_t)e->start;
        if (unknown && joins) {
            struct piece *last = &u->path.piece[u->path.n - 1];
            *last = (struct piece){start, last->n + stop - start};
        } else if (!(rc = mem_grow(&u->path.piece, u->path.n, &u->path.capacity, sizeof *u->path.piece, err))) {
            u->path.piece[u->path.n++] = (struct piece){start, stop - start};
        }
        joins = unknown;
    }
    return rc;
}

int unigram_encode(struct unigram *u, const char *s, size_t n, struct ids *out, sail_err *err)
{
    int rc = best_path(u, s, n, err);
    if (!rc) rc = trace_back(u, n, err);
    for (size_t i = rc ? 0 : u->path.n; !rc && i-- > 0;) rc = put_text(u, s + u->path.piece[i].start, u->path.piece[i].n, out, err);
    return rc;
}
