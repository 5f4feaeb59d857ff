/* The Parquet reader against pyarrow's rows, and what it refuses: unknown kinds by name, damaged and hostile files without harm. */
#include "test.h"

#include <jansson.h>

#include "base/file.h"
#include "parquet/parquet.h"

static bool needs_all(const void *context, const char *column) { return context || column; }
static bool needs_prompt(const void *context, const char *column) { return context || !strcmp(column, "prompt"); }

/* All rows; NULL and the reason when it is refused. */
static json_t *read_rows(const char *path, parquet_needs needs, sail_err *why)
{
    struct parquet *p;
    json_t *rows = json_array(), *row = NULL;
    int rc = parquet_open(&p, path, needs, NULL, why);
    while (!rc && !(rc = parquet_next(p, &row, why)) && row) json_array_append_new(rows, row);
    parquet_close(p);
    if (!rc) return rows;
    json_decref(rows);
    return NULL;
}

static json_t *read_json_lines(const char *path)
{
    FILE *f = fopen(path, "rb");
    json_t *rows = json_array(), *row;
    while ((row = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL))) json_array_append_new(rows, row);
    fclose(f);
    return rows;
}

static const char *golden(const char *name)
{
    static char relative[200];
    snprintf(relative, sizeof relative, "tests/golden/parquet/%s", name);
    return repo_path(relative);
}

static void assert_rows(const char *path, json_t *want)
{
    sail_err why = {0};
    json_t *got = read_rows(path, needs_all, &why);
    if (!got) fail_msg("%s: %s", path, why.message);
    assert_int_equal(json_array_size(got), json_array_size(want));
    for (size_t i = 0; i < json_array_size(want); i++) {
        if (json_equal(json_array_get(got, i), json_array_get(want, i))) continue;
        fail_msg("%s: row %zu is %s", path, i, json_dumps(json_array_get(got, i), JSON_COMPACT));
    }
    json_decref(got);
}

static void every_way_to_write_a_table_gives_its_rows(void **state)
{
    (void)state;
    static const char *const files[] = {"none-plain-v1",          "snappy-dictionary-v1",          "zstd-dictionary-v2", "gzip-plain-v2",
                                        "snappy-groups-pages-v1", "none-dictionary-overflows-v2", "older-lists",        "large-types"};
    json_t *want = read_json_lines(golden("rows.jsonl"));
    assert_int_equal(json_array_size(want), 45);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[100];
        snprintf(name, sizeof name, "%s.parquet", files[i]);
        assert_rows(golden(name), want);
    }
    json_decref(want);
}

static void older_list_shapes(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"list-bare.parquet", "[{\"a\": [\"x\", \"y\"]}, {\"a\": []}, {\"a\": [\"z\"]}]"},
        {"list-two-levels.parquet", "[{\"a\": [\"x\", \"y\"]}, {\"a\": []}, {\"a\": [\"z\"]}, {\"a\": null}]"},
        {"list-two-levels-struct.parquet", "[{\"a\": [{\"r\": \"u\", \"c\": \"x\"}, {\"r\": \"v\", \"c\": \"y\"}]}, {\"a\": null}]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *want = json_loads(cases[i][1], 0, NULL);
        assert_rows(golden(cases[i][0]), want);
        json_decref(want);
    }
}

static void unknown_columns_are_left_out_unless_needed(void **state)
{
    (void)state;
    sail_err why = {0};
    json_t *got = read_rows(golden("left-out.parquet"), needs_prompt, &why), *want = json_loads("[{\"prompt\": \"x\", \"ok\": 1, \"image\": null, \"far\": null, \"large\": null},"
                         "{\"prompt\": \"y\", \"ok\": 2, \"image\": \"text\", \"far\": 0.5, \"large\": 7}]", 0, NULL);
    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
    assert_null(read_rows(golden("left-out.parquet"), needs_all, &why));
    if (!strstr(why.message, "column 'when' cannot be read: 'when' is of a kind that is not read (timestamp)")) fail_msg("%s", why.message);
}

static void refusals(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"refused-delta", "column 'prompt' cannot be read: 'prompt' has the encoding DELTA_BYTE_ARRAY"},
        {"refused-lz4", "column 'prompt' cannot be read: 'prompt' is compressed with LZ4_RAW"},
        {"refused-brotli", "column 'prompt' cannot be read: 'prompt' is compressed with BROTLI"},
        {"refused-not-utf8", "column 'prompt', row group 0: expected text in UTF-8"},
        {"refused-infinite", "column 'margin', row group 0: expected a finite number, got inf"},
        {"refused-unsigned", "column 'id', row group 0: expected an integer of at most 9223372036854775807, got 9223372036854775808"},
        {"hostile-disagree", "column 'a.a_tuple.c', row group 0: damaged levels"},
        {"hostile-offset", "28 bytes at offset 1000000000 do not fit"},
        {"hostile-size", "4611686018427387904 bytes at offset 4 do not fit"},
        {"hostile-negative", "28 bytes at offset -5 do not fit"},
        {"hostile-count", "its page has fewer levels than values"},
        {"hostile-rows", "1 values for 2 rows"},
        {"hostile-values", "2 values for 1 rows"},
        {"hostile-endless", "its 117 bytes make more than"},
        {"hostile-endless-list", "its 161 bytes make more than"},
        {"hostile-level", "a level of 7: expected at most 1"},
        {"hostile-deep", "nested in more than 24 levels"},
        {"hostile-children", "'a' has 1000000 children in a schema that has 1 elements after it"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[100];
        sail_err why = {0};
        struct parquet *p;
        json_t *row = NULL;
        snprintf(name, sizeof name, "%s.parquet", cases[i][0]);
        int rc = parquet_open(&p, golden(name), needs_all, NULL, &why);
        while (!rc && !(rc = parquet_next(p, &row, &why)) && row) json_decref(row); // endless rows are not to be kept here
        parquet_close(p);
        if (!rc || !strstr(why.message, cases[i][1]) || !strstr(why.message, name)) fail_msg("%s: status %d, '%s'", name, rc, why.message);
    }
}

/* ---------------------------------------------------------------- damaged files */

static char scratch[256];

static void put(const char *data, size_t n)
{
    FILE *f = fopen(scratch, "wb");
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static void not_parquet(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } cases[] = {
        {"", 0, "0 bytes: expected a Parquet file"},
        {"PAR1PAR1", 8, "8 bytes: expected a Parquet file"},
        {"{\"prompt\": \"x\"}\n", 16, "PAR1 at its beginning and its end"},
        {"PAR1\0\0\0\0\0\0\0\0", 12, "it is cut short"},
        {"PAR1\1\0\0\0PARE", 12, "an encrypted Parquet file (PARE)"},
        {"PAR1\xff\xff\xff\xffPAR1", 12, "a footer of 4294967295 bytes in a file of 12"},
        {"PAR1\0\0\0\0PAR1", 12, "damaged Parquet footer: it ends early"},
        {"PAR1\0\1\0\0\0PAR1", 13, "the footer has no schema"},
        {"PAR1\x29\xfc\xff\xff\xff\xff\x0f\0\x08\0\0\0PAR1", 20, "a list that is longer than the rest"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sail_err why = {0};
        put(cases[i].bytes, cases[i].n);
        assert_null(read_rows(scratch, needs_all, &why));
        if (!strstr(why.message, cases[i].says)) fail_msg("case %zu: '%s'", i, why.message);
    }
}

static void cut_short_anywhere(void **state)
{
    (void)state;
    char *data;
    size_t n;
    sail_err why;
    assert_ok(file_read(golden("zstd-dictionary-v2.parquet"), 1 << 20, &data, &n, err));
    for (size_t len = 0; len < n; len += len < 256 || len > n - 1024 ? 1 : 7) {
        put(data, len);
        assert_null(read_rows(scratch, needs_all, &why));
    }
    free(data);
}

/* With checksums, a changed byte of the pages is never a changed value. Anywhere else it may change names and kinds, but does no harm. */
static void any_byte_changed(void **state)
{
    (void)state;
    static const char *const files[] = {"gzip-plain-v2.parquet", "zstd-dictionary-v2.parquet", "list-two-levels-struct.parquet"};
    json_t *want = read_json_lines(golden("rows.jsonl"));
    for (size_t k = 0; k < 3; k++) {
        char *data;
        size_t n, refused = 0;
        assert_ok(file_read(golden(files[k]), 1 << 20, &data, &n, err));
        uint32_t footer;
        memcpy(&footer, data + n - 8, 4);
        for (size_t i = 0; i < n; i++) {
            const char was = data[i];
            sail_err why = {0};
            data[i] = (char)(i % 3 == 0 ? was ^ 1 : i % 3 == 1 ? was ^ 0x80 : ~was);
            put(data, n);
            json_t *got = read_rows(scratch, needs_prompt, &why);
            if (k == 0 && got && i < n - 8 - footer && !json_equal(got, want)) fail_msg("byte %zu changed the rows unseen", i);
            if (!got && !strstr(why.message, scratch)) fail_msg("byte %zu: '%s'", i, why.message);
            refused += !got;
            json_decref(got);
            data[i] = was;
        }
        assert_true(refused > n / 4);
        free(data);
    }
    json_decref(want);
}

/* Rows of real files, counted and known by their first and last. */
static void real_files(void **state)
{
    (void)state;
    NEED_SHARED(gsm8k, "data/math/verl-gsm8k-test.parquet")
    sail_err why = {0};
    json_t *rows = read_rows(gsm8k, needs_all, &why), *answers = read_json_lines(shared_path("data/math/test.jsonl"));
    if (!rows) fail_msg("%s", why.message);
    assert_int_equal(json_array_size(rows), 1319);
    assert_int_equal(json_array_size(answers), 1319);
    for (size_t i = 0; i < 1319; i++) {
        const json_t *info = json_object_get(json_array_get(rows, i), "extra_info"), *row = json_array_get(answers, i);
        assert_true(json_equal(json_object_get(info, "question"), json_object_get(row, "question")));
        assert_true(json_equal(json_object_get(info, "answer"), json_object_get(row, "answer")));
    }
    json_decref(rows);
    json_decref(answers);
    static const struct {
        const char *name;
        size_t n;
    } files[] = {{"train", 800}, {"train_b", 800}, {"test", 200}, {"test_b", 200}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[200];
        snprintf(path, sizeof path, "data/models/verl-arith-llama/data/%s.parquet", files[i].name);
        rows = read_rows(shared_path(path), needs_all, &why);
        if (!rows) fail_msg("%s", why.message);
        assert_int_equal(json_array_size(rows), files[i].n);
        json_decref(rows);
    }
}

int main(void)
{
    snprintf(scratch, sizeof scratch, "/tmp/sail-parquet-%ld.parquet", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_to_write_a_table_gives_its_rows), cmocka_unit_test(older_list_shapes),
        cmocka_unit_test(unknown_columns_are_left_out_unless_needed), cmocka_unit_test(refusals),
        cmocka_unit_test(not_parquet), cmocka_unit_test(cut_short_anywhere), cmocka_unit_test(any_byte_changed), cmocka_unit_test(real_files),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(scratch);
    return failed;
}
