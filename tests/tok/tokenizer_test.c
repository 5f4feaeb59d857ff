/* Whole tokenizers, id for id and back, against the tokenizers library; GGUF's keys against the folder of the same model. */
#include "test.h"

#include <jansson.h>

#include <time.h>
#include <unistd.h>
#include <utf8proc.h>

#include "base/file.h"
#include "io/gguf_writer.h"
#include "tok/internal.h"
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

/* A model folder made of a tokenizer.json. */
static char *folder_of(const char *text)
{
    static char folder[64];
    snprintf(folder, sizeof folder, "/tmp/sail-tok-test-%d", (int)getpid());
    assert_ok(dir_create(folder, err));
    char *path = path_join(folder, "tokenizer.json");
    assert_ok(file_replace(path, text, strlen(text), err));
    free(path);
    return folder;
}

static void every_component(void **state)
{
    (void)state;
    json_t *cases = json_load_file(repo_path("tests/golden/tok/components.json"), JSON_ALLOW_NUL, NULL), *one;
    assert_non_null(cases);
    size_t i;
    json_array_foreach(cases, i, one)
    {
        char *text = json_dumps(json_object_get(one, "tokenizer"), JSON_COMPACT);
        check_tokenizer(folder_of(text), json_object_get(one, "strings"), json_object_get(one, "rows"), json_string_value(json_object_get(one, "name")));
        free(text);
    }
    assert_ok(dir_remove(folder_of("{}"), err));
    json_decref(cases);
}

/* Broken files end with one line that names the place. */
static void broken_files_are_refused(void **state)
{
    (void)state;
    static const char *const files[][2] = {
        {"{}", "model"},
        {"{\"model\": {\"type\": \"Oracle\"}}", "Oracle"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": [], \"merges\": []}}", "vocab"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 99999999999}, \"merges\": []}}", "vocab"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}", "vocab"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}}}", "merges"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}}", "merge 0"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [7]}}", "merge 0"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [], \"dropout\": 0.1}}", "dropout"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [], \"byte_fallback\": 3}}", "byte_fallback"},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\"]], \"unk_id\": 0}}", "vocab[0]"},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 0]], \"unk_id\": 5}}", "unk_id"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}, \"max_input_chars_per_word\": -3}}", "max_input_chars_per_word"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}, \"normalizer\": {\"type\": \"Replace\"}}", "Replace"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}, \"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"////\"}}", "precompiled_charsmap"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}, \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"}, \"behavior\": \"Isolated\"}}", "regular expression"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}, \"pre_tokenizer\": {\"type\": \"Sequence\"}}", "pretokenizers"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}, \"decoder\": 5}", "decoder"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}, \"added_tokens\": [{\"id\": 3}]}", "added_tokens[0]"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}, \"added_tokens\": [{\"id\": 99999999999, \"content\": \"x\"}]}", "added_tokens[0]"},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}, \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"x\"}}]}}", "special token"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct tokenizer *t;
        sail_err why = {0};
        if (tokenizer_open(&t, folder_of(files[i][0]), &why) == SAIL_OK) fail_msg("opened: %s", files[i][0]);
        if (!strstr(why.message, files[i][1]) || strchr(why.message, '\n')) fail_msg("%s: '%s'", files[i][0], why.message);
    }
    assert_ok(dir_remove(folder_of("{}"), err));
}

/* A pattern that would try for ever gives up; the known ones never start to. */
static void hostile_patterns_end(void **state)
{
    (void)state;
    static const char *const patterns[] = {"(a|aa)+$x", "(?:(?=(?:a|aa)+$)a|a)"}; // without end at once; little by little
    char text[40000], spec[400];
    for (size_t i = 0; i < sizeof text; i++) text[i] = i % 30 == 29 ? 'b' : 'a';
    for (size_t k = 0; k < 2; k++) {
        struct tokenizer *t;
        struct ids ids = {0};
        sail_err why = {0};
        snprintf(spec, sizeof spec, "{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"[UNK]\": 0}}, \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"%s\"}, \"behavior\": \"Isolated\"}}", patterns[k]);
        assert_ok(tokenizer_open(&t, folder_of(spec), err));
        const clock_t start = clock();
        assert_int_equal(tokenizer_encode(t, text, sizeof text, false, &ids, &why), SAIL_FAILED);
        if (!strstr(why.message, "did not finish")) fail_msg("%s: '%s'", patterns[k], why.message);
        assert_true(clock() - start < 20 * CLOCKS_PER_SEC);
        tokenizer_close(t);
        ids_release(&ids);
    }
    assert_ok(dir_remove(folder_of("{}"), err));
}

/* The scanners cut as the regular expressions that they stand for: the same pattern in brackets is not a known one. */
static void scanners_equal_patterns(void **state)
{
    (void)state;
    static const char *const parts[] = {"'s", "'LL", "'\xC5\xBF", " ", "  ", "\n", "\r\n", "\t", "\xC2\xA0", "\xE3\x80\x80", "a", "Zz", "\xC3\xA9", "e\xCC\x81", "1", "2345", "\xD9\xA1", "!", "--", "'", "\xF0\x9F\x98\x80", "\xE4\xB8\xAD", "_", "\x00"};
    const char *const patterns[] = {gpt2_pattern, gguf_pre_find("llama-bpe")->regex[0], gguf_pre_find("qwen2")->regex[0]};
    uint64_t random = 88172645463325252u;
    sail_err why = {0};
    for (size_t k = 0; k < 3; k++) {
        scanner *scan = scanner_for(patterns[k]);
        struct pattern regex = {0};
        assert_non_null(scan);
        assert_ok(pattern_regex(&regex, patterns[k], "test", err));
        for (int round = 0; round < 8000; round++) {
            struct buf text;
            buf_init(&text, 0);
            for (int i = 0; i < 12; i++) {
                random ^= random << 13, random ^= random >> 7, random ^= random << 17;
                const size_t which = random % (sizeof parts / sizeof *parts);
                char any[4];
                const uint32_t c = (uint32_t)(random >> 41) % (random >> 63 ? 0x3000 : 0xD800);
                if (round % 2 && random >> 40 & 1 && utf8proc_category((utf8proc_int32_t)c) != UTF8PROC_CATEGORY_CN) // as old as Oniguruma's tables
                    buf_append(&text, any, utf8_put(any, c));
                else
                    buf_append(&text, parts[which], which + 1 == sizeof parts / sizeof *parts ? 1 : strlen(parts[which]));
            }
            struct pattern_search at = {0};
            int rc = SAIL_OK;
            size_t from = 0;
            while (pattern_next(&regex, text.data, text.len, &at, &rc, &why)) {
                const size_t end = scan(text.data, text.len, from);
                if (at.start != from || at.end != end) fail_msg("pattern %zu, '%s': %zu..%zu, scanned %zu..%zu", k, text.data, at.start, at.end, from, end);
                from = end;
            }
            assert_int_equal(rc, SAIL_OK);
            assert_int_equal(from, text.len);
            buf_release(&text);
        }
        pattern_free(&regex);
    }
}

/* What the normalizer takes for composed without looking it up is what NFC leaves alone. */
static void composed_text_is_known(void **state)
{
    (void)state;
    struct normalizers nfc = {0};
    json_t *spec = json_pack("{ss}", "type", "NFC");
    assert_ok(normalizers_read(&nfc, spec, err));
    struct buf text;
    struct normal out = {0};
    buf_init(&text, 0);
    static const uint32_t range[2][2] = {{1, 0x300}, {0x2010, 0x2040}};
    for (int k = 0; k < 2; k++) {
        buf_clear(&text);
        for (uint32_t c = range[k][0]; c < range[k][1]; c++) {
            char piece[4];
            buf_append(&text, piece, utf8_put(piece, c));
        }
        assert_ok(normalizers_run(&nfc, text.data, text.len, &out, NULL, err));
        utf8proc_uint8_t *want = utf8proc_NFC((const utf8proc_uint8_t *)text.data);
        if (strcmp((const char *)want, out.text.data)) fail_msg("U+%04X and those behind it: other text", (unsigned)range[k][0]);
        free(want);
    }
    buf_release(&text);
    normal_release(&out);
    normalizers_free(&nfc);
    json_decref(spec);
}

/* The four forms are utf8proc's own, on any characters and many marks; and a text of nothing but marks takes no time. */
static void forms_are_unicodes(void **state)
{
    (void)state;
    static const struct {
        int options;
        utf8proc_uint8_t *(*want)(const utf8proc_uint8_t *);
    } forms[] = {{UTF8PROC_COMPOSE, utf8proc_NFC}, {UTF8PROC_DECOMPOSE, utf8proc_NFD}, {UTF8PROC_COMPOSE | UTF8PROC_COMPAT, utf8proc_NFKC}, {UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, utf8proc_NFKD}};
    struct buf text, out;
    buf_init(&text, 0);
    buf_init(&out, 0);
    uint64_t random = 88172645463325252u;
    for (int round = 0; round < 20000; round++) {
        buf_clear(&text);
        for (int i = 0; i < 10; i++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            char any[4];
            static const uint32_t base[] = {1, 0x300, 0x900, 0x1100, 0xAC00, 0xF900, 0x1D100, 0xF70}, span[] = {0x2000, 0x70, 0x600, 0x200, 0x2BA0, 0x700, 0x100, 0x20};
            const size_t k = random >> 60 & 7;
            const uint32_t c = base[k] + (uint32_t)(random >> 20) % span[k];
            if (!char_is_unnormalized(c)) buf_append(&text, any, utf8_put(any, c));
        }
        for (size_t k = 0; text.len && k < sizeof forms / sizeof *forms; k++) {
            buf_clear(&out);
            assert_ok(compose_text(text.data, text.len, forms[k].options, &out, err));
            utf8proc_uint8_t *want = forms[k].want((const utf8proc_uint8_t *)text.data);
            if (strcmp((const char *)want, out.data)) fail_msg("form %zu of '%s': '%s', wanted '%s'", k, text.data, out.data, (const char *)want);
            free(want);
        }
    }
    buf_clear(&text);
    for (int i = 0; i < 500000; i++) buf_puts(&text, i % 3 ? "\xE0\xBD\xB3" : "\xCC\x81\xCC\xA7"); // U+0F73 is two marks of classes that change places
    buf_clear(&out);
    assert_ok(compose_text(text.data, text.len, UTF8PROC_COMPOSE, &out, err));
    assert_true(out.len >= text.len);
    buf_release(&text);
    buf_release(&out);
}

/* Replacements of replacements end with an error before memory does. */
static void growth_is_bounded(void **state)
{
    (void)state;
    struct normalizers v = {0};
    json_t *spec = json_pack("{ss s[]}", "type", "Sequence", "normalizers"), *replace = json_pack("{ss s{ss} ss}", "type", "Replace", "pattern", "String", "a", "content", "aaaaaaaa");
    for (int i = 0; i < 20; i++) json_array_append(json_object_get(spec, "normalizers"), replace);
    assert_ok(normalizers_read(&v, spec, err));
    struct normal out = {0};
    size_t head = 1;
    sail_err why = {0};
    assert_int_equal(normalizers_run(&v, "aaaa", 4, &out, &head, &why), SAIL_FAILED);
    assert_non_null(strstr(why.message, "more than"));
    normal_release(&out);
    normalizers_free(&v);
    json_decref(replace);
    json_decref(spec);
}

static void stories_tokenizer(void **state)
{
    (void)state;
    json_t *j = json_load_file(repo_path("tests/golden/tok/stories260K.json"), JSON_ALLOW_NUL, NULL);
    assert_non_null(j);
    check_tokenizer(repo_path("examples/demo/stories260K"), json_object_get(j, "strings"), json_object_get(j, "rows"), "stories260K");
    json_decref(j);
}

/* tokenizer.model, BPE and Unigram, against sentencepiece itself. */
static void sentencepiece_models(void **state)
{
    (void)state;
    json_t *models = json_load_file(repo_path("tests/golden/tok/spm/rows.json"), JSON_ALLOW_NUL, NULL), *rows, *row;
    const char *name;
    assert_non_null(models);
    json_object_foreach(models, name, rows)
    {
        char folder[128];
        struct tokenizer *t;
        size_t i;
        snprintf(folder, sizeof folder, "tests/golden/tok/spm/%s", name);
        assert_ok(tokenizer_open(&t, repo_path(folder), err));
        json_array_foreach(rows, i, row)
        {
            json_t *decoded = json_object_get(row, "decoded");
            check_row(t, json_object_get(row, "text"), json_object_get(row, "ids"), false, name);
            if (json_is_string(decoded)) check_decoded(t, json_object_get(row, "ids"), decoded, false, name);
        }
        print_message("%s: %zu strings\n", name, i);
        tokenizer_close(t);
    }
    json_decref(models);
}

/* A vocabulary-only file with these cuts. */
static void write_vocabulary(const char *path, const char *pre, json_t *golden)
{
    struct gguf_writer w;
    size_t i;
    json_t *one;
    gguf_writer_init(&w);
    gguf_put_string(&w, "general.architecture", "llama");
    gguf_put_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_put_string(&w, "tokenizer.ggml.pre", pre);
    static const char *const lists[][2] = {{"tokens", "tokenizer.ggml.tokens"}, {"merges", "tokenizer.ggml.merges"}};
    for (int k = 0; k < 2; k++) {
        json_t *list = json_object_get(golden, lists[k][0]);
        gguf_put_array(&w, lists[k][1], GGUF_STRING, json_array_size(list));
        json_array_foreach(list, i, one) gguf_put_text(&w, json_string_value(one), json_string_length(one));
    }
    assert_ok(gguf_writer_write(&w, path, NULL, 0, NULL, NULL, err));
    gguf_writer_release(&w);
}

/* Every name in tokenizer.ggml.pre cuts as the tokenizer.json of the models that it stands for; a cut elsewhere has other ids in this vocabulary. */
static void named_cuts(void **state)
{
    (void)state;
    json_t *golden = json_load_file(repo_path("tests/golden/tok/gguf_pre.json"), JSON_ALLOW_NUL, NULL), *kind, *name;
    assert_non_null(golden);
    char path[96];
    snprintf(path, sizeof path, "/tmp/sail-tok-test-%d.gguf", (int)getpid());
    size_t i, k, row;
    json_array_foreach(json_object_get(golden, "cuts"), i, kind)
        json_array_foreach(json_object_get(kind, "names"), k, name)
    {
        struct tokenizer *t;
        json_t *ids;
        write_vocabulary(path, json_string_value(name), golden);
        assert_ok(tokenizer_open(&t, path, err));
        json_array_foreach(json_object_get(kind, "ids"), row, ids) check_row(t, json_array_get(json_object_get(golden, "texts"), row), ids, false, json_string_value(name));
        assert_int_equal(row, json_array_size(json_object_get(golden, "texts")));
        tokenizer_close(t);
        assert_int_equal(unlink(path), 0);
    }
    assert_true(i > 20);
    json_decref(golden);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(stories_tokenizer), cmocka_unit_test(every_component), cmocka_unit_test(broken_files_are_refused), cmocka_unit_test(hostile_patterns_end),
                                       cmocka_unit_test(scanners_equal_patterns), cmocka_unit_test(composed_text_is_known), cmocka_unit_test(growth_is_bounded), cmocka_unit_test(forms_are_unicodes), cmocka_unit_test(sentencepiece_models),
                                       cmocka_unit_test(named_cuts), cmocka_unit_test(reference_tokenizers), cmocka_unit_test(gguf_equals_folder), cmocka_unit_test(ids_outside_the_vocabulary_are_named)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
