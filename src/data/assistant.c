#include "data/assistant.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* As transformers marks them: tokens and spans side by side, both taken to be in order. */
int assistant_mark(const struct tokenizer *t, const char *text, size_t len, size_t base, const struct template_spans *spans, const int32_t *id, size_t n,
                   unsigned char *mark, sail_err *err)
{
    struct token_extent *at;
    size_t k = 0;
    int rc = mem_alloc(&at, n, sizeof *at, err);
    if (!rc) rc = tokenizer_extents(t, text, len, id, n, at, err);
    memset(mark, 0, n);
    for (size_t i = 0; !rc && i < n; i++) {
        while (k < spans->n && base + at[i].start >= spans->span[k].end) k++;
        if (k == spans->n) break;
        mark[i] = base + at[i].end > spans->span[k].start;
    }
    free(at);
    return rc;
}
