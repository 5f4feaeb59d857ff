/* Objectives on unpaired rows: goldens from autograd of the losses as TRL writes them, coefficients against differences of the loss, what the reference
 * point reads and what stays out of the loss, and how rows get there from a file. */
#include "test.h"

#include <jansson.h>

#include "base/file.h"
#include "data/dataset.h"
#include "objective/objective.h"

enum { MOST = 16 };
struct table {
    struct batch b;
    double logp[MOST], logp_ref[MOST], coef[MOST];
    int32_t n_tok[MOST];
    enum verdict verdict[MOST];
};

static struct objective_params params(double beta, double desirable, double undesirable)
{
    return (struct objective_params){.beta = beta, .desirable_weight = desirable, .undesirable_weight = undesirable};
}

static void bind(struct table *t, int64_t n)
{
    t->b = (struct batch){.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_VERDICT | COL_MISMATCH, .n = n, .n_tok = t->n_tok, .logp = t->logp, .logp_ref = t->logp_ref,
                          .coef = t->coef, .verdict = t->verdict, .shift = t->b.shift};
    if (!isnan(t->b.shift)) t->b.written |= COL_SHIFT;
}

static double uniform(uint32_t *seed) { return (double)((*seed = *seed * 1664525u + 1013904223u) >> 8) / 16777216.0; }

/* Rows of both kinds with a mismatched one behind each. */
static void random_table(struct table *t, uint32_t *seed, int n)
{
    *t = (struct table){.b.shift = 0.3};
    for (int i = 0; i < n; i++) {
        t->logp[i] = -5 - 40 * uniform(seed);
        t->logp_ref[i] = -5 - 40 * uniform(seed);
        t->verdict[i] = i % 2 ? VERDICT_MISMATCHED : i % 4 || i == 0 ? VERDICT_DESIRABLE : VERDICT_UNDESIRABLE;
    }
    bind(t, n);
}

static double evaluate(struct table *t, const struct objective *o, const struct objective_params *p, double scale, struct objective_stats *s)
{
    *s = (struct objective_stats){0};
    objective_eval(o, p, &t->b, scale, s);
    return s->loss;
}

static json_t *load_vectors(void)
{
    json_t *j = json_load_file(repo_path("tests/golden/unpaired/vectors.json"), 0, NULL);
    assert_non_null(j);
    return j;
}

static double at(json_t *list, size_t i) { return json_number_value(json_array_get(list, i)); }

static void fill(struct table *t, json_t *batch)
{
    json_t *good = json_object_get(batch, "good");
    const size_t n = json_array_size(good);
    *t = (struct table){.b.shift = NAN};
    for (size_t i = 0; i < n; i++) { // a row, then its mismatched one
        t->logp[2 * i] = at(json_object_get(batch, "logp"), i);
        t->logp_ref[2 * i] = at(json_object_get(batch, "logp_ref"), i);
        t->verdict[2 * i] = at(good, i) > 0 ? VERDICT_DESIRABLE : VERDICT_UNDESIRABLE;
        t->logp[2 * i + 1] = at(json_object_get(batch, "kl_logp"), i);
        t->logp_ref[2 * i + 1] = at(json_object_get(batch, "kl_ref"), i);
        t->verdict[2 * i + 1] = VERDICT_MISMATCHED;
    }
    bind(t, 2 * (int64_t)n);
}

static void golden_vectors(void **state)
{
    (void)state;
    json_t *j = load_vectors(), *m;
    size_t i;
    int seen = 0;
    json_array_foreach(json_object_get(j, "methods"), i, m)
    {
        const struct objective *o = objective_find(json_string_value(json_object_get(m, "name")));
        if (!o) fail_msg("no objective %s", json_string_value(json_object_get(m, "name")));
        const struct objective_params p = params(json_number_value(json_object_get(m, "beta")), json_number_value(json_object_get(m, "desirable_weight")),
                                                 json_number_value(json_object_get(m, "undesirable_weight")));
        struct running_mean mean = {0};
        for (size_t k = 0; k < 3; k++, seen++) {
            json_t *batch = json_array_get(json_object_get(j, "batches"), k), *want = json_array_get(json_object_get(m, "results"), k);
            struct table t;
            struct objective_stats s;
            fill(&t, batch);
            if (o->needs & COL_SHIFT) running_mean_add(&mean, &t.b, p.beta);
            const int64_t n = t.b.n / 2;
            assert_near(evaluate(&t, o, &p, 1.0 / (double)n, &s), json_number_value(json_object_get(want, "loss")), 1e-13, 1e-12);
            for (int64_t r = 0; r < n; r++) {
                assert_near(t.coef[2 * r], at(json_object_get(want, "coef"), (size_t)r), 1e-14, 1e-11);
                assert_true(t.coef[2 * r + 1] == 0); // mismatched rows have no gradient
            }
            json_t *point = json_object_get(want, "point");
            if (json_is_number(point)) assert_near(s.reference_point, json_number_value(point), 1e-13, 1e-12);
            assert_true(s.n_desirable + s.n_undesirable == (double)n);
        }
    }
    assert_true(seen >= 6);
    json_decref(j);
}

/* Two rows, one of each kind, at the log-probs of the golden pairs: their losses are those of the pairwise forms. */
static void two_rows_are_the_golden_pairs(void **state)
{
    (void)state;
    static const double lp[2][4] = {{-40, -55, -42, -50}, {-60, -35, -50, -38}};
    static const struct {
        const char *name;
        double value[2][3];
    } golden[] = {
        {"apo-zero-unpaired", {{0.827706671, -0.0247516573, 0.0235003712}, {1.3055011, -0.0196611933, 0.0244458312}}}, /* apo_zero */
        {"bco-unpaired", {{1.07221585, -0.0450166003, 0.0377540669}, {2.16761693, -0.0731058579, 0.0574442517}}},      /* bco_pair: delta 0 */
        {"aot-unpaired", {{0.403186049, -0.0331812228, 0.0331812228}, {1.54100845, -0.0785834983, 0.0785834983}}},      /* dpo: nothing to sort */
    };
    const struct objective_params p = params(0.1, 1, 1);
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++)
        for (int c = 0; c < 2; c++) {
            struct table t = {.logp = {lp[c][0], lp[c][1]}, .logp_ref = {lp[c][2], lp[c][3]}, .verdict = {VERDICT_DESIRABLE, VERDICT_UNDESIRABLE}};
            struct objective_stats s;
            bind(&t, 2);
            const double got[3] = {evaluate(&t, objective_find(golden[i].name), &p, i == 2 ? 0.5 : 1, &s), t.coef[0], t.coef[1]};
            for (int k = 0; k < 3; k++) assert_near(got[k], golden[i].value[c][k], 1e-8, 1e-8);
        }
}

/* Held-out batches one after the other: what AOT adds to the statistics before does not change what it pairs. */
static void batches_are_averaged_by_their_size(void **state)
{
    (void)state;
    uint32_t seed = 3;
    const struct objective_params p = params(0.2, 1, 1);
    struct objective_stats both = {0}, alone;
    double want = 0;
    for (int n = 8; n <= 16; n += 8) {
        struct table t;
        random_table(&t, &seed, n);
        want += evaluate(&t, objective_find("aot-unpaired"), &p, 2.0 / n, &alone) * n / 24;
        objective_eval(objective_find("aot-unpaired"), &p, &t.b, 1.0 / 12, &both);
    }
    assert_near(both.loss, want, 1e-14, 1e-13);
    assert_true(both.n_desirable + both.n_undesirable == 12);
}

/* Fourth-order central differences in every row; a mismatched row's coefficient is 0 although the loss moves with it: the reference point is held constant. */
static void coefficients_are_derivatives(void **state)
{
    (void)state;
    uint32_t seed = 7;
    for (const struct objective *o = objective_unpaired; o->name; o++)
        for (int trial = 0; trial < 40; trial++) {
            struct table t;
            struct objective_stats s;
            random_table(&t, &seed, 12);
            const struct objective_params p = params(0.1 + uniform(&seed), 1.2, 0.7);
            evaluate(&t, o, &p, 1.0 / 6, &s);
            for (int i = 0; i < 12; i++) {
                if (t.verdict[i] == VERDICT_MISMATCHED) {
                    assert_true(t.coef[i] == 0);
                    continue;
                }
                const double h = 1e-3, kept = t.logp[i], got = t.coef[i];
                double f[4];
                for (int k = 0; k < 4; k++) {
                    t.logp[i] = kept + h * (k < 2 ? k - 2 : k - 1);
                    f[k] = evaluate(&t, o, &p, 1.0 / 6, &s);
                }
                t.logp[i] = kept;
                const double want = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h);
                if (fabs(got - want) > 1e-9 * (1 + fabs(want))) fail_msg("%s row %d: %.12g, differences say %.12g", o->name, i, got, want);
                evaluate(&t, o, &p, 1.0 / 6, &s);
            }
        }
}

/* Below 0 the estimate is taken as 0; without mismatched rows it is 0. */
static void ktos_reference_point_has_a_floor(void **state)
{
    (void)state;
    const struct objective *kto = objective_find("kto");
    const struct objective_params p = params(0.1, 1, 1);
    struct table t = {.logp = {-10, -30, -20, -44}, .logp_ref = {-12, -20, -19, -40}, .verdict = {VERDICT_DESIRABLE, VERDICT_MISMATCHED, VERDICT_UNDESIRABLE, VERDICT_MISMATCHED}, .b.shift = NAN};
    struct objective_stats s;
    bind(&t, 4);
    const double loss = evaluate(&t, kto, &p, 0.5, &s);
    assert_true(s.reference_point == 0);
    assert_near(loss, 0.5 * (sigmoid(-0.2) + sigmoid(-0.1)), 1e-15, 0);
    t.logp[1] = -10;
    evaluate(&t, kto, &p, 0.5, &s);
    assert_near(s.reference_point, 3, 1e-15, 0);
    for (int i = 1; i < 4; i += 2) t.verdict[i] = VERDICT_NONE;
    evaluate(&t, kto, &p, 0.5, &s);
    assert_true(s.reference_point == 0);
}

static void extremes_and_the_reference(void **state)
{
    (void)state;
    for (const struct objective *o = objective_unpaired; o->name; o++) {
        const struct objective_params p = params(0.1, 1, 1);
        struct objective_stats s;
        for (int k = 0; k < 4; k++) {
            const double far = k % 2 ? 1e5 : -1e5;
            struct table t = {.logp = {far, -1, -far, -1}, .logp_ref = {0, -1, 0, k / 2 ? -1e6 : -1}, .verdict = {VERDICT_DESIRABLE, VERDICT_MISMATCHED, VERDICT_UNDESIRABLE, VERDICT_MISMATCHED}};
            bind(&t, 4);
            assert_true(isfinite(evaluate(&t, o, &p, 0.5, &s)));
            for (int i = 0; i < 4; i++) assert_true(isfinite(t.coef[i]));
        }
        if (!o->at_reference) continue;
        struct table t = {.logp = {-3, -4, -5}, .logp_ref = {-3, -4, -5}, .verdict = {VERDICT_DESIRABLE, VERDICT_UNDESIRABLE, VERDICT_MISMATCHED}};
        bind(&t, 3);
        assert_near(evaluate(&t, o, &p, 0.5, &s), o->at_reference(&p, NULL), 1e-15, 1e-14);
    }
}

static int write_rows(char *path, size_t size, const char *text)
{
    snprintf(path, size, "/tmp/sail-unpaired-%d.jsonl", (int)getpid());
    return file_replace(path, text, strlen(text), NULL);
}

static void preference_rows_come_apart(void **state)
{
    (void)state;
    char path[100];
    const struct dataset_options ids = {.eos = -1, .turn_end = -1};
    struct dataset *d;
    assert_int_equal(write_rows(path, sizeof path, "{\"prompt_ids\": [1, 2], \"chosen_ids\": [3], \"rejected_ids\": [4, 5]}\n{\"prompt_ids\": [1, 2], \"chosen_ids\": [6], \"rejected_ids\": [7]}\n"
                                                   "{\"prompt_ids\": [1, 3], \"chosen_ids\": [8], \"rejected_ids\": [9]}\n"), 0);
    assert_ok(dataset_open(&d, path, &ids, err));
    assert_ok(dataset_unpair(d, err));
    assert_int_equal(d->n, 6);
    assert_int_equal(d->kind, DATA_UNPAIRED);
    static const int first[] = {3, 4, 6, 7, 8, 9};
    for (int i = 0; i < 6; i++) {
        assert_true(d->example[i].label == (i % 2 == 0));
        assert_int_equal(dataset_ids(d, d->example[i].completion)[0], first[i]);
        assert_int_equal(d->example[i].line, i / 2 + 1);
        assert_non_null(d->row[i]);
    }
    // The next row with another prompt, round the end; rows of one prompt alone have none.
    const int64_t rows[] = {0, 3, 4, 1};
    assert_int_equal(dataset_mismatch(d, rows, 4, 0), 4);
    assert_int_equal(dataset_mismatch(d, rows, 4, 1), 4);
    assert_int_equal(dataset_mismatch(d, rows, 4, 2), 1);
    assert_int_equal(dataset_mismatch(d, rows, 4, 3), 4);
    assert_int_equal(dataset_mismatch(d, rows, 2, 0), -1);
    dataset_free(d);
    assert_int_equal(write_rows(path, sizeof path, "{\"prompt_ids\": [1], \"chosen_ids\": [3], \"rejected_ids\": [4], \"p\": 0.7}\n"), 0);
    assert_ok(dataset_open(&d, path, &ids, err));
    sail_err err = {0};
    assert_int_equal(dataset_unpair(d, &err), SAIL_FAILED);
    assert_non_null(strstr(err.message, ":1: 'p' is 0.7"));
    dataset_free(d);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_rows_are_the_golden_pairs), cmocka_unit_test(batches_are_averaged_by_their_size),
        cmocka_unit_test(golden_vectors),           cmocka_unit_test(coefficients_are_derivatives),  cmocka_unit_test(ktos_reference_point_has_a_floor),
        cmocka_unit_test(extremes_and_the_reference), cmocka_unit_test(preference_rows_come_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
