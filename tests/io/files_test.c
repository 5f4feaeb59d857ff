/* What the readers of model files refuse, byte by byte; quantised blocks; durable replacement; the same weights from both kinds of file. */
#include "test.h"

#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/gguf.h"
#include "io/gguf_dequant.h"
#include "io/safetensors.h"
#include "io/weights.h"

static char folder[256];

static const char *in_folder(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_st(const char *header, uint64_t claimed, size_t data)
{
    FILE *f = fopen(in_folder("x.safetensors"), "wb");
    fwrite(&claimed, 8, 1, f);
    fputs(header, f);
    for (size_t i = 0; i < data; i++) fputc((int)i, f);
    fclose(f);
}

static void safetensors_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        int64_t claimed; // -1: the true length
        size_t data;
        const char *says; // NULL: accepted
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", -1, 8, NULL},
        {"{}", -1, 0, NULL},
        {" {\"a\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[0,0]}}  ", -1, 0, NULL},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", -1, 9, "the tensors end at offset 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", -1, 7, "its data end at offset 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", -1, 12, "a hole or an overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", -1, 8, "a hole or an overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", -1, 8, "expected 12 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4,0],\"data_offsets\":[0,0]}}", -1, 0, "overflows"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,0]}}", -1, 0, "negative"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", -1, 4, "whole number"},
        {"{\"a\":{\"dtype\":\"Q9\",\"shape\":[1],\"data_offsets\":[0,4]}}", -1, 4, "'Q9'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", -1, 8, "duplicate"},
        {"{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", -1, 4, "not JSON"},
        {"{\"__metadata__\":{\"a\":1}}", -1, 0, "expected a string"},
        {"{\"a\"", -1, 0, "not JSON"},
        {"{}", 1 << 30, 0, "at most 100000000"},
        {"{}", 3, 0, "does not fit"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct safetensors s;
        sail_err why = {0};
        write_st(cases[i].header, cases[i].claimed < 0 ? strlen(cases[i].header) : (uint64_t)cases[i].claimed, cases[i].data);
        const int rc = safetensors_open(&s, in_folder("x.safetensors"), &why);
        if ((rc == SAIL_OK) != (cases[i].says == NULL) || (rc && !strstr(why.message, cases[i].says))) fail_msg("case %zu: status %d, '%s'", i, rc, why.message);
        if (!rc) safetensors_close(&s);
    }
}

static void safetensors_round_trip(void **state)
{
    (void)state;
    float a[6] = {1, 2, 3, 4, 5, 6};
    uint16_t b[2] = {7, 8};
    const struct tensor t[2] = {{.name = "b", .dtype = DTYPE_BF16, .n_dim = 1, .dim = {2}, .data = b}, {.name = "a", .dtype = DTYPE_F32, .n_dim = 2, .dim = {2, 3}, .data = a}};
    static const char *const metadata[1][2] = {{"loss", "0.5"}};
    assert_ok(safetensors_write(in_folder("y.safetensors"), t, 2, metadata, 1, err));
    struct safetensors s;
    assert_ok(safetensors_open(&s, in_folder("y.safetensors"), err));
    assert_int_equal(s.n, 2);
    assert_memory_equal(safetensors_find(&s, "a")->data, a, sizeof a);
    assert_memory_equal(safetensors_find(&s, "b")->data, b, sizeof b);
    assert_true((uintptr_t)safetensors_find(&s, "a")->data % 8 == 0);
    safetensors_close(&s);
}

/* A GGUF with one key and one tensor; each byte cut off, and each byte of its head changed, must end in an error or a sound file, never in a crash. */
static void gguf_survives_cuts_and_flips(void **state)
{
    (void)state;
    unsigned char file[512];
    size_t n = 0;
#define PUT(type, value)              \
    do {                              \
        type v_ = (type)(value);      \
        memcpy(file + n, &v_, sizeof v_); \
        n += sizeof v_;               \
    } while (0)
#define PUT_STRING(text)                       \
    do {                                       \
        PUT(uint64_t, strlen(text));           \
        memcpy(file + n, text, strlen(text));  \
        n += strlen(text);                     \
    } while (0)
    memcpy(file, "GGUF", 4);
    n = 4;
    PUT(uint32_t, 3);
    PUT(uint64_t, 1);
    PUT(uint64_t, 2);
    PUT_STRING("general.architecture");
    PUT(uint32_t, GGUF_STRING);
    PUT_STRING("llama");
    PUT_STRING("tokenizer.ggml.tokens");
    PUT(uint32_t, GGUF_ARRAY);
    PUT(uint32_t, GGUF_STRING);
    PUT(uint64_t, 2);
    PUT_STRING("ab");
    PUT_STRING("c");
    PUT_STRING("token_embd.weight");
    PUT(uint32_t, 2);
    PUT(uint64_t, 32);
    PUT(uint64_t, 1);
    PUT(uint32_t, GGML_Q8_0);
    PUT(uint64_t, 0);
    n = (n + 31) & ~(size_t)31;
    for (int i = 0; i < 34; i++) file[n++] = (unsigned char)i;
    for (size_t cut = 0; cut <= n; cut++) {
        struct gguf *g;
        assert_ok(file_replace(in_folder("x.gguf"), file, cut, err));
        sail_err why = {0};
        const int rc = gguf_open(&g, in_folder("x.gguf"), &why);
        assert_true((rc == SAIL_OK) == (cut == n));
        if (!rc) {
            size_t len;
            assert_string_equal(gguf_string(g, "general.architecture"), "llama");
            assert_memory_equal(gguf_array_string(g, "tokenizer.ggml.tokens", 1, &len), "c", 1);
            gguf_close(g);
        }
    }
    for (size_t at = 0; at < n; at++)
        for (int flip = 0; flip < 3; flip++) {
            unsigned char copy[512];
            struct gguf *g;
            memcpy(copy, file, n);
            copy[at] = (unsigned char)(flip == 0 ? 0xFF : flip == 1 ? 0 : copy[at] ^ 0x80);
            assert_ok(file_replace(in_folder("x.gguf"), copy, n, err));
            if (gguf_open(&g, in_folder("x.gguf"), NULL) == SAIL_OK) gguf_close(g);
        }
}

/* Blocks made by hand, one value of each kind of field. */
static void blocks_by_hand(void **state)
{
    (void)state;
    float y[256];
    unsigned char q8[34] = {0x00, 0x3C}, q4[18] = {0x00, 0x40}, q41[20] = {0x00, 0x3C, 0x00, 0xBC}; // d = 1; d = 2; d = 1, m = -1
    q8[2] = 5;
    q8[33] = 0xFD;
    ggml_dequantise(y, q8, GGML_Q8_0, 32);
    assert_true(y[0] == 5 && y[31] == -3 && y[1] == 0);
    memset(q4 + 2, 0x88, 16);
    q4[2] = 0xF1;
    ggml_dequantise(y, q4, GGML_Q4_0, 32);
    assert_true(y[0] == -14 && y[16] == 14 && y[1] == 0);
    q41[4] = 0x3A;
    ggml_dequantise(y, q41, GGML_Q4_1, 32);
    assert_true(y[0] == 9 && y[16] == 2 && y[1] == -1);
    unsigned char q6[210] = {0};
    q6[209] = 0x3C; // d = 1
    q6[192] = 2;    // scale of the first 16
    q6[0] = 0x05;
    q6[128] = 0x03;
    ggml_dequantise(y, q6, GGML_Q6_K, 256);
    assert_true(y[0] == 2 * ((5 | 3 << 4) - 32) && y[1] == 2 * -32 && y[16] == 0);
}

/* The bytes that llama.cpp's own Python package makes of the same values; zeros stay zeros. */
static void eight_bit_blocks_are_the_reference(void **state)
{
    (void)state;
    static const unsigned char want[34] = {201, 30, 127, 123, 17, 174, 163, 232, 51, 69, 26, 226, 206, 232, 17, 35, 21, 248, 231, 239, 3, 17, 14, 0, 245, 245, 255, 7, 8, 2, 252, 250, 254, 3};
    unsigned char got[68];
    float x[64] = {0};
    for (int i = 0; i < 32; i++) x[i] = (float)(sin(i + 1) * exp(-i / 9.0));
    memset(got, 7, sizeof got);
    ggml_quantise_q8_0(got, x, 64);
    assert_memory_equal(got, want, 34);
    for (int i = 34; i < 68; i++) assert_int_equal(got[i], 0);
}

/* The folder and the GGUF of the same model hold the same numbers. */
static void both_kinds_of_file_agree(void **state)
{
    (void)state;
    NEED_SHARED(a, "data/models/stories260K");
    NEED_SHARED(b, "data/models/stories260K/stories260K-f32.gguf");
    struct weights *x, *y;
    assert_ok(weights_open(&x, a, err));
    assert_ok(weights_open(&y, b, err));
    for (int64_t i = 0; i < weights_count(x); i++) {
        const struct tensor *t = weights_at(x, i), *u = weights_find(y, t->name);
        if (!u) fail_msg("%s is not in the GGUF", t->name);
        const int64_t n = tensor_count(t);
        assert_int_equal(n, tensor_count(u));
        float *p = malloc((size_t)n * 4), *q = malloc((size_t)n * 4);
        assert_ok(weights_load(x, t, p, DTYPE_F32, err));
        assert_ok(weights_load(y, u, q, DTYPE_F32, err));
        assert_memory_equal(p, q, (size_t)n * 4);
        free(p);
        free(q);
    }
    weights_close(x);
    weights_close(y);
}

static void an_index_may_not_leave_its_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", ".x.safetensors", "x.bin", ""};
    assert_ok(file_replace(in_folder("config.json"), "{}", 2, err));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct weights *w;
        sail_err why = {0};
        char *text = mem_printf("{\"weight_map\": {\"a\": \"%s\"}}", names[i]);
        assert_ok(file_replace(in_folder("model.safetensors.index.json"), text, strlen(text), err));
        free(text);
        assert_int_equal(weights_open(&w, folder, &why), SAIL_FAILED);
        assert_non_null(strstr(why.message, "expected a plain .safetensors file name"));
    }
}

static void folders_appear_whole_or_not_at_all(void **state)
{
    (void)state;
    struct dir_writer w;
    assert_ok(dir_writer_open(&w, in_folder("out"), err));
    char *inner = path_join(w.temporary, "f");
    assert_ok(file_replace(inner, "1", 1, err));
    free(inner);
    assert_false(path_exists(in_folder("out")));
    dir_writer_abandon(&w);
    assert_false(path_exists(in_folder("out")));
    for (int turn = 0; turn < 2; turn++) { // the second replaces the first
        assert_ok(dir_writer_open(&w, in_folder("out"), err));
        inner = path_join(w.temporary, "f");
        assert_ok(file_replace(inner, turn ? "2" : "1", 1, err));
        free(inner);
        assert_ok(dir_writer_commit(&w, err));
        char *data;
        size_t n;
        assert_ok(file_read(in_folder("out/f"), 10, &data, &n, err));
        assert_true(data[0] == (turn ? '2' : '1'));
        free(data);
    }
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/sail-io-%d", (int)getpid());
    mkdir(folder, 0700);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors_refusals),     cmocka_unit_test(safetensors_round_trip), cmocka_unit_test(gguf_survives_cuts_and_flips), cmocka_unit_test(blocks_by_hand), cmocka_unit_test(eight_bit_blocks_are_the_reference),
        cmocka_unit_test(both_kinds_of_file_agree), cmocka_unit_test(an_index_may_not_leave_its_folder), cmocka_unit_test(folders_appear_whole_or_not_at_all),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dir_remove(folder, NULL);
    return failed;
}
