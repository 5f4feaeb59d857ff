/* KL towards another policy over the whole vocabulary: its gradient is that of -sum_v r_v log p_v, every token of the vocabulary scored as an answer of its own; and on longer answers the
 * sum over their prefixes. */
#include "model/gradients.h"

enum { MOST_VOCAB = 640, PROMPT = 5 };

static struct policy open_model(const char *name, bool full)
{
    struct policy p = {0};
    char path[4200];
    const struct model_options o = {.compute = DTYPE_F32, .train_full = full, .backward = true};
    snprintf(path, sizeof path, "%s/%s", repo_path("tests/golden/cases"), name);
    assert_ok(model_open(&p.model, path, &o, err));
    assert_true(model_facts(p.model)->vocab <= MOST_VOCAB);
    return p;
}

/* After each prefix of `answer`: the gradient of sum_t weight_t KL(of_t || policy_t) by whole answers, and the KLs in kl. */
static void by_answers(struct policy p, struct policy of, const int32_t *ids, int n_tok, const float *weight, double *kl)
{
    const int64_t V = model_facts(p.model)->vocab;
    policy_zero_grad(p);
    for (int t = 0; t < n_tok; t++) {
        static int32_t row[MOST_VOCAB][64], n_prompt[MOST_VOCAB], one[MOST_VOCAB], group[MOST_VOCAB];
        static const int32_t *at[MOST_VOCAB];
        static double own[MOST_VOCAB], his[MOST_VOCAB], coef[MOST_VOCAB];
        for (int64_t v = 0; v < V; v++) {
            memcpy(row[v], ids, (size_t)(PROMPT + t) * sizeof *ids);
            row[v][PROMPT + t] = (int32_t)v;
            at[v] = row[v];
            n_prompt[v] = PROMPT + t;
            one[v] = 1;
            group[v] = 0;
        }
        const struct sequences s = {.n = V, .ids = at, .n_prompt = n_prompt, .n_tok = one, .group = group};
        assert_ok(model_score(of, &s, his, NULL, err));
        assert_ok(model_score(p, &s, own, NULL, err));
        kl[t] = 0;
        for (int64_t v = 0; v < V; v++) {
            kl[t] += exp(his[v]) * (his[v] - own[v]);
            coef[v] = -weight[t] * exp(his[v]);
        }
        assert_ok(model_accumulate(p, &s, coef, err));
    }
}

static void check(struct policy p, struct policy of, const char *name)
{
    static const int32_t ids[PROMPT + 4] = {3, 17, 40, 8, 25, 60, 11, 33, 7};
    const float pull[4] = {0.5f, 1.25f, 0, 2};
    const int32_t n_prompt = PROMPT, n_tok = 4, group = 0, *at = ids;
    const struct sequences s = {.n = 1, .ids = &at, .n_prompt = &n_prompt, .n_tok = &n_tok, .group = &group};
    struct predictions q = {0};
    double logp, logp_ref, kl_want[4], size = 0, off = 0, zero = 0, coef = 0.7;
    float kl[4], *want, *got, *alone, *both;
    int64_t n;
    by_answers(p, of, ids, 4, pull, kl_want);
    want = gradients(p, &n);
    policy_zero_grad(p);
    assert_ok(model_predict(of, &s, &logp_ref, &q, err));
    assert_ok(model_forward(p, &s, &logp, NULL, err));
    assert_ok(model_backward_pulled(p, &zero, NULL, &q, pull, kl, err));
    got = gradients(p, &n);
    for (int t = 0; t < 4; t++) assert_near(kl[t], kl_want[t], 2e-6, 1e-4);
    assert_true(kl_want[0] > 1e-4);
    for (int64_t i = 0; i < n; i++) {
        size = fmax(size, fabs(want[i]));
        off = fmax(off, fabs((double)got[i] - want[i]));
    }
    if (!(size > 0) || off > 2e-5 * size) fail_msg("%s: the gradient is off by %.3g of %.3g", name, off, size);
    // beside a coefficient of the answer itself: the sum of both
    policy_zero_grad(p);
    assert_ok(model_forward(p, &s, &logp, NULL, err));
    assert_ok(model_backward(p, &coef, NULL, err));
    alone = gradients(p, &n);
    policy_zero_grad(p);
    assert_ok(model_forward(p, &s, &logp, NULL, err));
    assert_ok(model_backward_pulled(p, &coef, NULL, &q, pull, kl, err));
    both = gradients(p, &n);
    for (int64_t i = 0; i < n; i++) assert_near(both[i], (double)alone[i] + got[i], 1e-5 * size + 1e-6, 1e-4);
    // towards itself: nothing, to the bit
    assert_ok(model_predict(p, &s, &logp_ref, &q, err));
    assert_true(logp_ref == logp);
    policy_zero_grad(p);
    assert_ok(model_forward(p, &s, &logp, NULL, err));
    assert_ok(model_backward_pulled(p, &zero, NULL, &q, pull, kl, err));
    free(got);
    got = gradients(p, &n);
    for (int64_t i = 0; i < n; i++) assert_true(got[i] == 0);
    predictions_release(&q);
    free(want);
    free(got);
    free(alone);
    free(both);
}

static void an_adapter_towards_its_base(void **state)
{
    (void)state;
    struct policy p = open_model("llama-gqa", false);
    p.adapter = moved_adapter(p.model, &(struct lora_options){.r = 3, .alpha = 6, .seed = 7});
    check(p, (struct policy){p.model, NULL}, "adapter");
    adapter_close(p.adapter);
    model_close(p.model);
}

/* Two sets of weights, a tied head and a soft cap on the logits. */
static void a_model_towards_another(void **state)
{
    (void)state;
    struct policy p = open_model("gemma2", true), of = open_model("gemma2", false);
    struct param *q;
    for (int64_t i = 0, n = policy_params(p, &q); i < n; i++)
        for (int64_t k = 0; k < q[i].n; k++) q[i].value[k] *= 1 + 0.05f * sinf((float)(7 * i + k));
    policy_params_changed(p);
    check(p, of, "whole model");
    model_close(p.model);
    model_close(of.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_adapter_towards_its_base), cmocka_unit_test(a_model_towards_another)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
