/* Tokenizers: text to ids and back, exactly as the tokenizer file says (tokenizer.json of a folder, or a GGUF's own keys). */
#ifndef SAIL_TOK_TOKENIZER_H
#define SAIL_TOK_TOKENIZER_H

#include <stdbool.h>

#include "base/mem.h"
#include "sail.h"

struct tokenizer;

struct ids {
    int32_t *id;
    size_t n, capacity;
};
void ids_release(struct ids *v);
int ids_push(struct ids *v, int32_t id, sail_err *err);

/* path: a model folder with tokenizer.json (and tokenizer_config.json), or a .gguf file (vocabulary-only ones too). */
int tokenizer_open(struct tokenizer **out, const char *path, sail_err *err);
/* True when the folder or file has a tokenizer at all (rows of ids need none). */
bool tokenizer_exists(const char *path);
void tokenizer_close(struct tokenizer *t);

/* Appends the ids of text[0..len). special: what the post-processor adds (BOS, ...) too. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, bool special, struct ids *out, sail_err *err);
/* Appends the ids that the post-processor puts before a text (usually BOS or nothing). */
int tokenizer_leading_specials(const struct tokenizer *t, struct ids *out, sail_err *err);
/* out[i]: the bytes of text that token i of its ids stands for. Tokens of a character that became several, and those between which the text cannot
 * be told apart, have the same. */
struct token_extent {
    size_t start, end;
};
int tokenizer_extents(const struct tokenizer *t, const char *text, size_t len, const int32_t *id, size_t n, struct token_extent *out, sail_err *err);
int tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, bool skip_special, struct buf *out, sail_err *err);

/* Writes tokenizer.json and tokenizer_config.json into a folder from a GGUF's own keys. */
int tokenizer_save_gguf(const char *gguf_path, const char *folder, sail_err *err);
/* The keys of a GGUF file that hold the tokenizer of `path`, n_vocab tokens; eos where the tokenizer names none (-1: none). Refuses by name
 * what GGUF cannot say. */
struct gguf_writer;
int tokenizer_put_gguf(struct gguf_writer *w, const char *path, int64_t n_vocab, int32_t eos, sail_err *err);

int32_t tokenizer_find(const struct tokenizer *t, const char *token); /* -1: none; added tokens too */
const char *tokenizer_token(const struct tokenizer *t, int32_t id);   /* NULL: none. Borrowed */
int32_t tokenizer_eos(const struct tokenizer *t); /* from tokenizer_config.json's eos_token or GGUF; -1: not said */
int32_t tokenizer_bos(const struct tokenizer *t);
int32_t tokenizer_size(const struct tokenizer *t); /* largest id + 1 */

#endif
