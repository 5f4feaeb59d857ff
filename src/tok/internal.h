/* A tokenizer is a chain: added tokens, normalizers, pre-tokenizers, the model (BPE), a post-processor; and decoders on the way back. Each
 * link is a list of steps read from tokenizer.json. */
#ifndef SAIL_TOK_INTERNAL_H
#define SAIL_TOK_INTERNAL_H

#include <jansson.h>
#include <oniguruma.h>

#include "tok/tokenizer.h"

/* A regular expression with limits on matching, or a plain string. */
struct pattern {
    regex_t *regex;
    char *plain;
    size_t plain_len;
};
int pattern_read(struct pattern *p, json_t *spec, const char *what, sail_err *err); /* {"String": s} or {"Regex": s} */
int pattern_regex(struct pattern *p, const char *source, const char *what, sail_err *err);
void pattern_free(struct pattern *p);
/* Next match at or after `from`: *start, *end; false: none. SAIL_FAILED through *rc when a limit is hit. */
bool pattern_find(const struct pattern *p, const char *s, size_t n, size_t from, size_t *start, size_t *end, int *rc, sail_err *err);

enum normalizer_kind { NORM_NFC, NORM_NFD, NORM_NFKC, NORM_NFKD, NORM_LOWERCASE, NORM_REPLACE, NORM_PREPEND, NORM_STRIP, NORM_STRIP_ACCENTS };
struct normalizer {
    enum normalizer_kind kind;
    struct pattern pattern;
    char *content;
    bool left, right;
};
struct normalizers {
    struct normalizer *step;
    size_t n, capacity;
};
int normalizers_read(struct normalizers *v, json_t *spec, sail_err *err);
void normalizers_free(struct normalizers *v);
/* out is cleared first. */
int normalizers_run(const struct normalizers *v, const char *s, size_t n, struct buf *out, sail_err *err);

enum split_behaviour { SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_CONTIGUOUS, SPLIT_PREVIOUS, SPLIT_NEXT };
enum pretokenizer_kind { PRE_BYTE_LEVEL, PRE_SPLIT, PRE_DIGITS, PRE_METASPACE, PRE_PUNCTUATION };
struct pretokenizer {
    enum pretokenizer_kind kind;
    struct pattern pattern;
    enum split_behaviour behaviour;
    bool invert, prefix_space, use_regex, individual, split;
    char *replacement; /* metaspace */
    int prepend;       /* 0 never, 1 first, 2 always */
};
struct pretokenizers {
    struct pretokenizer *step;
    size_t n, capacity;
};
int pretokenizers_read(struct pretokenizers *v, json_t *spec, sail_err *err);
void pretokenizers_free(struct pretokenizers *v);

/* Pieces of a text: consecutive strings in one buffer. */
struct pieces {
    struct buf text;
    struct piece {
        size_t start, n;
    } *piece;
    size_t n, capacity;
};
void pieces_release(struct pieces *p);
void pieces_clear(struct pieces *p);
int pieces_add(struct pieces *p, const char *s, size_t n, sail_err *err);
/* in and out are two buffers that take turns; the result is in *result. first: the text begins at the input's offset 0. */
int pretokenizers_run(const struct pretokenizers *v, const char *s, size_t n, bool first, struct pieces *a, struct pieces *b, struct pieces **result, sail_err *err);

enum decoder_kind { DEC_BYTE_LEVEL, DEC_REPLACE, DEC_BYTE_FALLBACK, DEC_FUSE, DEC_STRIP, DEC_METASPACE };
struct decoder {
    enum decoder_kind kind;
    struct pattern pattern;
    char *content;
    int64_t start, stop;
    bool keep_first; /* metaspace: a leading replacement becomes a space too */
};
struct decoders {
    struct decoder *step;
    size_t n, capacity;
    bool none; /* no decoder: tokens are joined by spaces */
};
int decoders_read(struct decoders *v, json_t *spec, sail_err *err);
void decoders_free(struct decoders *v);
int decoders_run(const struct decoders *v, struct pieces *tokens, struct pieces *spare, struct buf *out, sail_err *err);

/* Byte-level alphabet: bytes as printable characters. */
uint32_t byte_to_char(unsigned char b);
int char_to_byte(uint32_t c); /* -1: none */
size_t utf8_put(char *out, uint32_t c);
size_t utf8_get(const char *s, size_t n, uint32_t *c); /* bytes taken; invalid bytes are U+FFFD, one each */
void utf8_lossy(const char *s, size_t n, struct buf *out);

/* String to id. */
struct vocab_slot {
    const char *s;
    uint32_t len;
    int32_t id;
};
struct vocab {
    struct vocab_slot *slot;
    size_t capacity, n;
};
int vocab_init(struct vocab *v, size_t n, sail_err *err);
void vocab_free(struct vocab *v);
void vocab_put(struct vocab *v, const char *s, size_t len, int32_t id);
int32_t vocab_get(const struct vocab *v, const char *s, size_t len);

struct merge_slot {
    uint64_t pair; /* left << 32 | right; ~0: free */
    int32_t rank, id;
};
struct bpe {
    struct vocab vocab;
    struct merge_slot *merge;
    size_t merge_capacity;
    int32_t unk, byte_id[256];
    bool byte_fallback, fuse_unk, ignore_merges;
    char *subword_prefix, *word_suffix;
    /* words met before: their ids */
    struct cache_slot {
        uint64_t hash;
        uint32_t start, len, ids, n_ids;
    } *cache;
    size_t cache_used;
    struct buf cache_text;
    struct ids cache_ids;
    /* buffers of a merge */
    struct symbol {
        int32_t id, prev, next;
    } *symbol;
    size_t symbol_capacity;
    struct candidate {
        int32_t rank, pos, id;
        int32_t left, right; /* what the pair was: stale ones differ */
    } *heap;
    size_t heap_n, heap_capacity;
};
int bpe_read(struct bpe *b, json_t *model, sail_err *err);
void bpe_free(struct bpe *b);
int bpe_encode(struct bpe *b, const char *s, size_t n, struct ids *out, sail_err *err);

/* A GGUF's tokenizer keys as a tokenizer.json object (new reference). */
int gguf_tokenizer_json(const char *path, json_t **out, int32_t *bos, int32_t *eos, sail_err *err);

#endif
