/* Chat templates: Jinja as transformers runs it (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loopcontrols,
 * generation blocks), bounded in steps, depth, memory and output. */
#ifndef SAIL_TEMPLATE_TEMPLATE_H
#define SAIL_TEMPLATE_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <time.h>

#include "base/mem.h"
#include "sail.h"

struct chat_template;

/* From chat_template.jinja, tokenizer_config.json (string or named list) or a GGUF's tokenizer.chat_template. SAIL_FAILED
 * with a message when there is none (template_exists asks beforehand) or its syntax is refused. *_token strings of
 * tokenizer_config.json (or the GGUF's ids) become variables. */
int template_open(struct chat_template **out, const char *path, sail_err *err);
/* The same, but a template whose syntax is refused opens, and every render of it fails with that message. */
int template_open_unchecked(struct chat_template **out, const char *path, sail_err *err);
bool template_exists(const char *path);
/* The template's source text, or NULL; free() it. */
char *template_source(const char *path);
/* From source text; specials: object of *_token strings or NULL. */
int template_parse(struct chat_template **out, const char *source, json_t *specials, sail_err *err);
void template_close(struct chat_template *t);

struct template_options {
    bool add_generation_prompt;
    bool continue_final_message; /* cut after the last message's content */
    time_t now;                  /* UTC; what strftime_now sees. 0: the present */
};
/* row: an object with "messages" and whatever else the template should see (its keys win over special tokens and options; tools and
 * documents are None where it has none). Appends to out. A template's own refusal (raise_exception, an undefined operation) is
 * SAIL_FAILED with the message. */
int template_render(const struct chat_template *t, json_t *row, const struct template_options *o, struct buf *out, sail_err *err);

/* What {% generation %} blocks wrote, in the order in which they ended: bytes [start, end) of the rendered text. As in transformers, a block
 * inside a macro or another captured text counts from the end of the text written so far. */
struct template_spans {
    struct template_span {
        size_t start, end;
    } *span;
    size_t n;
};
void template_spans_release(struct template_spans *s);
/* template_render that also gives the spans (*spans is filled anew). */
int template_render_spans(const struct chat_template *t, json_t *row, const struct template_options *o, struct buf *out, struct template_spans *spans, sail_err *err);

#endif
