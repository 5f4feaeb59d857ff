/* A tokenizer that opened: text to ids and back, and where they lie, twice over with the same buffers. A post-processor may name ids that the vocabulary lacks. */
#ifndef SAIL_TESTS_FUZZ_TOKENIZER_TEXT_H
#define SAIL_TESTS_FUZZ_TOKENIZER_TEXT_H

#include "fuzz.h"

#include "tok/tokenizer.h"

static inline void fuzz_tokenize(const struct tokenizer *t, const char *text, size_t n)
{
    sail_err err = {0};
    for (int special = 0; special < 2; special++) {
        struct ids ids = {0};
        struct buf out;
        buf_init(&out, 0);
        int rc = tokenizer_encode(t, text, n, special, &ids, &err);
        fuzz_check_refusal(rc, &err);
        for (size_t i = 0; i < ids.n; i++) BUG_ON(special ? ids.id[i] < 0 : !tokenizer_token(t, ids.id[i]), "id %d is no token", (int)ids.id[i]);
        struct token_extent *at = malloc(ids.n * sizeof *at);
        if (!rc && !special && !tokenizer_extents(t, text, n, ids.id, ids.n, at, &err))
            for (size_t i = 0; i < ids.n; i++) BUG_ON(at[i].start > at[i].end || at[i].end > n, "token %zu lies at %zu to %zu of %zu bytes", i, at[i].start, at[i].end, n);
        free(at);
        if (!rc && (rc = tokenizer_decode(t, ids.id, ids.n, special, &out, &err))) fuzz_check_refusal(rc, &err);
        buf_release(&out);
        ids_release(&ids);
    }
}

static inline void fuzz_tokenize_samples(const struct tokenizer *t, const uint8_t *text, size_t n)
{
    static const char sample[] = " Hello,  WORLD's 12345 \n\n\tcafé e\xCC\x81 ﬁ ½ 世界😀 <s>abc</s>  \xff\xC3";
    fuzz_tokenize(t, sample, sizeof sample - 1);
    if (text) fuzz_tokenize(t, (const char *)text, n);
}

#endif
