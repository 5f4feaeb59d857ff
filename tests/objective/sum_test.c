/* Sums of objectives: loss and coefficients are the weighted sums of the terms', each at its own scale, however the batch is cut; what a sum can't hold. */
#include "test.h"

#include "objective/objective.h"

enum { PAIRS = 5 };
struct table {
    struct batch b;
    double logp[2 * PAIRS], logp_ref[2 * PAIRS], coef[2 * PAIRS], reward[2 * PAIRS];
    enum verdict verdict[2 * PAIRS];
    int32_t n_tok[2 * PAIRS];
    struct pair pair[PAIRS];
};

static void make_table(struct table *t)
{
    *t = (struct table){.verdict = {VERDICT_NONE}};
    uint32_t seed = 11;
    for (int i = 0; i < 2 * PAIRS; i++) {
        seed = seed * 1664525u + 1013904223u;
        t->logp[i] = -5 - 30.0 * (double)(seed >> 8) / 16777216.0;
        seed = seed * 1664525u + 1013904223u;
        t->logp_ref[i] = -5 - 30.0 * (double)(seed >> 8) / 16777216.0;
        t->n_tok[i] = 3 + (int32_t)(seed >> 28);
    }
    for (int k = 0; k < PAIRS; k++) t->pair[k] = (struct pair){.win = 2 * k, .lose = 2 * k + 1, .p = 1, .weight = 1};
    t->b = (struct batch){.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS | COL_REWARD | COL_SHIFT, .n = 2 * PAIRS, .n_tok = t->n_tok, .logp = t->logp, .logp_ref = t->logp_ref,
                          .n_pair = PAIRS, .pair = t->pair, .coef = t->coef, .reward = t->reward, .verdict = t->verdict, .shift = -0.4};
    batch_count_won(&t->b);
}

static struct objective_params params(const char *objectives, const char *weights)
{
    struct objective_params p = {.beta = 0.1, .eps = 0.1, .delta = 1, .lambda = 0.1, .gamma = 0.5, .tau = 0.05};
    assert_ok(objective_sum_parse(&p.sum, objectives, weights, err));
    return p;
}

/* The sum against its terms alone: sft with its own scale, 1 / tokens of the winning answers. */
static void a_sum_is_the_weighted_sum_of_its_terms(void **state)
{
    (void)state;
    static const struct {
        const char *objectives, *weights, *term[3];
        double weight[3];
    } sums[] = {
        {"dpo,sft", "1,0.2", {"dpo", "sft"}, {1, 0.2}},
        {"dpo,sft-sum", "1,5e-5", {"dpo", "sft-sum"}, {1, 5e-5}},
        {"dpo,sft-mean", NULL, {"dpo", "sft-mean"}, {1, 1}},
        {"dpo,bco-pair-shift,sft-mean", "0.8,0.2,1", {"dpo", "bco-pair-shift", "sft-mean"}, {0.8, 0.2, 1}},
        {"sft,slic", "2,3", {"sft", "slic"}, {2, 3}},
    };
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        struct objective_params p = params(sums[i].objectives, sums[i].weights);
        struct table whole, part;
        struct objective_stats s = {0};
        double loss = 0, coef[2 * PAIRS] = {0};
        make_table(&whole);
        objective_eval(&objective_sum, &p, &whole.b, 1.0 / PAIRS, &s);
        for (int k = 0; k < 3 && sums[i].term[k]; k++) {
            const struct objective *o = objective_find(sums[i].term[k]);
            struct objective_stats alone = {0};
            make_table(&part);
            objective_eval(o, &p, &part.b, o->needs & COL_PAIRS ? 1.0 / PAIRS : 1.0 / (double)part.b.won_tokens, &alone);
            loss += sums[i].weight[k] * alone.loss;
            for (int r = 0; r < 2 * PAIRS; r++) coef[r] += sums[i].weight[k] * part.coef[r];
            assert_near(s.term_loss[k], alone.loss, 1e-13, 1e-12);
            if (k == 0 && (o->needs & COL_LOGP_REF)) assert_true(s.margin == alone.margin && s.n_pair == alone.n_pair && s.accuracy == alone.accuracy); // counted once
        }
        assert_near(s.loss, loss, 1e-13, 1e-12);
        for (int r = 0; r < 2 * PAIRS; r++) assert_near(whole.coef[r], coef[r], 1e-14, 1e-12);
    }
}

/* By hand from the golden vectors of dpo and bco (delta 0) at log-probs -40, -55 over -42, -50 and 30, 45 tokens. */
static void presets_by_hand(void **state)
{
    (void)state;
    static const struct {
        const char *objectives, *weights;
        double loss, win, lose;
    } golden[] = {
        {"dpo,sft-mean", "1,1", 0.403186049 + 40.0 / 30, -0.0331812228 - 1.0 / 30, 0.0331812228},
        {"dpo,sft-sum", "1,5e-5", 0.403186049 + 40 * 5e-5, -0.0331812228 - 5e-5, 0.0331812228},
        {"dpo,bco-pair-shift,sft-mean", "0.8,0.2,1", 0.8 * 0.403186049 + 0.2 * 1.07221585 + 40.0 / 30, -0.8 * 0.0331812228 - 0.2 * 0.0450166003 - 1.0 / 30, 0.8 * 0.0331812228 + 0.2 * 0.0377540669},
    };
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        struct table t;
        make_table(&t);
        t.logp[0] = -40, t.logp[1] = -55, t.logp_ref[0] = -42, t.logp_ref[1] = -50, t.n_tok[0] = 30, t.n_tok[1] = 45;
        t.b.n = 2, t.b.n_pair = 1, t.b.shift = 0;
        struct objective_stats s = {0};
        const struct objective_params p = params(golden[i].objectives, golden[i].weights);
        objective_eval(&objective_sum, &p, &t.b, 1, &s);
        assert_near(s.loss, golden[i].loss, 0, 1e-8);
        assert_near(t.coef[0], golden[i].win, 0, 1e-8);
        assert_near(t.coef[1], golden[i].lose, 0, 1e-8);
    }
}

static void coefficients_are_derivatives(void **state)
{
    (void)state;
    const struct objective_params p = params("dpo,bco-pair-shift,sft-mean,sft", "0.8,0.2,1,0.7");
    for (int r = 0; r < 2 * PAIRS; r++) {
        struct table t;
        struct objective_stats s[3] = {{0}};
        for (int k = 0; k < 3; k++) {
            make_table(&t);
            t.logp[r] += (k == 2 ? 0 : k ? 1 : -1) * 1e-4;
            objective_eval(&objective_sum, &p, &t.b, 1.0 / PAIRS, &s[k]);
        }
        assert_near(t.coef[r], (s[1].loss - s[0].loss) / 2e-4, 1e-9, 1e-8);
    }
}

/* Slices keep the whole batch's scales. */
static void slices_add_up(void **state)
{
    (void)state;
    const struct objective_params p = params("dpo,sft,sft-mean", "1,0.5,0.25");
    struct table whole, cut;
    struct objective_stats a = {0}, c = {0};
    make_table(&whole);
    make_table(&cut);
    objective_eval(&objective_sum, &p, &whole.b, 1.0 / PAIRS, &a);
    // batch_slice moves every column: give it all of them.
    struct batch full = cut.b, slice;
    int64_t id[2 * PAIRS] = {0};
    int32_t group[2 * PAIRS], n_prompt[2 * PAIRS] = {0}, age[2 * PAIRS] = {0};
    const int32_t *ids[2 * PAIRS] = {0};
    enum source source[2 * PAIRS] = {0};
    enum finish finish[2 * PAIRS] = {0};
    double behaviour[2 * PAIRS] = {0}, pull[2 * PAIRS] = {0};
    full.prompt_id = id, full.group = group, full.n_prompt = n_prompt, full.age = age, full.ids = ids, full.source = source, full.finish = finish, full.logp_behaviour = behaviour, full.pull = pull;
    struct pair room[PAIRS];
    for (int64_t from = 0; from < 2 * PAIRS; from += 2) {
        batch_slice(&slice, &full, from, 2, room);
        objective_eval(&objective_sum, &p, &slice, 1.0 / PAIRS, &c);
    }
    assert_near(c.loss, a.loss, 1e-14, 1e-13);
    for (int r = 0; r < 2 * PAIRS; r++) assert_near(cut.coef[r], whole.coef[r], 1e-16, 1e-13);
    for (int k = 0; k < 3; k++) assert_near(c.term_loss[k], a.term_loss[k], 1e-13, 1e-12);
}

/* What is known of the loss at the reference is the part of the terms that have one. */
static void at_the_reference(void **state)
{
    (void)state;
    const struct objective_params p = params("dpo,sft,bco-pair-shift", "0.8,3,0.2");
    struct table t;
    struct objective_stats s = {0};
    make_table(&t);
    memcpy(t.logp_ref, t.logp, sizeof t.logp);
    t.b.shift = 0;
    objective_eval(&objective_sum, &p, &t.b, 1.0 / PAIRS, &s);
    assert_near(s.loss - s.loss_elsewhere, objective_sum.at_reference(&p, &t.pair[0]), 1e-14, 1e-13);
    assert_near(objective_sum.at_reference(&p, &t.pair[0]), 1.2 * log(2), 1e-15, 0);
    assert_int_equal(objective_coupling(&objective_sum, &p), COUPLE_BATCH);
    assert_true(objective_needs(&objective_sum, &p) & COL_SHIFT);
    const struct objective_params fused = params("dpo,sft", NULL);
    assert_int_equal(objective_coupling(&objective_sum, &fused), COUPLE_PAIR);
}

/* A pair's weight multiplies all of its terms; an unlabelled pair has none, and its answers are not among sft's tokens. */
static void weights_and_ties(void **state)
{
    (void)state;
    const struct objective_params p = params("dpo,sft,sft-mean", "1,0.5,0.25");
    struct table once, t;
    struct objective_stats a = {0}, c = {0};
    make_table(&once);
    make_table(&t);
    t.pair[1].weight = 3;
    t.pair[4].unlabelled = true;
    batch_count_won(&t.b);
    const int64_t lost = t.n_tok[8];
    assert_int_equal(t.b.won_tokens, once.b.won_tokens - lost);
    once.b.won_tokens -= lost;
    objective_eval(&objective_sum, &p, &once.b, 1.0 / 4, &a);
    objective_eval(&objective_sum, &p, &t.b, 1.0 / 4, &c);
    for (int r = 0; r < 2 * PAIRS; r++) assert_near(t.coef[r], (r / 2 == 4 ? 0 : r / 2 == 1 ? 3 : 1) * once.coef[r], 1e-16, 1e-13);
    assert_true(c.n_pair == 4);
}

static void what_is_no_sum(void **state)
{
    (void)state;
    struct objective_sum sum;
    sail_err e = {0};
    static const char *const bad[] = {"1", "1,2,3", "1,x", "1,-2", "1,0", "1,2,", "", "1;2", "1,nan", "1,inf"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (objective_sum_parse(&sum, "dpo,sft", bad[i], &e) != SAIL_USAGE) fail_msg("weights '%s' were taken", bad[i]);
    assert_int_equal(objective_sum_parse(&sum, "dpo", "1", &e), SAIL_USAGE);
    assert_int_equal(objective_sum_parse(&sum, "dpo,sft,ipo,cdpo,robust", NULL, &e), SAIL_USAGE);
    assert_ok(objective_sum_parse(&sum, "dpo", NULL, err));
    assert_int_equal(sum.n, 0);
    struct objective_params p = params("dpo,sft", NULL);
    static const char *const never[] = {"kto", "reward"};
    for (size_t i = 0; i < 2; i++) {
        p.sum.term[1] = objective_find(never[i]);
        assert_non_null(objective_sum.refuse(&p));
    }
    p.sum.term[1] = objective_find("robust");
    assert_null(objective_sum.refuse(&p));
    p.eps = 0.5;
    assert_non_null(objective_sum.refuse(&p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sum_is_the_weighted_sum_of_its_terms), cmocka_unit_test(presets_by_hand), cmocka_unit_test(coefficients_are_derivatives),
        cmocka_unit_test(slices_add_up), cmocka_unit_test(at_the_reference), cmocka_unit_test(weights_and_ties), cmocka_unit_test(what_is_no_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
