/* Best against worst from meetings of two: who is found, how many meetings it takes, and what ties, circles and missing verdicts come to. */
#include "test.h"

#include "train/run.h"

struct game {
    const double *strength; /* NULL: answers go round in a circle, each beats the next */
    int k, silent, meetings;
    bool met[MAX_ANSWERS][MAX_ANSWERS];
};

static int meet(void *context, int x, int y, double *p, sail_err *err)
{
    struct game *g = context;
    (void)err;
    assert_true(x != y && x >= 0 && y >= 0 && x < g->k && y < g->k);
    assert_false(g->met[x][y] || g->met[y][x]); // nobody is asked twice
    g->met[x][y] = true;
    g->meetings++;
    *p = g->meetings == g->silent ? NAN : g->strength ? 1 / (1 + exp(g->strength[y] - g->strength[x])) : (y - x + g->k) % g->k <= g->k / 2 ? 0.8 : 0.2;
    return SAIL_OK;
}

static double shuffled(int k, int i, int turn) { return (double)((i * 7919 + turn * 104729) % 1009) + 1e-3 * i / k; }

static void a_scale_has_its_best_and_its_worst(void **state)
{
    (void)state;
    for (int k = 2; k <= MAX_ANSWERS; k++)
        for (int turn = 0; turn < 25; turn++) {
            double strength[MAX_ANSWERS], p;
            int best, worst, top = 0, low = 0;
            for (int i = 0; i < k; i++) strength[i] = 0.01 * shuffled(k, i, turn);
            for (int i = 1; i < k; i++) {
                top = strength[i] > strength[top] ? i : top;
                low = strength[i] < strength[low] ? i : low;
            }
            struct game g = {.strength = strength, .k = k};
            assert_ok(tournament_play(k, meet, &g, &best, &worst, &p, err));
            if (best != top || worst != low) fail_msg("%d answers: %d and %d, wanted %d and %d", k, best, worst, top, low);
            assert_near(p, 1 / (1 + exp(strength[low] - strength[top])), 1e-15, 0);
            assert_true(g.meetings <= 3 * k / 2 && g.meetings >= k - 1);
            if (k == 8) assert_true(g.meetings == 11 || g.meetings == 10); // ten where both had met in the first round
        }
}

static void a_circle_ends_with_somebody(void **state)
{
    (void)state;
    for (int k = 3; k < 20; k++) {
        struct game g = {.k = k};
        int best, worst;
        double p;
        assert_ok(tournament_play(k, meet, &g, &best, &worst, &p, err));
        assert_true(best >= 0 && best < k && worst >= 0 && worst < k && (best == worst ? isnan(p) : p == 0.8 || p == 0.2 || fabs(p - 0.8) < 1e-15));
    }
}

static void equals_have_no_verdict_and_silence_none(void **state)
{
    (void)state;
    const double same[8] = {0};
    struct game g = {.strength = same, .k = 8};
    int best, worst;
    double p;
    assert_ok(tournament_play(8, meet, &g, &best, &worst, &p, err));
    assert_true(p == 0.5);
    const double up[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    for (int silent = 1; silent <= 11; silent++) {
        struct game quiet = {.strength = up, .k = 8, .silent = silent};
        assert_ok(tournament_play(8, meet, &quiet, &best, &worst, &p, err));
        assert_true(isnan(p) && quiet.meetings == silent); // and nothing more is asked
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_scale_has_its_best_and_its_worst), cmocka_unit_test(a_circle_ends_with_somebody), cmocka_unit_test(equals_have_no_verdict_and_silence_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
