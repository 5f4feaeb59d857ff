/* Which tokens of a rendered chat the template's {% generation %} blocks wrote: the assistant's turns. */
#ifndef SAIL_DATA_ASSISTANT_H
#define SAIL_DATA_ASSISTANT_H

#include "template/template.h"
#include "tok/tokenizer.h"

/* mark[i] = 1 where token i of text's ids overlaps a span, else 0. text begins at byte `base` of the rendering that the spans are of. */
int assistant_mark(const struct tokenizer *t, const char *text, size_t len, size_t base, const struct template_spans *spans, const int32_t *id, size_t n,
                   unsigned char *mark, sail_err *err);

#endif
