/* A tokenizer is a chain: added tokens, normalizers, pre-tokenizers, the model (BPE, Unigram, WordPiece), a post-processor; and decoders on
 * the way back. Each link is a list of steps read from tokenizer.json; GGUF files and SentencePiece models are put into that form first. */
#ifndef SAIL_TOK_INTERNAL_H
#define SAIL_TOK_INTERNAL_H

#include <jansson.h>
#include <oniguruma.h>

#include "tok/tokenizer.h"

/* ---------------------------------------------------------------- text.c, chars.c */

/* Byte-level alphabet: bytes as printable characters. */
uint32_t byte_to_char(unsigned char b);
int char_to_byte(uint32_t c); /* -1: none */
size_t utf8_put(char *out, uint32_t c);
size_t utf8_get(const char *s, size_t n, uint32_t *c); /* bytes taken; invalid bytes are U+FFFD, one each */
size_t utf8_before(const char *s, size_t at, uint32_t *c); /* bytes of the character that ends before s[at], at > 0 */
size_t utf8_next(const char *s, size_t n, size_t at);      /* offset of the character after the one at `at` */
void utf8_lossy(const char *s, size_t n, struct buf *out);

/* What tokenizers and the libraries under it take characters for. */
bool char_is_space(uint32_t c);
bool char_is_letter(uint32_t c);
bool char_is_number(uint32_t c);  /* \p{N} of patterns */
bool char_is_numeric(uint32_t c); /* of Digits */
bool char_is_unnormalized(uint32_t c); /* too new for the tables of NFC and its like: they let it pass */
bool char_is_word(uint32_t c);        /* \w */
bool char_is_punctuation(uint32_t c); /* ASCII symbols too */
bool char_is_mark(uint32_t c);
bool char_is_accent(uint32_t c); /* nonspacing marks */
bool char_is_control(uint32_t c);
bool char_is_chinese(uint32_t c);
uint32_t char_lower(uint32_t c);

/* Most bytes that any step may make of n: replacements of replacements grow without bound otherwise. */
#define MOST_OF(n) (((size_t)1 << 20) + 64 * (n))

/* Members of an object read from a file: absent or null is the fallback, another type is an error. */
int member_bool(json_t *spec, const char *name, bool fallback, bool *out, const char *what, sail_err *err);
int member_string(json_t *spec, const char *name, const char *fallback, const char **out, const char *what, sail_err *err);
int member_count(json_t *spec, const char *name, int64_t fallback, int64_t *out, const char *what, sail_err *err); /* 0 <= n <= 2^40 */
/* The object's "type"; *list is its member of that name when it is a Sequence, else NULL. */
int member_type(json_t *spec, const char *list_name, const char **type, json_t **list, const char *what, sail_err *err);

/* A regular expression with limits on matching; a plain string is an escaped one. */
struct pattern {
    regex_t *regex;
    OnigRegion *region;
    char *plain; /* searched for directly when it is not empty */
    size_t plain_len;
};
int pattern_read(struct pattern *p, json_t *spec, const char *what, sail_err *err); /* {"String": s} or {"Regex": s} */
int pattern_regex(struct pattern *p, const char *source, const char *what, sail_err *err);
void pattern_free(struct pattern *p);
/* Successive matches, empty ones too (not right behind a match). Zero the search first. SAIL_FAILED through *rc when a limit is hit. */
struct pattern_search {
    size_t from, start, end; /* the match: [start, end) */
    bool matched;
    unsigned searches; /* and when, in seconds of the core, they began */
    double started;
};
bool pattern_next(const struct pattern *p, const char *s, size_t n, struct pattern_search *at, int *rc, sail_err *err);
/* s with every match replaced, appended. */
int pattern_replace(const struct pattern *p, const char *s, size_t n, const char *content, struct buf *out, sail_err *err);

/* ---------------------------------------------------------------- normalize.c, compose.c, charsmap.c */

/* Unicode's normal forms: utf8proc's COMPOSE or DECOMPOSE, with COMPAT. Appends to out. */
int compose_text(const char *s, size_t n, int options, struct buf *out, sail_err *err);

/* SentencePiece's compiled map of characters: a double-array trie of byte strings and the texts that replace them. */
struct charsmap {
    bool longest; /* the longest entry at each place, else the entry of each grapheme */
    uint32_t *unit;
    size_t n_unit;
    char *text;
    size_t text_len;
};
int charsmap_read(struct charsmap *m, const char *base64, sail_err *err);
void charsmap_free(struct charsmap *m);
void charsmap_run(const struct charsmap *m, const char *s, size_t n, struct buf *out);
/* Appends bytes as base64. */
void base64_encode(const unsigned char *s, size_t n, struct buf *out);

enum normalizer_kind {
    NORM_NFC, NORM_NFD, NORM_NFKC, NORM_NFKD, NORM_LOWERCASE, NORM_REPLACE, NORM_PREPEND, NORM_STRIP, NORM_STRIP_ACCENTS, NORM_NMT, NORM_BERT, NORM_PRECOMPILED,
    NORM_BYTE_LEVEL
};
struct normalizer {
    enum normalizer_kind kind;
    struct pattern pattern;
    struct charsmap charsmap;
    char *content;
    bool left, right;                                     /* strip */
    bool clean, chinese, strip_accents, lowercase;        /* bert */
};
struct normalizers {
    struct normalizer *step;
    size_t n, capacity;
};
int normalizers_read(struct normalizers *v, json_t *spec, sail_err *err);
void normalizers_free(struct normalizers *v);
/* A text on its way through the normalizers, at the end as they made it; buffers that stay for the next one. */
struct normal {
    struct buf text, before, first; /* before: the text before a step; first: what becomes of its first character */
};
void normal_release(struct normal *w);
/* *head (in, out; may be NULL): bytes at the start that stand for the text's first character. */
int normalizers_run(const struct normalizers *v, const char *s, size_t n, struct normal *w, size_t *head, sail_err *err);

/* ---------------------------------------------------------------- pretokenize.c, scan.c */

/* Known patterns cut by hand: the end of the piece that starts at `at`. Every byte is in a piece. */
typedef size_t scanner(const char *s, size_t n, size_t at);
extern const char gpt2_pattern[];
scanner *scanner_for(const char *regex); /* NULL: not a known one */

enum split_behaviour { SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_CONTIGUOUS, SPLIT_PREVIOUS, SPLIT_NEXT };
enum pretokenizer_kind { PRE_BYTE_LEVEL, PRE_SPLIT, PRE_CHARS, PRE_METASPACE, PRE_WORDS, PRE_FIXED };
enum prepend_scheme { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS };
struct pretokenizer {
    enum pretokenizer_kind kind;
    struct pattern pattern;
    scanner *scan;                /* split, byte level: instead of the pattern */
    bool (*char_matches)(uint32_t); /* chars: a delimiter each */
    enum split_behaviour behaviour;
    bool invert, prefix_space, use_regex, split;
    char *replacement; /* metaspace */
    enum prepend_scheme prepend;
    int64_t length; /* fixed */
};
struct pretokenizers {
    struct pretokenizer *step;
    size_t n, capacity;
};
int pretokenizers_read(struct pretokenizers *v, json_t *spec, sail_err *err);
void pretokenizers_free(struct pretokenizers *v);
int prepend_scheme_read(json_t *spec, enum prepend_scheme *out, const char *what, sail_err *err);

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

struct piece_list {
    struct piece *piece;
    size_t n, capacity;
};

/* Work space of pre-tokenization and its result: pieces of `text`, which is the input or one of the buffers. as_bytes: the byte-level
 * alphabet is still to be put in. */
struct words {
    const char *text;
    struct piece *piece;
    size_t n;
    bool as_bytes;
    size_t head; /* bytes of `text` that stand for the whole input's first character */
    size_t most; /* bytes that the buffers may hold */
    struct piece_list list[2];
    struct buf buffer[2];
    struct span_list {
        struct span_of {
            size_t start, end;
            bool match;
        } *span;
        size_t n, capacity;
    } spans;
};
void words_release(struct words *w);
int pretokenizers_run(const struct pretokenizers *v, const char *s, size_t n, size_t head, struct words *w, sail_err *err);

/* ---------------------------------------------------------------- decode.c */

enum decoder_kind { DEC_BYTE_LEVEL, DEC_REPLACE, DEC_BYTE_FALLBACK, DEC_FUSE, DEC_STRIP, DEC_METASPACE, DEC_WORDPIECE, DEC_BPE, DEC_CTC, DEC_KIND_COUNT };
struct decoder {
    enum decoder_kind kind;
    struct pattern pattern;
    char *content, *delimiter;
    int64_t start, stop;
    bool keep_first; /* metaspace: the first token's replacements become spaces too */
    bool cleanup;
};
struct decoders {
    struct decoder *step;
    size_t n, capacity;
    bool none; /* no decoder: tokens are joined by spaces */
};
int decoders_read(struct decoders *v, json_t *spec, sail_err *err);
void decoders_free(struct decoders *v);
int token_byte(const char *s, size_t n); /* of <0xHH>; -1: another token */
/* Work space: pieces before and after a decoder, texts on the way. */
struct decoding {
    struct pieces pieces[2]; /* [0]: the tokens, when the decoders begin */
    struct buf text[2];
};
void decoding_release(struct decoding *w);
int decoders_run(const struct decoders *v, struct decoding *w, struct buf *out, sail_err *err);

/* ---------------------------------------------------------------- models */

/* String to id. The strings are borrowed. */
struct vocab {
    struct vocab_slot {
        const char *s;
        uint32_t len;
        int32_t id;
    } *slot;
    size_t capacity, n, longest;
};
uint64_t hash_bytes(const char *s, size_t n);
int vocab_init(struct vocab *v, size_t n, sail_err *err);
void vocab_free(struct vocab *v);
void vocab_put(struct vocab *v, const char *s, size_t len, int32_t id);
int32_t vocab_get(const struct vocab *v, const char *s, size_t len);
void vocab_bytes(const struct vocab *v, int32_t id[256]); /* ids of <0x00> to <0xFF>, -1 where absent */

struct merge_slot {
    uint64_t pair; /* left << 32 | right; ~0: free */
    int32_t rank, id;
};
struct bpe {
    const struct vocab *vocab;
    struct merge_slot *merge;
    size_t merge_capacity;
    char *unk_token;
    int32_t unk, byte_id[256], alphabet_id[256]; /* <0xHH>; the byte-level alphabet's characters */
    bool byte_fallback, fuse_unk, ignore_merges;
    char *subword_prefix, *word_suffix;
    struct buf mapped, glued;
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
int bpe_read(struct bpe *b, json_t *model, const struct vocab *vocab, sail_err *err);
void bpe_free(struct bpe *b);
int bpe_encode(struct bpe *b, const char *s, size_t n, bool as_bytes, struct ids *out, sail_err *err);

struct unigram {
    const struct vocab *vocab;
    double *score; /* by id */
    double unk_score;
    int32_t unk, byte_id[256];
    bool byte_fallback, single; /* single: sums are rounded to single precision */
    /* the vocabulary as a trie: edges (node, byte) -> node in a hash table */
    struct trie_edge {
        uint32_t node, byte, to; /* to 0: free */
    } *edge;
    size_t edge_capacity;
    int32_t *node_id; /* -1: no piece ends here */
    size_t n_node, node_capacity;
    struct lattice_end {
        double score;
        int64_t start; /* -1: not reached */
        int32_t id;
    } *end;
    size_t end_capacity;
    struct piece_list path; /* of the best cut, last piece first */
};
int unigram_read(struct unigram *u, json_t *model, const struct vocab *vocab, sail_err *err);
void unigram_free(struct unigram *u);
int unigram_encode(struct unigram *u, const char *s, size_t n, struct ids *out, sail_err *err);

struct wordpiece {
    const struct vocab *vocab;
    char *prefix, *unk_token;
    int32_t unk;
    int64_t longest_word; /* in characters; longer ones are unknown */
    bool whole;           /* WordLevel: no pieces */
    struct buf glued;
};
int wordpiece_read(struct wordpiece *w, json_t *model, bool whole, const struct vocab *vocab, sail_err *err);
void wordpiece_free(struct wordpiece *w);
int wordpiece_encode(struct wordpiece *w, const char *s, size_t n, struct ids *out, sail_err *err);

enum model_kind { MODEL_BPE, MODEL_UNIGRAM, MODEL_WORDPIECE };
struct model {
    enum model_kind kind;
    struct vocab vocab;
    struct bpe bpe;
    struct unigram unigram;
    struct wordpiece wordpiece;
    /* words met before: their ids */
    struct cache_slot {
        uint64_t hash; /* 0: free */
        uint32_t start, ids;
        uint16_t len, n_ids;
    } *cache;
    size_t cache_slots, cache_used;
    struct buf cache_text;
    struct ids cache_ids;
    struct buf mapped;
};
int tokenizer_model_read(struct model *m, json_t *spec, sail_err *err);
void tokenizer_model_free(struct model *m);
/* as_bytes: s stands for its bytes in the byte-level alphabet; always the same for one model. */
int tokenizer_model_encode(struct model *m, const char *s, size_t n, bool as_bytes, struct ids *out, sail_err *err);

/* ---------------------------------------------------------------- added.c, post.c */

struct added {
    char *text; /* as it is looked for: normalized tokens in their normalized form */
    char *content;
    size_t len;
    int32_t id;
    bool special, normalized, lstrip, rstrip, single_word;
};
struct added_tokens {
    struct added *token;
    size_t n, capacity;
    struct added_index { /* of raw text, of normalized text */
        const struct added **order; /* by first byte, longest first */
        uint32_t first[257];
    } index[2];
};
int added_read(struct added_tokens *v, json_t *list, const struct normalizers *normalizers, const struct vocab *vocab, sail_err *err);
void added_free(struct added_tokens *v);
/* The next added token in s at or after *search (moved on): its span with the blanks it swallows, never before `from`. NULL: none. */
const struct added *added_next(const struct added_tokens *v, bool normalized, const char *s, size_t n, size_t from, size_t *search, size_t *start, size_t *end);

enum { POST_TEXT = -1 };
/* *out: ids, and POST_TEXT where the text goes. */
int post_read(struct ids *out, json_t *spec, sail_err *err);

/* ---------------------------------------------------------------- other files as tokenizer.json */

/* A vocabulary of scored pieces. */
struct spm {
    struct spm_piece {
        char *text;
        size_t len;
        double score;
        int type; /* 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte: as in SentencePiece and GGUF */
    } *piece;
    size_t n, capacity;
    bool unigram, byte_fallback, dummy_prefix, squeeze_spaces;
    bool own_rules; /* SentencePiece's: user-defined pieces are found in normalized text, scores add up in single precision; else as llama.cpp and the tokenizers library have it */
    int32_t unk, bos, eos;
    unsigned char *charsmap;
    size_t charsmap_len;
};
void spm_release(struct spm *m);
int spm_put(const struct spm *m, json_t *root, sail_err *err); /* added_tokens, normalizer, model, decoder */
int spm_tokenizer_json(const char *path, json_t **out, int32_t *bos, int32_t *eos, sail_err *err);
/* An entry of added_tokens for a token type that is found whole in a text; NULL for the others. Steals content. */
json_t *added_token_json(int64_t id, json_t *content, int type);
/* A TemplateProcessing of the ids around a text; -1: none. */
json_t *post_json(int32_t before, const char *before_text, int32_t after, const char *after_text);

/* Cuts and flags behind a tokenizer.ggml.pre; NULL: an unknown name. */
struct gguf_pre {
    const char *name;
    const char *regex[6];
    bool ignore_merges, nfc, add_bos;
};
const struct gguf_pre *gguf_pre_find(const char *name);
/* The first name with just these n cuts and flags, or NULL. */
const char *gguf_pre_name(const char *const *regex, size_t n, bool nfc, bool ignore_merges);

/* A GGUF's tokenizer keys as a tokenizer.json object (new reference). */
int gguf_tokenizer_json(const char *path, json_t **out, int32_t *bos, int32_t *eos, sail_err *err);
bool gguf_has_tokenizer(const char *path);
/* The tokenizer of a folder or GGUF as a tokenizer.json object (new reference). */
int tokenizer_json(const char *path, json_t **out, sail_err *err);

/* ---------------------------------------------------------------- tokenizer.c, offsets.c */

struct tokenizer {
    json_t *json; /* the vocabulary's strings live here */
    struct added_tokens added;
    struct normalizers normalizers;
    struct pretokenizers pretokenizers;
    struct model model;
    struct decoders decoders;
    struct token {
        const char *text;
        bool special, known;
        const struct added *added; /* NULL: of the model */
    } *token; /* by id */
    int32_t n_token, bos, eos;
    struct ids post;    /* what the post-processor puts around POST_TEXT */
    struct words words; /* buffers of encode */
    struct normal normal;
    struct buf clean;
    struct decoding decoding; /* buffers of decode */
};

#endif
