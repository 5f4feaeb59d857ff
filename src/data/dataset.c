#include "data/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "data/assistant.h"
#include "data/implicit.h"
#include "data/row_reader.h"
#include "data/shapes.h"

static const size_t max_file = (size_t)16 << 30;

struct loader {
    struct dataset *d;
    const struct dataset_options *o;
    size_t example_capacity, row_capacity;
    struct ids pool;
    struct buf text, scratch, whole;
    struct template_spans spans; /* of the newest rendering */
    struct buf counted;          /* a byte for every id of the pool, as far as completions of messages go */
    bool kind_known;
    int32_t file;
    int64_t line;
    sail_err *err;
};

static int refuse(const struct loader *l, const char *fmt, const char *a, const char *b)
{
    char message[512];
    snprintf(message, sizeof message, fmt, a, b); // fmt is one of this file's own
    return err_set(l->err, SAIL_FAILED, "%s:%lld: %s", l->d->files.path[l->file], (long long)l->line, message);
}

/* The row's keys, for messages: "prompt, chosen". */
static const char *keys_of(json_t *row, char *out, size_t size)
{
    char *list = columns_list(row);
    snprintf(out, size, "%s", list);
    free(list);
    return out;
}

static bool has(json_t *row, const char *key)
{
    char ids[64];
    snprintf(ids, sizeof ids, "%s_ids", key);
    return json_object_get(row, key) || json_object_get(row, ids);
}

static int detect(const struct loader *l, json_t *row, enum data_kind *kind)
{
    char keys[200];
    if (has(row, "chosen") && has(row, "rejected"))
        *kind = DATA_PREFERENCE;
    else if (has(row, "completion"))
        *kind = json_is_boolean(json_object_get(row, "label")) ? DATA_UNPAIRED : DATA_COMPLETION;
    else if (json_object_get(row, "text") || json_object_get(row, "messages"))
        *kind = DATA_COMPLETION;
    else if (has(row, "prompt"))
        *kind = DATA_PROMPTS;
    else
        return refuse(l, "expected prompt, prompt + completion, prompt + chosen + rejected, text or messages; the row has: %s%s", keys_of(row, keys, sizeof keys), "");
    return SAIL_OK;
}

/* ---------------------------------------------------------------- text to ids */

static int push_list(struct loader *l, json_t *list, const char *key, struct span *out)
{
    *out = (struct span){.start = (int64_t)l->pool.n};
    if (!json_is_array(list)) return refuse(l, "'%s': expected a list of token ids%s", key, "");
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v)
    {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX) return refuse(l, "'%s': every element must be a token id%s", key, "");
        int rc = ids_push(&l->pool, (int32_t)json_integer_value(v), l->err);
        if (rc) return rc;
    }
    out->n = (int32_t)json_array_size(list);
    return SAIL_OK;
}

static int need_tokenizer(const struct loader *l, const char *key)
{
    if (l->o->tokenizer) return SAIL_OK;
    return refuse(l, "'%s' is text, and the model has no tokenizer (tokenizer.json): give %s_ids", key, key);
}

/* Texts and ids have no turns. */
static int need_no_turns(const struct loader *l)
{
    return l->o->assistant_only ? refuse(l, "only the assistant's turns shall count: expected rows of messages%s%s", "", "") : SAIL_OK;
}

static int render(struct loader *l, json_t *messages, json_t *row, bool generation, bool continues, struct buf *out)
{
    if (!l->o->template) return refuse(l, "the row is conversational, and the model has no chat template%s%s", "", "");
    json_t *view = json_copy(row);
    json_object_set(view, "messages", messages);
    const struct template_options t = {.add_generation_prompt = generation, .continue_final_message = continues};
    int rc = template_render_spans(l->o->template, view, &t, out, &l->spans, l->err);
    json_decref(view);
    if (rc) err_context(l->err, "%s:%lld: chat template", l->d->files.path[l->file], (long long)l->line);
    return rc;
}

static const char *last_role(json_t *messages)
{
    const char *role = json_string_value(json_object_get(json_array_get(messages, json_array_size(messages) - 1), "role"));
    return role ? role : "";
}

/* TRL's apply_chat_template: a prompt that ends with the user opens the assistant's turn; one that ends with the assistant goes on with it. */
static int render_prompt(struct loader *l, json_t *messages, json_t *row, struct buf *out)
{
    const char *role = last_role(messages);
    if (!strcmp(role, "assistant")) return render(l, messages, row, false, true, out);
    if (strcmp(role, "user") && strcmp(role, "tool")) return refuse(l, "the prompt ends with role '%s': expected user, tool or assistant%s", role, "");
    return render(l, messages, row, true, false, out);
}

static int encode(struct loader *l, const char *text, size_t n, struct span *out)
{
    *out = (struct span){.start = (int64_t)l->pool.n};
    int rc = tokenizer_encode(l->o->tokenizer, text, n, false, &l->pool, l->err);
    out->n = (int32_t)((int64_t)l->pool.n - out->start);
    return rc;
}

/* Text of the newest rendering, from byte `base` on. */
static int encode_turns(struct loader *l, const char *text, size_t n, size_t base, struct span *out)
{
    int rc = encode(l, text, n, out);
    if (rc || !l->o->assistant_only) return rc;
    while (l->counted.len < (size_t)out->start && buf_putc(&l->counted, 0)) {}
    for (int32_t i = 0; i < out->n; i++) buf_putc(&l->counted, 0);
    if (l->counted.failed) return err_memory(l->err, l->pool.n);
    unsigned char *mark = (unsigned char *)l->counted.data + out->start;
    rc = assistant_mark(l->o->tokenizer, text, n, base, &l->spans, l->pool.id + out->start, (size_t)out->n, mark, l->err);
    if (!rc && !memchr(mark, 1, (size_t)out->n))
        return refuse(l, "the chat template marks no answer of the assistant ({%% generation %%} blocks): nothing of the row would count%s%s", "", "");
    return rc;
}

static int encode_prompt_text(struct loader *l, const char *text, size_t n, bool plain, struct span *out)
{
    *out = (struct span){.start = (int64_t)l->pool.n};
    int rc = plain ? tokenizer_leading_specials(l->o->tokenizer, &l->pool, l->err) : SAIL_OK;
    if (!rc) rc = tokenizer_encode(l->o->tokenizer, text, n, false, &l->pool, l->err);
    out->n = (int32_t)((int64_t)l->pool.n - out->start);
    return rc;
}

/* An end that the template has not written counts too; one that was cut off does not. */
static int end_counts(struct loader *l)
{
    if (!l->o->assistant_only) return SAIL_OK;
    if (l->counted.len > l->pool.n) l->counted.len = l->pool.n;
    while (l->counted.len < l->pool.n && buf_putc(&l->counted, 1)) {}
    return l->counted.failed ? err_memory(l->err, l->pool.n) : SAIL_OK;
}

static int end_completion(struct loader *l, bool conversational, struct span *s)
{
    const int32_t eos = conversational && l->o->turn_end >= 0 ? l->o->turn_end : l->o->eos;
    if (eos < 0 || (s->n && l->pool.id[s->start + s->n - 1] == eos)) return SAIL_OK;
    // A template may put a line break after the turn's end: that text is not another answer's beginning.
    for (int32_t t = s->n - 1; conversational && t >= 0 && t >= s->n - 3; t--)
        if (l->pool.id[s->start + t] == eos) {
            l->pool.n -= (size_t)(s->n - 1 - t);
            s->n = t + 1;
            return SAIL_OK;
        }
    s->n++;
    return ids_push(&l->pool, eos, l->err);
}

/* The prompt's text stays in l->whole for the completions that follow it. */
static int read_prompt(struct loader *l, json_t *row, struct example *e)
{
    json_t *ids = json_object_get(row, "prompt_ids"), *prompt = json_object_get(row, "prompt");
    e->text = -1;
    buf_clear(&l->whole);
    if (json_is_string(prompt)) {
        e->text = (int64_t)l->text.len;
        if (!buf_append(&l->text, json_string_value(prompt), json_string_length(prompt)) || !buf_putc(&l->text, '\0')) return err_memory(l->err, l->text.len);
    }
    if (ids) return push_list(l, ids, "prompt_ids", &e->prompt);
    int rc = need_tokenizer(l, "prompt");
    if (rc) return rc;
    if (json_is_string(prompt)) return encode_prompt_text(l, json_string_value(prompt), json_string_length(prompt), true, &e->prompt);
    if (!row_is_messages(prompt)) return refuse(l, "'prompt': expected a string or a list of messages%s%s", "", "");
    if ((rc = render_prompt(l, prompt, row, &l->whole))) return rc;
    e->text = (int64_t)l->text.len;
    if (!buf_append(&l->text, l->whole.data ? l->whole.data : "", l->whole.len) || !buf_putc(&l->text, '\0')) return err_memory(l->err, l->text.len);
    return encode_prompt_text(l, l->whole.data ? l->whole.data : "", l->whole.len, false, &e->prompt);
}

static int read_messages_completion(struct loader *l, json_t *row, json_t *answer, const char *key, struct span *out)
{
    json_t *prompt = json_object_get(row, "prompt");
    if (!row_is_messages(prompt)) return refuse(l, "'%s' is a list of messages, so 'prompt' must be one too%s", key, "");
    json_t *all = json_copy(prompt);
    json_array_extend(all, answer);
    buf_clear(&l->scratch);
    int rc = render(l, all, row, false, false, &l->scratch);
    json_decref(all);
    if (rc) return rc;
    size_t same = 0; // the common prefix: some templates render a prompt otherwise once it is answered
    while (same < l->whole.len && same < l->scratch.len && l->whole.data[same] == l->scratch.data[same]) same++;
    rc = encode_turns(l, (l->scratch.data ? l->scratch.data : "") + same, l->scratch.len - same, same, out);
    if (!rc) rc = end_completion(l, true, out);
    return rc ? rc : end_counts(l);
}

static int read_completion(struct loader *l, json_t *row, const char *key, struct span *out)
{
    char name[32], keys[200];
    snprintf(name, sizeof name, "%s_ids", key);
    json_t *ids = json_object_get(row, name), *answer = json_object_get(row, key);
    int rc = ids || json_is_string(answer) ? need_no_turns(l) : SAIL_OK;
    if (rc) return rc;
    if (ids) {
        rc = push_list(l, ids, name, out);
    } else if (!answer) {
        rc = refuse(l, "'%s' is missing (the row has: %s)", key, keys_of(row, keys, sizeof keys));
    } else if ((rc = need_tokenizer(l, key))) {
    } else if (json_is_string(answer)) {
        if (!json_string_length(answer)) return refuse(l, "'%s' is empty%s", key, "");
        rc = encode(l, json_string_value(answer), json_string_length(answer), out);
        if (!rc) rc = end_completion(l, false, out);
    } else if (row_is_messages(answer)) {
        l->d->conversational = true;
        rc = read_messages_completion(l, row, answer, key, out);
    } else {
        rc = refuse(l, "'%s': expected a string or a list of messages%s", key, "");
    }
    if (!rc && out->n == 0) rc = refuse(l, "'%s' has no tokens%s", key, "");
    return rc;
}

/* Language modelling: everything is completion, what the tokenizer puts in front is the prompt. */
static int read_whole(struct loader *l, json_t *row, struct example *e)
{
    json_t *text = json_object_get(row, "text"), *messages = json_object_get(row, "messages");
    int rc = need_tokenizer(l, text ? "text" : "messages");
    if (!rc && text) rc = need_no_turns(l);
    if (rc) return rc;
    if (text) {
        if (!json_is_string(text) || !json_string_length(text)) return refuse(l, "'text': expected a string with something in it%s%s", "", "");
        rc = encode_prompt_text(l, "", 0, true, &e->prompt);
        if (!rc) rc = encode(l, json_string_value(text), json_string_length(text), &e->completion);
        return rc ? rc : end_completion(l, false, &e->completion);
    }
    if (!row_is_messages(messages)) return refuse(l, "'messages': expected a list of {role, content}%s%s", "", "");
    l->d->conversational = true;
    buf_clear(&l->scratch);
    if ((rc = render(l, messages, row, false, false, &l->scratch))) return rc;
    if ((rc = encode_turns(l, l->scratch.data ? l->scratch.data : "", l->scratch.len, 0, &e->completion))) return rc;
    // The first token is given: nothing predicts it.
    e->prompt = (struct span){e->completion.start, e->completion.n ? 1 : 0};
    e->completion.start++;
    e->completion.n--;
    rc = end_completion(l, true, &e->completion);
    return rc ? rc : end_counts(l);
}

/* ---------------------------------------------------------------- limits */

/* The prompt keeps its end, the completion its start. */
static void truncate_example(struct loader *l, struct example *e)
{
    const struct dataset_options *o = l->o;
    struct span *completion[3] = {&e->completion, &e->chosen, &e->rejected};
    if (!o->max_length) return;
    int32_t longest = 0;
    for (int k = 0; k < 3; k++)
        if (completion[k]->n > longest) longest = completion[k]->n;
    int64_t prompt_limit = o->max_prompt_length ? o->max_prompt_length : o->max_length - (longest < o->max_length / 2 ? longest : o->max_length / 2);
    if (prompt_limit > o->max_length - (longest ? 1 : 0)) prompt_limit = o->max_length - (longest ? 1 : 0);
    if (e->prompt.n > prompt_limit) {
        const int32_t cut = e->prompt.n - (int32_t)prompt_limit;
        e->prompt.start += cut;
        e->prompt.n -= cut;
        l->d->n_truncated_prompts++;
        l->d->n_truncated_tokens += cut;
    }
    for (int k = 0; k < 3; k++) {
        const int32_t room = (int32_t)(o->max_length - e->prompt.n);
        if (completion[k]->n <= room) continue;
        l->d->n_truncated_tokens += completion[k]->n - room;
        l->d->n_truncated_completions++;
        completion[k]->n = room;
    }
}

/* ---------------------------------------------------------------- rows */

static int read_extras(struct loader *l, json_t *row, struct example *e)
{
    json_t *p = json_object_get(row, "p"), *margin = json_object_get(row, "margin"), *route = json_object_get(row, "route");
    e->p = 1;
    if (p && !json_is_null(p)) {
        e->p = json_number_value(p);
        if (!json_is_number(p) || !(e->p >= 0 && e->p <= 1)) return refuse(l, "'p': expected a probability from 0 to 1%s%s", "", "");
    }
    if (margin && !json_is_null(margin)) {
        if (!json_is_number(margin)) return refuse(l, "'margin': expected a number%s%s", "", "");
        e->margin = json_number_value(margin);
    }
    snprintf(e->route, sizeof e->route, "%s", json_is_string(route) ? json_string_value(route) : "offline");
    if (strcmp(e->route, "offline") && strcmp(e->route, "dp") && strcmp(e->route, "pp") && strcmp(e->route, "pr"))
        return refuse(l, "'route': expected offline, dp, pp or pr, got '%s'%s", e->route, "");
    e->label = json_is_true(json_object_get(row, "label"));
    return SAIL_OK;
}

static int read_fields(struct loader *l, json_t *row, struct example *e)
{
    enum data_kind kind = DATA_PROMPTS;
    int rc = detect(l, row, &kind);
    if (rc) return rc;
    if (l->o->want_prompts_only && has(row, "prompt")) kind = DATA_PROMPTS;
    if (l->kind_known && kind != l->d->kind) {
        char keys[200];
        if (l->d->kind == DATA_UNPAIRED && kind == DATA_COMPLETION && has(row, "completion"))
            return refuse(l, "'label': expected true or false, as in the rows before it%s%s", "", "");
        return refuse(l, "the row is of another kind than the rows before it (it has: %s)%s", keys_of(row, keys, sizeof keys), "");
    }
    l->d->kind = kind;
    l->kind_known = true;
    if (row_is_messages(json_object_get(row, "prompt"))) l->d->conversational = true;
    if ((rc = read_extras(l, row, e))) return rc;
    if (kind == DATA_COMPLETION && !has(row, "completion")) return read_whole(l, row, e);
    if ((rc = read_prompt(l, row, e))) return rc;
    if (kind == DATA_PREFERENCE) {
        if ((rc = read_completion(l, row, "chosen", &e->chosen))) return rc;
        return read_completion(l, row, "rejected", &e->rejected);
    }
    return kind == DATA_PROMPTS ? SAIL_OK : read_completion(l, row, "completion", &e->completion);
}

/* The row under its columns' names and in the shapes that are read here: a new reference. */
static int prepare_row(const struct loader *l, json_t *source_row, json_t **out)
{
    char *why = NULL;
    *out = columns_apply(&l->o->columns, source_row, l->o->want_prompts_only, &why);
    if (*out) why = shape_row(*out, l->o->want_prompts_only);
    if (*out && !why) return SAIL_OK;
    int rc = why ? refuse(l, "%s%s", why, "") : err_memory(l->err, 0);
    free(why);
    json_decref(*out);
    return rc;
}

static int add_row(struct loader *l, json_t *source_row)
{
    struct dataset *d = l->d;
    json_t *row;
    int rc = prepare_row(l, source_row, &row);
    if (rc) return rc;
    json_t *explicit_row = json_incref(row);
    if (has(row, "chosen") && has(row, "rejected") && !has(row, "prompt")) {
        json_decref(explicit_row);
        const char *why = implicit_split(row, &explicit_row);
        if (why) rc = refuse(l, "%s%s", why, "");
    }
    if (!rc) rc = mem_grow(&d->example, (size_t)d->n, &l->example_capacity, sizeof *d->example, l->err);
    if (!rc) rc = mem_grow(&d->row, (size_t)d->n, &l->row_capacity, sizeof *d->row, l->err);
    struct example e = {.file = l->file, .line = l->line, .text = -1};
    if (!rc) rc = read_fields(l, explicit_row, &e);
    json_decref(explicit_row);
    if (rc) {
        json_decref(row);
        return rc;
    }
    truncate_example(l, &e);
    d->example[d->n] = e;
    d->row[d->n++] = row;
    return SAIL_OK;
}

static int read_rows(struct loader *l)
{
    struct row_reader *reader;
    json_t *row = NULL;
    int rc = row_reader_open(&reader, &l->d->files, columns_need, &l->o->columns, l->err);
    while (!rc && (!l->o->max_rows || l->d->n < l->o->max_rows) && !(rc = row_reader_next(reader, &row, l->err)) && row) {
        l->file = row_reader_file(reader);
        l->line = row_reader_line(reader);
        rc = add_row(l, row);
        json_decref(row);
    }
    row_reader_close(reader);
    return rc;
}

int dataset_refuse(const struct dataset *d, int code, const char *expected, sail_err *err)
{
    if (!d->n) return err_set(err, SAIL_FAILED, "%s: no rows", d->path);
    char keys[200];
    const struct example *e = d->example;
    return err_set(err, code, "%s:%lld: expected %s; the row has: %s", dataset_file(d, e), (long long)e->line, expected, keys_of(d->row[0], keys, sizeof keys));
}

int dataset_open(struct dataset **out, const char *path, const struct dataset_options *o, sail_err *err)
{
    struct dataset *d;
    *out = NULL;
    if (mem_alloc(&d, 1, sizeof *d, err)) return SAIL_FAILED;
    d->path = mem_strdup(path);
    struct loader l = {.d = d, .o = o, .err = err};
    buf_init(&l.text, max_file);
    buf_init(&l.scratch, 0);
    buf_init(&l.whole, 0);
    buf_init(&l.counted, max_file);
    int rc = data_files_find(&d->files, path, err);
    if (!rc) rc = read_rows(&l);
    buf_release(&l.scratch);
    buf_release(&l.whole);
    template_spans_release(&l.spans);
    while (o->assistant_only && l.counted.len < l.pool.n && buf_putc(&l.counted, 0)) {}
    if (!rc && l.counted.failed) rc = err_memory(err, l.pool.n);
    d->counted = (unsigned char *)l.counted.data;
    d->ids = l.pool.id;
    d->text = l.text.data;
    if (rc)
        dataset_free(d);
    else
        *out = d;
    return rc;
}

void dataset_free(struct dataset *d)
{
    if (!d) return;
    for (int64_t i = 0; d->row && i < d->n; i++) json_decref(d->row[i]);
    free(d->row);
    free(d->example);
    free(d->ids);
    free(d->counted);
    free(d->text);
    free(d->path);
    data_files_release(&d->files);
    free(d);
}
