/* base and tensor: random numbers, buffers, number types. */
#include "test.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tensor/tensor.h"

/* Philox 4x32-10 known answer (Random123's kat_vectors): counter and key all ones. */
static void philox_is_the_published_one(void **state)
{
    (void)state;
    uint32_t r[4];
    rng_u32x4(r, 0, 0, 0, 0);
    const uint32_t zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    for (int i = 0; i < 4; i++) assert_int_equal(r[i], zero[i]);
}

static void messages_are_one_line_of_text(void **state)
{
    (void)state;
    static const char *const said[][2] = {{"a\nb\x1b[1m\x7f", "a?b?[1m?"}, {"caf\xC3\xA9 \xE4\xB8\xAD \xF0\x9F\x98\x80", "caf\xC3\xA9 \xE4\xB8\xAD \xF0\x9F\x98\x80"}, {"\x9A\xFF\xC0\xAF", "????"},
                                          {"\xED\xA0\x80\xF4\x90\x80\x80", "???????"}, {"cut \xE4\xB8", "cut ??"}};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        sail_err e = {0};
        err_set(&e, SAIL_FAILED, "%s", said[i][0]);
        assert_string_equal(e.message, said[i][1]);
    }
}

static void streams_and_steps_differ(void **state)
{
    (void)state;
    assert_true(rng_u64(1, RNG_LABEL, 2, 3) == rng_u64(1, RNG_LABEL, 2, 3));
    assert_true(rng_u64(1, RNG_LABEL, 2, 3) != rng_u64(1, RNG_ROUTE, 2, 3));
    assert_true(rng_u64(1, RNG_LABEL, 2, 3) != rng_u64(1, RNG_LABEL, 3, 3));
    assert_true(rng_u64(1, RNG_LABEL, 2, 3) != rng_u64(2, RNG_LABEL, 2, 3));
    assert_true(rng_u64(1, RNG_LABEL, 2, 3) != rng_u64(1, RNG_LABEL, 2, 4));
}

static void permutation_holds_everything_once(void **state)
{
    (void)state;
    int64_t perm[100];
    bool seen[100] = {0};
    rng_permutation(perm, 100, 5, RNG_DATA_ORDER, 0);
    for (int i = 0; i < 100; i++) {
        assert_false(seen[perm[i]]);
        seen[perm[i]] = true;
    }
}

static void f16_round_trips_every_value(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f16_to_f32((uint16_t)h);
        if (isnan(f)) continue;
        assert_int_equal(f32_to_f16(f), h);
    }
    assert_int_equal(f32_to_f16(65519.0f), 0x7BFF);
    assert_int_equal(f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(f32_to_f16(0x1p-25f), 0); // half of the smallest: to even
    assert_int_equal(f32_to_f16(0x1.8p-25f), 1);
}

static void bf16_rounds_to_even(void **state)
{
    (void)state;
    assert_int_equal(f32_to_bf16(1.0f), 0x3F80);
    assert_int_equal(f32_to_bf16(1.00390625f), 0x3F80); // halfway: even
    assert_int_equal(f32_to_bf16(1.01171875f), 0x3F82);
    assert_true(isnan(bf16_to_f32(f32_to_bf16(NAN))));
}

static void json_strings_are_escaped(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    buf_json_string(&b, "a\"\\\n\x01\xff\xc3\xa9", 8);
    assert_string_equal(b.data, "\"a\\\"\\\\\\n\\u0001\xEF\xBF\xBD\xC3\xA9\"");
    buf_clear(&b);
    buf_json_double(&b, 0.1);
    assert_string_equal(b.data, "0.1");
    buf_release(&b);
}

static void buffers_keep_their_maximum(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 4);
    assert_true(buf_puts(&b, "abcd"));
    assert_false(buf_putc(&b, 'e'));
    assert_true(b.failed);
    assert_string_equal(b.data, "abcd");
    buf_release(&b);
}

static void durations_are_short(void **state)
{
    (void)state;
    static const struct {
        double seconds;
        const char *text;
    } of[] = {{-1, "0s"}, {0, "0s"}, {59.9, "59s"}, {60, "1m00s"}, {63.2, "1m03s"}, {3599, "59m59s"}, {3600, "1h00m"}, {7500, "2h05m"}, {360000, "100h00m"}, {INFINITY, "277777777777h46m"}};
    char text[32];
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) assert_string_equal(clock_duration(text, of[i].seconds), of[i].text);
}

/* What formatting appends is what appending it appends, up to the maximum. */
static void formatted_text_goes_straight_in(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 600);
    for (int i = 0; i < 100; i++) assert_true(buf_printf(&b, "%s%03d", i % 2 ? "" : "-", i));
    assert_int_equal(b.len, 350);
    assert_int_equal(strlen(b.data), 350);
    assert_string_equal(b.data + 340, "097-098099");
    assert_false(buf_printf(&b, "%300s", "x"));
    assert_true(b.failed && b.len == 350);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_is_the_published_one), cmocka_unit_test(messages_are_one_line_of_text), cmocka_unit_test(streams_and_steps_differ),
        cmocka_unit_test(permutation_holds_everything_once), cmocka_unit_test(f16_round_trips_every_value),
        cmocka_unit_test(bf16_rounds_to_even), cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(buffers_keep_their_maximum), cmocka_unit_test(formatted_text_goes_straight_in), cmocka_unit_test(durations_are_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
