/* Parsing and rendering: the one place that jinja_fail comes back to. */
#define _GNU_SOURCE
#include "template/template.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "template/eval.h"
#include "template/source.h"
#include "template/unicode.h"

/* A parsed source; or, with a refusal, one that every render fails on. */
struct parsed {
    char *source;
    struct jinja pool;
    struct nodes body;
    char *refusal;
};
struct chat_template {
    struct parsed plain, tools;
    bool has_tools; /* a template of its own for rows with tools */
    json_t *specials;
};

/* Runs work(argument) to its end or to a jinja_fail: false, with the message in j. */
static bool guarded(struct jinja *j, void (*work)(void *), void *argument)
{
    if (setjmp(j->unwind)) return false;
    work(argument);
    return true;
}

static void parse_source(void *argument)
{
    struct parsed *p = argument;
    struct tokens tokens;
    const size_t n = strlen(p->source);
    if (n > JINJA_MAX_SOURCE) jinja_fail(&p->pool, "the template is too long: %zu bytes, at most %zu", n, JINJA_MAX_SOURCE);
    if (!utf8_is_valid(p->source, n)) jinja_fail(&p->pool, "the template is not UTF-8");
    lexer_run(&p->pool, p->source, n, &tokens);
    p->body = parser_run(&p->pool, &tokens);
}

/* Takes the source over. */
static void parsed_init(struct parsed *p, char *source)
{
    p->source = source;
    jinja_init(&p->pool);
    if (!guarded(&p->pool, parse_source, p)) p->refusal = mem_strdup(p->pool.message);
}

static void parsed_release(struct parsed *p)
{
    jinja_release(&p->pool);
    free(p->source);
    free(p->refusal);
}

static int template_create(struct chat_template **out, struct template_files *source, sail_err *err)
{
    *out = NULL;
    struct chat_template *t;
    int rc = mem_alloc(&t, 1, sizeof *t, err);
    if (rc) return rc;
    parsed_init(&t->plain, source->plain);
    source->plain = NULL;
    if (source->tools) {
        t->has_tools = true;
        parsed_init(&t->tools, source->tools);
        source->tools = NULL;
    }
    t->specials = json_incref(source->specials);
    *out = t;
    return SAIL_OK;
}

static int refuse_syntax(struct chat_template **t, sail_err *err)
{
    const char *why = (*t)->plain.refusal ? (*t)->plain.refusal : (*t)->tools.refusal;
    if (!why) return SAIL_OK;
    const int rc = err_set(err, SAIL_FAILED, "chat template: %s", why);
    template_close(*t);
    *t = NULL;
    return rc;
}

int template_open_unchecked(struct chat_template **out, const char *path, sail_err *err)
{
    struct template_files source = {0};
    *out = NULL;
    int rc = template_files_load(&source, path, err);
    if (!rc) rc = template_create(out, &source, err);
    template_files_release(&source);
    return rc;
}

int template_open(struct chat_template **out, const char *path, sail_err *err)
{
    int rc = template_open_unchecked(out, path, err);
    if (rc) return rc;
    rc = refuse_syntax(out, err);
    return rc ? err_context(err, "%s", path) : SAIL_OK;
}

int template_parse(struct chat_template **out, const char *text, json_t *specials, sail_err *err)
{
    struct template_files source = {.plain = mem_strdup(text), .specials = json_incref(specials)};
    int rc = template_create(out, &source, err);
    template_files_release(&source);
    return rc ? rc : refuse_syntax(out, err);
}

void template_close(struct chat_template *t)
{
    if (!t) return;
    parsed_release(&t->plain);
    if (t->has_tools) parsed_release(&t->tools);
    json_decref(t->specials);
    free(t);
}

// ------------------------------------------------------------------------------------------------ rendering

struct render {
    struct jinja pool;
    struct run run;
    const struct chat_template *template;
    const struct parsed *parsed;
    json_t *row;
    const struct template_options *options;
    struct text output;
    const char *result; /* the output, or the part of it that continue_final_message leaves */
    size_t n_result;
};

static const struct string *name_string(struct jinja *j, const char *s) { return string_borrow(j, s, strlen(s)); }
static void set(struct jinja *j, struct dict *d, const char *name, struct value v) { dict_set(j, d, value_string(name_string(j, name)), v); }

static struct dict *dict_copy(struct jinja *j, const struct dict *d)
{
    struct dict *copy = dict_create(j);
    for (int64_t i = 0; i < d->n; i++) dict_set(j, copy, d->entry[i].key, d->entry[i].value);
    return copy;
}

/* As transformers: a message's reasoning goes to the template under "reasoning_content" and "thinking", whatever its name was. */
static struct value alias_reasoning(struct jinja *j, struct value message)
{
    static const char *const fields[] = {"reasoning_content", "thinking", "reasoning"};
    struct value v = value_none();
    if (message.type != VALUE_DICT) return message;
    for (int i = 0; i < 3 && v.type == VALUE_NONE; i++) dict_get_name(j, message.dict, name_string(j, fields[i]), &v);
    if (v.type == VALUE_NONE) return message;
    struct dict *d = dict_create(j);
    set(j, d, "thinking", v);
    for (int64_t i = 0; i < message.dict->n; i++) dict_set(j, d, message.dict->entry[i].key, message.dict->entry[i].value);
    set(j, d, "reasoning_content", v);
    return value_dict(d);
}

static const char continue_tag[] = "CONTINUE_FINAL_MESSAGE_TAG ";

static struct value tagged(struct jinja *j, const struct string *s)
{
    struct text t = text_start(j);
    text_append(&t, s->s, s->len);
    text_puts(&t, continue_tag);
    return text_value(&t);
}

/* Marks the end of the last message's content; gives the text that it marked. */
static const struct string *tag_final_message(struct render *r, struct list *chat)
{
    struct jinja *j = &r->pool;
    struct value content = value_none(), text;
    if (!chat->n) jinja_fail(j, "continue_final_message is set but the conversation is empty!");
    struct value last = chat->item[chat->n - 1];
    if (last.type == VALUE_DICT) dict_get_name(j, last.dict, name_string(j, "content"), &content);
    if (content.type == VALUE_NONE) jinja_fail(j, "continue_final_message is set but the final message has no \"content\" to continue!");
    if (!strstr(r->parsed->source, "content")) jinja_fail(j, "continue_final_message is set to \"content\" but this is not an accepted field in the chat_template");
    last = value_dict(dict_copy(j, last.dict));
    chat->item[chat->n - 1] = last;
    if (content.type == VALUE_STRING) {
        set(j, last.dict, "content", tagged(j, content.string));
        return content.string;
    }
    if (content.type != VALUE_LIST) jinja_fail(j, "continue_final_message: the final message's content is neither a string nor a list");
    struct list *blocks = value_collect(j, content);
    for (int64_t i = blocks->n; i > 0; i--) {
        struct value *block = &blocks->item[i - 1];
        if (block->type != VALUE_DICT || !dict_get_name(j, block->dict, name_string(j, "text"), &text)) continue;
        const struct string *s = require_string(j, text, "a content block's text");
        *block = value_dict(dict_copy(j, block->dict));
        set(j, block->dict, "text", tagged(j, s));
        set(j, last.dict, "content", value_list(blocks));
        return s;
    }
    jinja_fail(j, "continue_final_message is set but we could not find any text to continue in the final message!");
}

static void cut_at_tag(struct render *r, const struct string *final)
{
    struct jinja *j = &r->pool;
    const struct string *out = string_borrow(j, r->output.s ? r->output.s : "", r->output.len);
    const struct string *wanted = string_strip(j, final, value_none(), true, true);
    const size_t n_tag = sizeof continue_tag - 1, n_bare = n_tag - 1;
    const char *tag = NULL;
    for (const char *at = out->s; (at = memmem(at, (size_t)(out->s + out->len - at), continue_tag, n_bare)); at++) tag = at;
    if (!tag || (wanted->len && !memmem(out->s, out->len, wanted->s, wanted->len)))
        jinja_fail(j, "continue_final_message is set but the final message does not appear in the chat after applying the chat template!");
    const bool keeps_spacing = (size_t)(out->s + out->len - tag) >= n_tag && !memcmp(tag, continue_tag, n_tag);
    out = string_borrow(j, out->s, (size_t)(tag - out->s));
    if (!keeps_spacing) out = string_strip(j, out, value_none(), false, true);
    r->n_result = out->len;
}

static void set_variables(struct render *r, struct dict *variables, struct value *messages)
{
    struct jinja *j = &r->pool;
    const char *key;
    json_t *v;
    set(j, variables, "tools", value_none());
    set(j, variables, "documents", value_none());
    set(j, variables, "add_generation_prompt", value_bool(r->options->add_generation_prompt));
    json_object_foreach(r->template->specials, key, v) set(j, variables, key, value_from_json(j, v));
    json_object_foreach(r->row, key, v) set(j, variables, key, value_from_json(j, v));
    if (!dict_get_name(j, variables, name_string(j, "messages"), messages)) jinja_fail(j, "'messages' is missing: expected a list of messages");
    if (messages->type != VALUE_LIST) jinja_fail(j, "'messages' is not a list of messages");
    for (int64_t i = 0; i < messages->list->n; i++) messages->list->item[i] = alias_reasoning(j, messages->list->item[i]);
}

static void render(void *argument)
{
    struct render *r = argument;
    struct jinja *j = &r->pool;
    struct dict *variables = dict_create(j);
    const struct string *final = NULL;
    struct value messages;
    set_variables(r, variables, &messages);
    if (r->options->continue_final_message) final = tag_final_message(r, messages.list);
    r->output = text_start(j);
    r->run = (struct run){.j = j, .variables = variables, .out = &r->output, .output = &r->output, .captured = value_none(), .now = r->options->now ? r->options->now : time(NULL)};
    j->run = &r->run;
    r->run.root = scope_enter(&r->run, NULL);
    exec_all(&r->run, &r->parsed->body);
    r->n_result = r->output.len;
    if (final) cut_at_tag(r, final);
    r->result = r->output.s;
}

/* The spans out of the pool; a final message that was cut takes what lies behind it along. */
static int copy_spans(struct template_spans *s, const struct render *r, sail_err *err)
{
    int rc = mem_alloc(&s->span, r->run.n_generated, sizeof *s->span, err);
    for (size_t i = 0; !rc && i < r->run.n_generated; i++) {
        struct template_span g = r->run.generated[i];
        if (g.end > r->n_result) g.end = r->n_result;
        if (g.start < g.end) s->span[s->n++] = g;
    }
    return rc;
}

void template_spans_release(struct template_spans *s)
{
    free(s->span);
    *s = (struct template_spans){0};
}

int template_render(const struct chat_template *t, json_t *row, const struct template_options *o, struct buf *out, sail_err *err)
{
    struct template_spans unused = {0};
    int rc = template_render_spans(t, row, o, out, &unused, err);
    template_spans_release(&unused);
    return rc;
}

int template_render_spans(const struct chat_template *t, json_t *row, const struct template_options *o, struct buf *out, struct template_spans *spans, sail_err *err)
{
    template_spans_release(spans);
    if (!json_is_object(row)) return err_set(err, SAIL_FAILED, "chat template: expected an object with 'messages'");
    json_t *tools = json_object_get(row, "tools");
    const struct parsed *parsed = t->has_tools && tools && !json_is_null(tools) ? &t->tools : &t->plain;
    if (parsed->refusal) return err_set(err, SAIL_FAILED, "%s", parsed->refusal);
    struct render *r;
    int rc = mem_alloc(&r, 1, sizeof *r, err);
    if (rc) return rc;
    jinja_init(&r->pool);
    r->template = t;
    r->parsed = parsed;
    r->row = row;
    r->options = o;
    if (!guarded(&r->pool, render, r))
        rc = err_set(err, SAIL_FAILED, "%s", r->pool.message);
    else if (r->n_result && !buf_append(out, r->result, r->n_result))
        rc = err_memory(err, r->n_result);
    else
        rc = copy_spans(spans, r, err);
    jinja_release(&r->pool);
    free(r);
    return rc;
}
