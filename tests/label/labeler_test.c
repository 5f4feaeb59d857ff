/* Rule rewards against numbers worked out by hand; programs as labelers: honest, lying, slow, dying. */
#include "test.h"

#include "label/labeler.h"

static double reward_of(struct labeler *l, const char *text)
{
    const bool finished = true;
    double reward;
    struct label_answer a = {.reward = &reward};
    const struct label_request q = {.id = "1", .prompt = "p", .completions = &text, .finished = &finished, .n = 1};
    assert_ok(labeler_ask(l, &q, &a, err));
    return reward;
}

/* r = min(distinct good words, 5) - min(sad words, 3) - 10 max(0, 0.97 - distinct bigrams / bigrams) */
static void the_demo_reward_by_hand(void **state)
{
    (void)state;
    struct labeler *l;
    assert_ok(labeler_rule_open(&l, repo_path("examples/demo/happy.yaml"), err));
    assert_near(reward_of(l, "They were Happy and GLAD."), 2, 1e-12, 0);
    assert_near(reward_of(l, "happy, happy day"), 1, 1e-12, 0);
    assert_near(reward_of(l, "He did not stop. No! Sad sad."), -3, 1e-12, 0);
    assert_near(reward_of(l, "happy glad smile laugh love kind nice"), 5, 1e-12, 0);
    assert_near(reward_of(l, "a b a b a b"), -10 * (0.97 - 2.0 / 5), 1e-12, 0);
    assert_near(reward_of(l, ""), 0, 1e-12, 0);
    labeler_close(l);
}

static void ask_program(const char *command, double deadline, double want[2], double *p, int64_t bad)
{
    struct labeler *l;
    static const char *const texts[2] = {"a \"quoted\"\nline", "b"};
    static const bool finished[2] = {true, false};
    double reward[2];
    struct label_answer a = {.reward = reward};
    const struct label_request q = {.id = "7", .prompt = "p", .completions = texts, .finished = finished, .n = 2};
    assert_ok(labeler_command_open(&l, command, deadline, err));
    assert_ok(labeler_ask(l, &q, &a, err));
    want[0] = reward[0];
    want[1] = reward[1];
    *p = a.p;
    assert_int_equal(labeler_bad_answers(l), bad);
    labeler_close(l);
}

static void programs(void **state)
{
    (void)state;
    double r[2], p;
    ask_program("sh -c 'while read -r x; do echo {\\\"id\\\":\\\"7\\\",\\\"rewards\\\":[1,2.5]}; done'", 10, r, &p, 0);
    assert_true(r[0] == 1 && r[1] == 2.5 && isnan(p));
    ask_program("sh -c 'while read -r x; do echo {\\\"id\\\":\\\"7\\\",\\\"p\\\":[0.25]}; done'", 10, r, &p, 0);
    assert_true(p == 0.25 && isnan(r[0]));
    static const char *const liars[] = {"{\\\"id\\\":\\\"8\\\",\\\"rewards\\\":[1,2]}", "{\\\"id\\\":\\\"7\\\",\\\"rewards\\\":[1]}", "{\\\"id\\\":\\\"7\\\",\\\"rewards\\\":[1,\\\"2\\\"]}", "{\\\"id\\\":\\\"7\\\",\\\"p\\\":[1.5]}", "garbage", "{}"};
    for (size_t i = 0; i < sizeof liars / sizeof *liars; i++) {
        char command[256];
        snprintf(command, sizeof command, "sh -c 'while read -r x; do echo %s; done'", liars[i]);
        ask_program(command, 10, r, &p, 1);
        assert_true(isnan(r[0]) && isnan(r[1]) && isnan(p));
    }
    ask_program("sleep 30", 0.2, r, &p, 1);
    assert_true(isnan(r[0]));
    ask_program("cat /dev/zero", 0.2, r, &p, 1); // always something to read, never a line
    assert_true(isnan(r[0]));
    ask_program("sh -c 'while read -r x; do head -c 2000000 /dev/zero; echo; done'", 10, r, &p, 1); // a line beyond all measure
    assert_true(isnan(r[0]));
    ask_program("true", 5, r, &p, 1);
    assert_true(isnan(r[0]));
}

static void a_missing_program_is_an_error(void **state)
{
    (void)state;
    struct labeler *l;
    sail_err why = {0};
    assert_int_equal(labeler_command_open(&l, "/no/such/program x", 1, &why), SAIL_FAILED);
    assert_non_null(strstr(why.message, "/no/such/program"));
    assert_int_equal(labeler_command_open(&l, "'unclosed", 1, &why), SAIL_USAGE);
}

static void pairs_from_rewards(void **state)
{
    (void)state;
    struct pair q = label_pair(4, 5, 1, 3, PAIR_LABEL_HARD, 1, 0.9);
    assert_true(q.win == 5 && q.lose == 4 && q.p == 1 && q.margin == 2 && !q.unlabelled);
    assert_true(label_pair(4, 5, 2, 2, PAIR_LABEL_HARD, 1, 0).unlabelled);
    assert_true(label_pair(4, 5, 2, 2, PAIR_LABEL_SAMPLED, 1, 0).unlabelled && label_pair(4, 5, 2, 2, PAIR_LABEL_SAMPLED, 1, 0.9).unlabelled); // no coin is thrown
    q = label_pair(4, 5, 2, 2, PAIR_LABEL_SOFT, 1, 0);
    assert_true(!q.unlabelled && q.p == 0.5);
    assert_true(label_pair(4, 5, NAN, 2, PAIR_LABEL_SOFT, 1, 0).unlabelled);
    q = label_pair(4, 5, 1, 0, PAIR_LABEL_SOFT, 0.5, 0);
    assert_near(q.p, 1 / (1 + exp(-2)), 1e-15, 0);
    assert_true(label_pair(4, 5, 1, 0, PAIR_LABEL_SAMPLED, 1, 0.5).win == 4 && label_pair(4, 5, 1, 0, PAIR_LABEL_SAMPLED, 1, 0.9).win == 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_demo_reward_by_hand), cmocka_unit_test(programs), cmocka_unit_test(a_missing_program_is_an_error), cmocka_unit_test(pairs_from_rewards)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
