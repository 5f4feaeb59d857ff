/* Where an answer is cut: at the ends of lines, or behind tokens, in the first 0.7 of it. */
#include "test.h"

#include "train/run.h"

static struct text_pipeline text;

/* What stays of the text. */
static const char *cut(const char *whole, bool lines, double u)
{
    static char out[256];
    struct ids all = {0};
    int32_t room[256], n;
    struct buf b;
    buf_init(&b, 0);
    assert_ok(tokenizer_encode(text.tokenizer, whole, strlen(whole), false, &all, err));
    assert_true(all.n < 256);
    assert_ok(prefix_cut(text.tokenizer, lines, all.id, (int32_t)all.n, u, room, &n, err));
    assert_ok(tokenizer_decode(text.tokenizer, all.id, (size_t)n, true, &b, err));
    snprintf(out, sizeof out, "%s", b.data ? b.data : "");
    buf_release(&b);
    ids_release(&all);
    return out;
}

static void ends_of_lines(void **state)
{
    (void)state;
    static const char six[] = "one\ntwo\n\n  \nthree\nfour\nfive\nsix"; // int(0.7 * 6) = 4 places
    assert_string_equal(cut(six, true, 0), "one\n");
    assert_string_equal(cut(six, true, 0.26), "one\ntwo\n");
    assert_string_equal(cut(six, true, 0.5), "one\ntwo\n\n  \nthree\n");
    assert_string_equal(cut(six, true, 0.999), "one\ntwo\n\n  \nthree\nfour\n");
    assert_string_equal(cut("one\ntwo\nthree\nfour\n\n\n", true, 0.5), ""); // four lines
    assert_string_equal(cut("", true, 0.5), "");
}

static void behind_tokens(void **state)
{
    (void)state;
    struct ids all = {0};
    static const char story[] = "Once upon a time, there was a little girl";
    assert_ok(tokenizer_encode(text.tokenizer, story, strlen(story), false, &all, err));
    const int most = (int)(0.7 * (double)all.n);
    int32_t n;
    for (int k = 0; k < most; k++) {
        assert_ok(prefix_cut(text.tokenizer, false, all.id, (int32_t)all.n, (k + 0.5) / most, NULL, &n, err));
        assert_int_equal(n, k + 1);
    }
    assert_ok(prefix_cut(text.tokenizer, false, all.id, 1, 0.9, NULL, &n, err));
    assert_int_equal(n, 0);
    assert_ok(prefix_cut(text.tokenizer, false, all.id, 2, 0.9, NULL, &n, err));
    assert_int_equal(n, 1);
    ids_release(&all);
}

int main(void)
{
    sail_config *config;
    sail_err why = {0};
    if (sail_config_create(&config, "align", &why) || text_pipeline_open(&text, repo_path("examples/demo/stories260K"), NULL, 0, config, &why)) {
        fprintf(stderr, "%s\n", why.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(ends_of_lines), cmocka_unit_test(behind_tokens)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    text_pipeline_close(&text);
    sail_config_free(config);
    return failed;
}
