/* Whole tokenizers, id for id and back, against the tokenizers library; GGUF's keys against the folder of the same model. */
#include "test.h"

#include <jansson.h>

#include "tok/tokenizer.h"

static void check_row(const struct tokenizer *t, json_t *text, json_t *want, bool special, const char *name)
{
    struct ids ids = {0};
    assert_ok(tokenizer_encode(t, json_string_value(text), json_string_length(text), special, &ids, err));
    bool same = ids.n == json_array_size(want);
    for (size_t i = 0; same && i < ids.n; i++) same = ids.id[i] == json_integer_value(json_array_get(want, i));
    if (!same) fail_msg("%s: '%.60s' has other ids", name, json_string_value(text));
    ids_release(&ids);
}

static void check_decoded(const struct tokenizer *t, json_t *ids, json_t *want, bool skip, const char *name)
{
    int32_t id[4096];
    const size_t n = json_array_size(ids);
    assert_true(n <= 4096);
    for (size_t i = 0; i < n; i++) id[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    struct buf text;
    buf_init(&text, 0);
    assert_ok(tokenizer_decode(t, id, n, skip, &text, err));
    if (text.len != json_string_length(want) || (text.len && memcmp(text.data, json_string_value(want), text.len))) fail_msg("%s: decoded '%.60s'", name, text.data ? text.data : "");
    buf_release(&text);
}

static void check_tokenizer(const char *path, json_t *strings, json_t *rows, const char *name)
{
    struct tokenizer *t;
    assert_ok(tokenizer_open(&t, path, err));
    size_t i;
    json_t *row;
    assert_int_equal(json_array_size(rows), json_array_size(strings));
    json_array_foreach(rows, i, row)
    {
        check_row(t, json_array_get(strings, i), json_object_get(row, "ids"), false, name);
        check_row(t, json_array_get(strings, i), json_object_get(row, "ids_special"), true, name);
        check_decoded(t, json_object_get(row, "ids"), json_object_get(row, "decoded"), false, name);
        check_decoded(t, json_object_get(row, "ids_special"), json_object_get(row, "decoded_skip_special"), true, name);
    }
    print_message("%s: %zu strings\n", name, i);
    tokenizer_close(t);
}

static void stories_tokenizer(void **state)
{
    (void)state;
    json_t *j = json_load_file(repo_path("tests/golden/tok/stories260K.json"), JSON_ALLOW_NUL, NULL);
    assert_non_null(j);
    check_tokenizer(repo_path("examples/demo/stories260K"), json_object_get(j, "strings"), json_object_get(j, "rows"), "stories260K");
    json_decref(j);
}

static void reference_tokenizers(void **state)
{
    (void)state;
    NEED_SHARED(path, "refs/tokenize.json");
    json_t *j = json_load_file(path, JSON_ALLOW_NUL, NULL), *rows;
    assert_non_null(j);
    const char *name;
    json_object_foreach(json_object_get(j, "tokenizers"), name, rows)
    {
        char folder[256];
        snprintf(folder, sizeof folder, "data/%s", name);
        check_tokenizer(shared_path(folder), json_object_get(j, "strings"), rows, name);
    }
    json_decref(j);
}

/* The same text through the GGUF's own keys and through tokenizer.json. */
static void gguf_equals_folder(void **state)
{
    (void)state;
    NEED_SHARED(reference, "refs/tokenize.json");
    static const char *const pairs[][2] = {{"data/models/smollm2-135m-instruct/smollm2-135m-instruct-q4_1.gguf", "data/models/smollm2-135m-instruct"},
                                           {"data/models/stories260K/stories260K-f32.gguf", "data/models/stories260K"}};
    json_t *j = json_load_file(reference, JSON_ALLOW_NUL, NULL), *text;
    assert_non_null(j);
    for (int k = 0; k < 2; k++) {
        struct tokenizer *a, *b;
        assert_ok(tokenizer_open(&a, shared_path(pairs[k][0]), err));
        assert_ok(tokenizer_open(&b, shared_path(pairs[k][1]), err));
        size_t i;
        json_array_foreach(json_object_get(j, "strings"), i, text)
        {
            struct ids x = {0}, y = {0};
            assert_ok(tokenizer_encode(a, json_string_value(text), json_string_length(text), false, &x, err));
            assert_ok(tokenizer_encode(b, json_string_value(text), json_string_length(text), false, &y, err));
            if (x.n != y.n || (x.n && memcmp(x.id, y.id, x.n * sizeof *x.id))) fail_msg("%s: string %zu differs", pairs[k][0], i);
            ids_release(&x);
            ids_release(&y);
        }
        tokenizer_close(a);
        tokenizer_close(b);
    }
    json_decref(j);
}

static void ids_outside_the_vocabulary_are_named(void **state)
{
    (void)state;
    struct tokenizer *t;
    struct buf text;
    sail_err why = {0};
    const int32_t id = 70000;
    buf_init(&text, 0);
    assert_ok(tokenizer_open(&t, repo_path("examples/demo/stories260K"), err));
    assert_int_equal(tokenizer_decode(t, &id, 1, false, &text, &why), SAIL_FAILED);
    assert_non_null(strstr(why.message, "70000"));
    tokenizer_close(t);
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(stories_tokenizer), cmocka_unit_test(reference_tokenizers), cmocka_unit_test(gguf_equals_folder), cmocka_unit_test(ids_outside_the_vocabulary_are_named)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
