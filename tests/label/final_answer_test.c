/* Final answers and their majority, by hand; GSM8K's own solutions where they are at hand. */
#include "test.h"

#include "base/file.h"
#include "label/labeler.h"

static const struct {
    const char *text, *answer;
} texts[] = {
    {"Natalia sold 48+24 = <<48+24=72>>72 clips.\n#### 72", "72"},
    {"so it is 5.\n#### $1,234.50 \nThanks for all the 3 fish", "1234.5"},
    {"#### 1\nno:\n#### 2", "2"},
    {"#### 10 apples", "10apples"},
    {"The answer is 18.", "18"},
    {"He has 3 left, 72.0 in all.", "72"},
    {"from 10-4 on", "4"},
    {"it fell to -4 degrees", "-4"},
    {"about .5 of it", "0.5"},
    {"1,234,567 or so", "1234567"},
    {"it is 2, 3", "3"},
    {"-0", "0"},
    {"007", "7"},
    {"thus $\\boxed{\\frac{1}{2}}$, 9 times of 10", "\\frac{1}{2}"},
    {"\\boxed{1} then \\boxed{ 2 }", "2"},
    {"\\boxed{7} and \\boxed{8", "7"},
    {"\\boxed{} 6", "6"},
    {"#### \n41", "41"},
    {"no number at all", NULL},
    {"", NULL},
    {"-.,$", NULL},
};

static void answers_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char *got = label_final_answer(texts[i].text);
        if (!got != !texts[i].answer || (got && strcmp(got, texts[i].answer))) fail_msg("'%s': found %s, wanted %s", texts[i].text, got ? got : "nothing", texts[i].answer ? texts[i].answer : "nothing");
        free(got);
    }
}

/* Rewards of the completions as a string: 1, 0, or - for no verdict. */
static const char *verdicts(bool gold, double share, const char *row, const char *const *completion, int n)
{
    static char out[9];
    struct labeler *l;
    bool finished[8] = {true};
    double reward[8];
    struct label_answer a = {.reward = reward};
    json_t *j = row ? json_loads(row, 0, NULL) : NULL;
    const struct label_request q = {.id = "1", .prompt = "p", .row = j, .completions = completion, .finished = finished, .n = n};
    assert_ok(labeler_final_answer_open(&l, gold, share, err));
    assert_ok(labeler_ask(l, &q, &a, err));
    for (int i = 0; i < n; i++) out[i] = isnan(reward[i]) ? '-' : reward[i] == 1 ? '1' : reward[i] == 0 ? '0' : '?';
    out[n] = '\0';
    assert_int_equal(labeler_bad_answers(l), out[0] == '-');
    labeler_close(l);
    json_decref(j);
    return out;
}

static void majorities(void **state)
{
    (void)state;
    const char *const six[] = {"is 4", "#### 4.0", "\\boxed{4}", "5", "no idea", "5"};
    assert_string_equal(verdicts(false, 0.5, NULL, six, 6), "111000");
    assert_string_equal(verdicts(false, 0.51, NULL, six, 6), "------"); // three of six
    const char *const tie[] = {"1", "2", "2", "1"};
    assert_string_equal(verdicts(false, 0, NULL, tie, 4), "----");
    assert_string_equal(verdicts(false, 0, NULL, tie, 3), "011");
    const char *const none[] = {"a", "b"};
    assert_string_equal(verdicts(false, 0, NULL, none, 2), "--");
    assert_string_equal(verdicts(false, 0, NULL, tie, 1), "-"); // alone is no majority
    const char *const late[] = {"1", "2", "3", "3", "2", "3"};
    assert_string_equal(verdicts(false, 0, NULL, late, 6), "001101");
}

/* Only the first three vote, all five are judged. */
static void some_may_not_vote(void **state)
{
    (void)state;
    static const char *const five[] = {"1", "1", "2", "2", "2"};
    struct labeler *l;
    double reward[5];
    struct label_answer a = {.reward = reward};
    assert_ok(labeler_final_answer_open(&l, false, 0.6, err));
    assert_ok(labeler_ask(l, &(struct label_request){.id = "1", .prompt = "p", .completions = five, .n = 5, .n_vote = 3}, &a, err));
    for (int i = 0; i < 5; i++) assert_true(reward[i] == (i < 2));
    labeler_close(l);
}

static void gold_answers(void **state)
{
    (void)state;
    const char *const three[] = {"72 clips", "I say 24", "none"};
    assert_string_equal(verdicts(true, 1, "{\"answer\": \"48/2=24\\n#### 72\"}", three, 3), "100");
    assert_string_equal(verdicts(true, 1, "{\"answer\": 72}", three, 3), "100");
    assert_string_equal(verdicts(true, 1, "{\"answer\": \"24\"}", three, 3), "010");
    assert_string_equal(verdicts(true, 1, "{\"question\": \"?\"}", three, 3), "---");
    assert_string_equal(verdicts(true, 1, NULL, three, 1), "-");
    const char *const fraction[] = {"\\boxed{\\frac{1}{2}}"};
    assert_string_equal(verdicts(true, 1, "{\"answer\": \"\\\\frac{1} {2}\"}", fraction, 1), "1");
}

/* Every solution of the test split ends in its own answer, and every one is a number. */
static void gsm8k(void **state)
{
    (void)state;
    char *data, *at;
    size_t n;
    NEED_SHARED(path, "data/math/test.jsonl");
    assert_ok(file_read(path, 1 << 24, &data, &n, err));
    int rows = 0;
    at = data;
    for (char *line; (line = strsep(&at, "\n"));) {
        json_t *j = *line ? json_loads(line, 0, NULL) : NULL;
        if (!j) continue;
        const char *solution = json_string_value(json_object_get(j, "answer"));
        char *answer = label_final_answer(solution), *end = NULL;
        if (answer) (void)strtod(answer, &end);
        if (!answer || *end) fail_msg("row %d: %s", rows, answer ? answer : "no answer");
        assert_string_equal(verdicts(true, 0, line, &solution, 1), "1");
        free(answer);
        json_decref(j);
        rows++;
    }
    free(data);
    assert_int_equal(rows, 1319);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(answers_are_found), cmocka_unit_test(majorities), cmocka_unit_test(some_may_not_vote), cmocka_unit_test(gold_answers), cmocka_unit_test(gsm8k)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
