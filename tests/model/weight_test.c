/* Weights of tokens (LD-DPO, masks) and of pairs (WPO) on a real small model: against torch, against token log-probs taken apart, and the gradient against differences of
 * the loss, from scoring through the reference to the backward pass. */
#include "cli/program.h"

#include <jansson.h>

#include "base/mem.h"
#include "io/safetensors.h"
#include "jobs/rows.h"
#include "objective/objective.h"
#include "train/run.h"

/* ---------------------------------------------------------------- the program against torch */

static void torch_agrees(void **state)
{
    (void)state;
    json_t *all = json_load_file(repo_path("tests/golden/weights.json"), 0, NULL), *want;
    const char *method, *c = model;
    assert_non_null(all);
    json_object_foreach(all, method, want)
    {
        assert_run("grad --model %s --ref %s/ref --data %s/data.jsonl --method %s --out %s/g.safetensors", c, c, c, method, folder);
        char path[2100];
        snprintf(path, sizeof path, "%s/g.safetensors", folder);
        struct safetensors got, values;
        assert_ok(safetensors_open(&got, path, err));
        snprintf(path, sizeof path, "%s/model.safetensors", c);
        assert_ok(safetensors_open(&values, path, err));
        assert_near(atof(json_string_value(json_object_get(got.metadata, "loss"))), json_real_value(json_object_get(want, "loss")), 0, 5e-6);
        const char *name;
        json_t *numbers;
        json_object_foreach(json_object_get(want, "gradient"), name, numbers)
        {
            const struct tensor *g = safetensors_find(&got, name), *v = safetensors_find(&values, name);
            if (!g || !v) fail_msg("%s: no gradient of %s", method, name);
            const float *dg = g->data, *dv = v->data;
            double size = 0, inner = 0, length = 0;
            for (int64_t i = 0; i < tensor_count(g); i++) {
                size += (double)dg[i] * dg[i];
                length += (double)dv[i] * dv[i];
                inner += (double)dg[i] * dv[i];
            }
            const double norm = json_real_value(json_array_get(numbers, 0));
            assert_near(sqrt(size), norm, 0, 3e-5);
            assert_near(inner, json_real_value(json_array_get(numbers, 1)), 6e-5 * norm * sqrt(length), 0);
        }
        safetensors_close(&got);
        safetensors_close(&values);
    }
    json_decref(all);
}

/* ---------------------------------------------------------------- one batch by hand */

struct bench {
    struct policy policy, reference;
    struct dataset *data;
    struct batch b;
    struct row_pool pool;
    struct objective_params params;
};

static void bench_open(struct bench *w)
{
    const struct model_options o = {.compute = DTYPE_F32, .train_full = true, .backward = true}, frozen = {.compute = DTYPE_F32};
    char path[4200];
    *w = (struct bench){.params = {.beta = 0.1}};
    assert_ok(model_open(&w->policy.model, model, &o, err));
    snprintf(path, sizeof path, "%s/ref", model);
    assert_ok(model_open(&w->reference.model, path, &frozen, err));
    snprintf(path, sizeof path, "%s/data.jsonl", model);
    const struct dataset_options d = {.eos = -1, .turn_end = -1};
    assert_ok(dataset_open(&w->data, path, &d, err));
    assert_ok(batch_init(&w->b, 2 * w->data->n, w->data->n, err));
    assert_ok(rows_fill(&w->b, &w->pool, w->data, 0, w->data->n, err));
}

static void bench_close(struct bench *w)
{
    batch_release(&w->b);
    row_pool_release(&w->pool);
    dataset_free(w->data);
    model_close(w->policy.model);
    model_close(w->reference.model);
}

/* DPO's loss; the pairs' weights are those that they have. coef are left in the batch. */
static double loss(struct bench *w)
{
    const struct sequences s = batch_sequences(&w->b);
    struct objective_stats stats = {0};
    assert_ok(model_score(w->policy, &s, w->b.logp, NULL, err));
    assert_ok(model_score(w->reference, &s, w->b.logp_ref, NULL, err));
    w->b.written |= COL_LOGP | COL_LOGP_REF;
    objective_eval(objective_find("dpo"), &w->params, &w->b, 1.0 / (double)w->b.n_pair, &stats);
    return stats.loss;
}

/* Moves the parameters by `step` along the direction; returns the loss there. */
static double loss_at(struct bench *w, const float *start, const double *direction, double step)
{
    struct param *q;
    for (int64_t i = 0, n = policy_params(w->policy, &q); i < n; i++)
        for (int64_t j = 0; j < q[i].n; j++) q[i].value[j] = (float)(*start++ + step * *direction++);
    policy_params_changed(w->policy);
    return loss(w);
}

static int64_t parameters(const struct bench *w)
{
    struct param *q;
    int64_t n = 0;
    for (int64_t i = 0, k = policy_params(w->policy, &q); i < k; i++) n += q[i].n;
    return n;
}

/* With the coefficients of the batch, all parameters one after the other; free() it. */
static double *gradient(struct bench *w, const struct sequences *s, const float *token_weight)
{
    struct param *q;
    double logp[64], *g = calloc((size_t)parameters(w), sizeof *g), *at = g;
    policy_zero_grad(w->policy);
    assert_ok(model_forward(w->policy, s, logp, NULL, err));
    assert_ok(model_backward(w->policy, w->b.coef, token_weight, err));
    for (int64_t i = 0, k = policy_params(w->policy, &q); i < k; i++)
        for (int64_t j = 0; j < q[i].n; j++) *at++ = q[i].grad[j];
    return g;
}

/* The slope of the loss along the accumulated gradient is the gradient's length. */
static void check_slope(struct bench *w)
{
    struct param *q;
    int64_t n = 0, at = 0;
    double length = 0, slope[2];
    loss(w);
    const struct sequences s = batch_sequences(&w->b);
    policy_zero_grad(w->policy);
    assert_ok(model_accumulate(w->policy, &s, w->b.coef, err));
    const int64_t k = policy_params(w->policy, &q);
    for (int64_t i = 0; i < k; i++) n += q[i].n;
    double *g = calloc((size_t)n, sizeof *g);
    float *start = calloc((size_t)n, sizeof *start);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < q[i].n; j++, at++) {
            g[at] = q[i].grad[j];
            start[at] = q[i].value[j];
            length += g[at] * g[at];
        }
    length = sqrt(length);
    for (int64_t i = 0; i < n; i++) g[i] /= length;
    for (int i = 0; i < 2; i++) {
        const double step = i ? 1e-3 : 2e-3;
        slope[i] = (loss_at(w, start, g, step) - loss_at(w, start, g, -step)) / (2 * step);
    }
    loss_at(w, start, g, 0);
    assert_near((4 * slope[1] - slope[0]) / 3, length, 0, 1e-3);
    free(start);
    free(g);
}

/* Scoring, the reference and the backward pass count tokens alike: the sums are those of single tokens, the gradient is the slope. */
static void tails_count_everywhere(void **state)
{
    (void)state;
    struct bench w;
    bench_open(&w);
    float token[4096];
    double whole[64], tail = 0.3;
    const struct sequences plain = batch_sequences(&w.b);
    assert_ok(model_score(w.policy, &plain, whole, token, err));
    batch_public_lengths(&w.b, tail);
    loss(&w);
    const float *at = token;
    bool differs = false;
    for (int64_t i = 0; i < w.b.n; i++) {
        const int32_t other = w.b.n_tok[i ^ 1], shorter = w.b.n_tok[i] < other ? w.b.n_tok[i] : other;
        double sum = 0;
        for (int32_t t = 0; t < w.b.n_tok[i]; t++) sum += (t < shorter ? 1 : tail) * at[t];
        at += w.b.n_tok[i];
        assert_near(w.b.logp[i], sum, 0, 1e-12);
        differs |= fabs(w.b.logp[i] - whole[i]) > 1;
    }
    assert_true(differs);
    check_slope(&w);
    bench_close(&w);
}

/* Tokens that do not count are read like the others: the log-prob is the sum over the rest, tails of it too, and the gradient that of weights of 0 and 1. */
static void what_does_not_count_is_read(void **state)
{
    (void)state;
    struct bench w;
    bench_open(&w);
    static unsigned char flags[64][64], none[64];
    static float token[4096], weight[4096];
    double whole[64], want[64] = {0};
    const double tail = 0.3;
    const struct sequences plain = batch_sequences(&w.b);
    int64_t tokens = 0, counted = 0;
    assert_ok(model_score(w.policy, &plain, whole, token, err));
    for (int64_t i = 0; i < w.b.n; i++) {
        const int32_t other = w.b.n_tok[i ^ 1], shorter = w.b.n_tok[i] < other ? w.b.n_tok[i] : other;
        for (int32_t t = 0; t < w.b.n_tok[i]; t++, tokens++) {
            flags[i][t] = i > 0 && (t + i) % 3 != 0; // of the first row none
            weight[tokens] = flags[i][t] ? (t < shorter ? 1 : (float)tail) : 0;
            want[i] += flags[i][t] ? (t < shorter ? 1 : tail) * token[tokens] : 0;
            counted += flags[i][t];
        }
    }
    loss(&w); // for coefficients
    double *weighted = gradient(&w, &plain, weight), *masked;
    const int64_t n = parameters(&w);
    for (int64_t i = 0; i < w.b.n; i++) w.b.counted[i] = flags[i];
    batch_public_lengths(&w.b, tail);
    assert_int_equal(batch_counted_tokens(&w.b), counted);
    const struct sequences s = batch_sequences(&w.b);
    masked = gradient(&w, &s, NULL);
    double off = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        off += (masked[i] - weighted[i]) * (masked[i] - weighted[i]);
        size += weighted[i] * weighted[i];
    }
    assert_true(size > 0 && sqrt(off / size) < 1e-6);
    free(masked);
    assert_ok(model_score(w.policy, &s, w.b.logp, NULL, err));
    for (int64_t i = 0; i < w.b.n; i++) assert_near(w.b.logp[i], want[i], 1e-9, 1e-9);
    check_slope(&w);
    for (int64_t i = 0; i < w.b.n; i++) w.b.counted[i] = none;
    masked = gradient(&w, &s, NULL); // a batch in which nothing counts
    for (int64_t i = 0; i < n; i++) assert_true(masked[i] == 0);
    free(masked);
    free(weighted);
    bench_close(&w);
}

/* A slice keeps its rows' weights, and tail 1 is no weight at all. */
static void slices_keep_their_tails(void **state)
{
    (void)state;
    struct bench w;
    bench_open(&w);
    struct pair room[8];
    struct batch slice;
    double whole[64];
    batch_public_lengths(&w.b, 0.3);
    const double all = loss(&w);
    memcpy(whole, w.b.logp, (size_t)w.b.n * sizeof *whole);
    batch_slice(&slice, &w.b, 4, 6, room);
    const struct sequences s = batch_sequences(&slice);
    assert_ok(model_score(w.policy, &s, slice.logp, NULL, err));
    for (int64_t i = 0; i < 6; i++) assert_near(slice.logp[i], whole[4 + i], 0, 1e-6);
    batch_public_lengths(&w.b, 1);
    const double plain = loss(&w);
    w.b.written &= ~(uint32_t)COL_WHOLE;
    assert_true(plain == loss(&w));
    assert_true(fabs(plain - all) > 1e-3);
    bench_close(&w);
}

/* sum_v pi(v)^2 by asking for every token of the vocabulary; then the gradient with the weights held as they are. */
static void adjusted_is_what_it_says(void **state)
{
    (void)state;
    struct bench w;
    bench_open(&w);
    enum { MOST = 512 };
    const int32_t vocab = (int32_t)model_facts(w.policy.model)->vocab, n_prompt = w.b.n_prompt[0];
    assert_true(vocab <= MOST);
    static int32_t ids[MOST][64], lengths[MOST], ones[MOST], group[MOST];
    static const int32_t *rows[MOST];
    static double logp[MOST], adjusted[MOST];
    for (int32_t v = 0; v < vocab; v++) {
        memcpy(ids[v], w.b.ids[0], (size_t)n_prompt * sizeof **ids);
        ids[v][n_prompt] = v;
        rows[v] = ids[v];
        lengths[v] = n_prompt;
        ones[v] = 1;
    }
    const struct sequences each = {.n = vocab, .ids = rows, .n_prompt = lengths, .n_tok = ones, .group = group, .adjusted = adjusted};
    assert_ok(model_score(w.policy, &each, logp, NULL, err));
    double square = 0;
    for (int32_t v = 0; v < vocab; v++) square += exp(2 * logp[v]);
    for (int32_t v = 0; v < vocab; v++) assert_near(adjusted[v], logp[v] - log(square), 2e-5, 0);

    struct sequences s = batch_sequences(&w.b);
    s.adjusted = w.b.adjusted;
    assert_ok(model_score(w.policy, &s, w.b.logp, NULL, err));
    w.b.written |= COL_ADJUSTED;
    for (int64_t i = 0; i < w.b.n; i++) w.b.adjusted[i] += 4; // this model's own pairs are all but impossible
    wpo_weigh(&w.b);
    for (int64_t k = 0; k < w.b.n_pair; k++)
        assert_near(w.b.pair[k].weight, fmin(1, exp(w.b.adjusted[2 * k] + w.b.adjusted[2 * k + 1])), 0, 1e-15);
    check_slope(&w);
    bench_close(&w);
}

/* ---------------------------------------------------------------- runs */

static void metric(const char *run, const char *key, double *out, int *n)
{
    char path[2200], *data;
    size_t size;
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", folder, run);
    assert_ok(file_read(path, 1 << 20, &data, &size, err));
    *n = 0;
    for (char *line = strtok(data, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *j = json_loads(line, 0, NULL), *value = json_object_get(j, key);
        if (value) out[(*n)++] = json_number_value(value);
        json_decref(j);
    }
    free(data);
}

/* With learning rate 0 the policy stays the reference: in the second epoch, from the cache, as in the first, and on held-out rows. */
static void the_cache_counts_as_the_policy_does(void **state)
{
    (void)state;
    const char *c = model;
    double v[64];
    int n;
    assert_run("align --model %s --data %s/data.jsonl --eval-data %s/data.jsonl --method ld-dpo --lr 0 --epochs 2 --eval-steps 1 --batch 3 --dtype f32 --quiet --out %s/still", c, c, c, folder);
    static const char *const keys[] = {"loss", "eval_loss"};
    for (int k = 0; k < 2; k++) {
        metric("still", keys[k], v, &n);
        assert_int_equal(n, 4);
        for (int i = 0; i < n; i++) assert_near(v[i], log(2), 1e-15, 0);
    }
}

static void micro_batches_change_nothing(void **state)
{
    (void)state;
    const char *c = model;
    static const char *const methods[] = {"wpo", "ld-dpo", "aot", "aot --wpo --ld-alpha 0.5"};
    for (int m = 0; m < 4; m++) {
        double a[64], b[64];
        int na, nb;
        for (int k = 0; k < 2; k++)
            assert_run("align --model %s --data %s/data.jsonl --eval-data %s/data.jsonl --method %s --lr 1e-3 --max-steps 3 --batch 4 --micro-batch %d --dtype f32 --quiet --out %s/m%d-%d",
                       c, c, c, methods[m], k, folder, m, k);
        static const char *const keys[] = {"loss", "grad_norm", "eval_loss"};
        for (int k = 0; k < 3; k++) {
            char run[32];
            snprintf(run, sizeof run, "m%d-0", m);
            metric(run, keys[k], a, &na);
            snprintf(run, sizeof run, "m%d-1", m);
            metric(run, keys[k], b, &nb);
            assert_true(na == nb && na > 0);
            for (int i = 0; i < na; i++) assert_near(a[i], b[i], 1e-9, 2e-5);
        }
    }
}

static void what_has_no_pairs_is_refused(void **state)
{
    (void)state;
    const char *c = model;
    assert_int_equal(run_sail("align --model %s --data %s/data.jsonl --method dpo --ld-alpha 2 --out %s/x", c, c, folder), 2);
    assert_int_equal(run_sail("grad --model %s --data %s/data.jsonl --method sft --wpo --out %s/x", c, c, folder), 2);
    assert_non_null(strstr(output, "--wpo needs pairs"));
    assert_int_equal(run_sail("align --model %s --data %s/data.jsonl --method sail-pp --wpo --out %s/x", c, c, folder), 2);
    assert_non_null(strstr(output, "--wpo with a score term"));
    assert_int_equal(run_sail("align --model %s --data %s/data.jsonl --method sail-pp --ld-alpha 0.5 --out %s/x", c, c, folder), 2);
    assert_non_null(strstr(output, "--ld-alpha 0.5 with sampled answers"));
}

int main(void)
{
    char template[] = "/tmp/sail-weight-XXXXXX";
    snprintf(folder, sizeof folder, "%s", mkdtemp(template));
    snprintf(model, sizeof model, "%s", repo_path("tests/golden/cases/llama-gqa"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_agrees), cmocka_unit_test(tails_count_everywhere), cmocka_unit_test(what_does_not_count_is_read), cmocka_unit_test(slices_keep_their_tails), cmocka_unit_test(adjusted_is_what_it_says),
        cmocka_unit_test(the_cache_counts_as_the_policy_does), cmocka_unit_test(micro_batches_change_nothing), cmocka_unit_test(what_has_no_pairs_is_refused),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    shell("rm -rf %s", folder);
    return failed;
}
