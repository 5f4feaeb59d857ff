/* AOT over a batch: five pairs against torch's sort and autograd, and what the order of the batch may not change. */
#include "test.h"

#include "objective/objective.h"

enum { N = 5 };
static const double rows[N][4] = {{-40, -55, -42, -50}, {-60, -35, -50, -38}, {-30, -31, -29, -33}, {-20, -44, -25, -41}, {-51, -47, -50, -48}};

struct table {
    struct batch b;
    double logp[2 * N], logp_ref[2 * N], coef[2 * N];
    int32_t n_tok[2 * N];
    struct pair pair[N];
    struct ranked rank[2 * N];
};

/* Pair k of the table is row order[k]. */
static void make_table(struct table *t, const int *order)
{
    *t = (struct table){.b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS, .n = 2 * N, .n_pair = N}};
    for (int k = 0; k < N; k++) {
        const double *r = rows[order[k]];
        t->logp[2 * k] = r[0];
        t->logp[2 * k + 1] = r[1];
        t->logp_ref[2 * k] = r[2];
        t->logp_ref[2 * k + 1] = r[3];
        t->pair[k] = (struct pair){.win = 2 * k, .lose = 2 * k + 1, .p = 1, .weight = 1};
    }
    t->b.logp = t->logp;
    t->b.logp_ref = t->logp_ref;
    t->b.coef = t->coef;
    t->b.n_tok = t->n_tok;
    t->b.pair = t->pair;
    t->b.rank = t->rank;
}

static double evaluate(struct table *t, double scale)
{
    const struct objective_params p = {.beta = 0.1};
    struct objective_stats s = {0};
    objective_eval(objective_find("aot"), &p, &t->b, scale, &s);
    return s.loss;
}

static void matches_torch_in_any_order(void **state)
{
    (void)state;
    static const double want[N] = {-0.006636244556636678, -0.015716699660851177, -0.01148885033623318, -0.006200510377447752, -0.01099667994624956};
    static const int orders[][N] = {{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 0, 4, 1, 3}};
    for (size_t o = 0; o < sizeof orders / sizeof *orders; o++) {
        struct table t;
        make_table(&t, orders[o]);
        assert_near(evaluate(&t, 1.0 / N), 0.7935578565032693, 1e-15, 1e-14);
        for (int k = 0; k < N; k++) {
            assert_near(t.coef[2 * k], want[orders[o][k]], 1e-16, 1e-13);
            assert_near(t.coef[2 * k + 1], -want[orders[o][k]], 1e-16, 1e-13);
        }
    }
}

static void slopes_are_of_the_loss(void **state)
{
    (void)state;
    static const int order[N] = {0, 1, 2, 3, 4};
    for (int i = 0; i < 2 * N; i++) {
        struct table t, up, down;
        make_table(&t, order);
        evaluate(&t, 1);
        make_table(&up, order);
        make_table(&down, order);
        up.logp[i] += 1e-4; // no two gaps are as near as that
        down.logp[i] -= 1e-4;
        assert_near(t.coef[i], (evaluate(&up, 1) - evaluate(&down, 1)) / 2e-4, 1e-9, 0);
    }
}

/* A pair that nobody judged takes no place in either order. */
static void unlabelled_pairs_take_no_place(void **state)
{
    (void)state;
    static const int order[N] = {0, 1, 2, 3, 4};
    struct table t, fewer;
    make_table(&t, order);
    make_table(&fewer, order);
    t.pair[4].unlabelled = true;
    fewer.b.n_pair = 4;
    assert_near(evaluate(&t, 0.25), evaluate(&fewer, 0.25), 0, 1e-15);
    for (int i = 0; i < 8; i++) assert_true(t.coef[i] == fewer.coef[i]);
    assert_true(t.coef[8] == 0 && t.coef[9] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(matches_torch_in_any_order), cmocka_unit_test(slopes_are_of_the_loss), cmocka_unit_test(unlabelled_pairs_take_no_place)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
