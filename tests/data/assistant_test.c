/* Which tokens generation blocks wrote, against transformers; what the loss of a data set counts. */
#include "test.h"

#include <jansson.h>

#include "base/file.h"
#include "data/assistant.h"
#include "data/dataset.h"

static char folder[64];

static const char *put(const char *name, const char *text)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(file_replace(path, text, strlen(text), err));
    return path;
}

/* The tokenizer of a golden case: the demo's, or a component's. */
static struct tokenizer *open_tokenizer(const char *name, json_t *components)
{
    struct tokenizer *t;
    size_t i;
    json_t *one;
    if (!strcmp(name, "stories260K")) {
        assert_ok(tokenizer_open(&t, repo_path("examples/demo/stories260K"), err));
        return t;
    }
    json_array_foreach(components, i, one)
    {
        if (strcmp(json_string_value(json_object_get(one, "name")), name)) continue;
        char *text = json_dumps(json_object_get(one, "tokenizer"), JSON_COMPACT);
        put("tokenizer.json", text);
        free(text);
    }
    assert_ok(tokenizer_open(&t, folder, err));
    return t;
}

static void check_row(const struct tokenizer *t, const struct chat_template *template, json_t *row, const char *name)
{
    const struct template_options o = {.add_generation_prompt = false};
    json_t *want_ids = json_object_get(row, "ids"), *want = json_object_get(row, "mask");
    struct template_spans spans = {0};
    struct ids ids = {0};
    struct buf text;
    buf_init(&text, 0);
    assert_ok(template_render_spans(template, row, &o, &text, &spans, err));
    assert_string_equal(text.data, json_string_value(json_object_get(row, "text")));
    assert_ok(tokenizer_encode(t, text.data, text.len, false, &ids, err));
    assert_int_equal(ids.n, json_array_size(want_ids));
    unsigned char *mark = malloc(ids.n);
    assert_ok(assistant_mark(t, text.data, text.len, 0, &spans, ids.id, ids.n, mark, err));
    for (size_t i = 0; i < ids.n; i++) {
        assert_int_equal(ids.id[i], json_integer_value(json_array_get(want_ids, i)));
        if (mark[i] != json_integer_value(json_array_get(want, i))) fail_msg("%s: '%s': token %zu ('%s') is marked %d", name, text.data, i, tokenizer_token(t, ids.id[i]), mark[i]);
    }
    free(mark);
    template_spans_release(&spans);
    ids_release(&ids);
    buf_release(&text);
}

static json_t *golden(void)
{
    json_t *j = json_load_file(repo_path("tests/golden/assistant.json"), JSON_ALLOW_NUL, NULL);
    assert_non_null(j);
    return j;
}

static void marks_are_transformers(void **state)
{
    (void)state;
    json_t *j = golden(), *components = json_load_file(repo_path("tests/golden/tok/components.json"), JSON_ALLOW_NUL, NULL), *rows, *row;
    assert_non_null(components);
    struct chat_template *template;
    assert_ok(template_parse(&template, json_string_value(json_object_get(j, "template")), NULL, err));
    const char *name;
    size_t i, n = 0;
    json_object_foreach(json_object_get(j, "cases"), name, rows)
    {
        struct tokenizer *t = open_tokenizer(name, components);
        json_array_foreach(rows, i, row) check_row(t, template, row, name), n++;
        tokenizer_close(t);
    }
    print_message("%zu chats\n", n);
    assert_true(n >= 70);
    template_close(template);
    json_decref(components);
    json_decref(j);
}

static struct dataset *open_rows(const struct tokenizer *t, const char *source, const char *rows, const char *refusal)
{
    struct chat_template *template;
    struct dataset *d;
    sail_err why = {0};
    assert_ok(template_parse(&template, source, NULL, err));
    const struct dataset_options o = {.tokenizer = t, .template = template, .eos = 2, .turn_end = -1, .assistant_only = true};
    const int rc = dataset_open(&d, put("rows.jsonl", rows), &o, &why);
    if (refusal ? !rc || !strstr(why.message, refusal) : rc) fail_msg("%s: '%s'", rows, why.message);
    template_close(template);
    return d;
}

/* Rows of messages, and of a prompt with its answer: the marks of the whole text, and the end that was added. */
static void counted_tokens_are_the_answers(void **state)
{
    (void)state;
    json_t *j = golden(), *rows = json_object_get(json_object_get(j, "cases"), "stories260K"), *row;
    const char *source = json_string_value(json_object_get(j, "template"));
    struct tokenizer *t = open_tokenizer("stories260K", NULL);
    size_t i, answers = 0;
    json_array_foreach(rows, i, row)
    {
        json_t *messages = json_object_get(row, "messages"), *mask = json_object_get(row, "mask"), *prompt = json_copy(messages), *one = json_object(), *two = json_object();
        json_array_remove(prompt, json_array_size(prompt) - 1);
        json_object_set(one, "messages", messages);
        json_object_set_new(two, "prompt", prompt);
        json_object_set_new(two, "completion", json_pack("[O]", json_array_get(messages, json_array_size(messages) - 1)));
        for (int k = 0; k < 2; k++) {
            char *text = json_dumps(k ? two : one, JSON_COMPACT);
            struct dataset *d = open_rows(t, source, text, NULL);
            const struct span s = d->example[0].completion;
            const unsigned char *counted = dataset_counted(d, s);
            const size_t before = json_array_size(mask) + 1 - (size_t)s.n; // the end that no template wrote is the last
            if (!k) assert_int_equal(before, 1);
            for (size_t n = 0; n + 1 < (size_t)s.n; n++) assert_int_equal(counted[n], json_integer_value(json_array_get(mask, before + n)));
            assert_int_equal(counted[s.n - 1], 1);
            assert_int_equal(dataset_ids(d, s)[s.n - 1], 2);
            dataset_free(d);
            free(text);
            answers++;
        }
        json_decref(one);
        json_decref(two);
    }
    assert_true(answers >= 20);
    open_rows(t, "{% for m in messages %}{{ m.content }}{% endfor %}", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}", "rows.jsonl:1: the chat template marks no answer of the assistant ({% generation %} blocks)");
    open_rows(t, source, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}", "marks no answer");
    open_rows(t, source, "{\"prompt\": \"a\", \"completion\": \"b\"}", "expected rows of messages");
    const char turns[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}";
    static const char *const turnless[] = {"{\"text\": \"a\"}", "{\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}], \"completion_ids\": [5]}", "{\"prompt\": \"a\", \"completion\": \"b\"}"};
    for (int k = 0; k < 3; k++) {
        char both[512];
        snprintf(both, sizeof both, "%s\n%s\n", turns, turnless[k]);
        open_rows(t, source, both, "rows.jsonl:2: only the assistant's turns shall count: expected rows of messages");
    }
    tokenizer_close(t);
    json_decref(j);
}

static int prepare(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sail-assistant-%d", (int)getpid());
    return dir_create(folder, NULL);
}

static int clean_up(void **state)
{
    (void)state;
    return dir_remove(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(marks_are_transformers), cmocka_unit_test(counted_tokens_are_the_answers)};
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
