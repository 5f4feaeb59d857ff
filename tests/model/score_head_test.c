/* A language model opened as a reward model: zeros at first, gradients of the head and below it by differences, an adapter that brings its head. */
#include "test.h"

#include "base/file.h"
#include "io/safetensors.h"
#include "model/model.h"

static const int32_t row_a[] = {5, 9, 17, 3, 22}, row_b[] = {5, 9, 4, 30};
static const int32_t *const ids[] = {row_a, row_b};
static const int32_t n_prompt[] = {2, 2}, n_tok[] = {3, 2}, group[] = {0, 0};
static const struct sequences rows = {.n = 2, .ids = ids, .n_prompt = n_prompt, .n_tok = n_tok, .group = group};
static const double coef[2] = {0.8, -0.3};

static double value_of(struct policy p)
{
    double score[2];
    assert_ok(model_reward(p, &rows, score, err));
    return coef[0] * score[0] + coef[1] * score[1];
}

static struct param *find(struct policy p, const char *end)
{
    struct param *q;
    const int64_t n = policy_params(p, &q);
    for (int64_t i = 0; i < n; i++)
        if (strlen(q[i].name) >= strlen(end) && !strcmp(q[i].name + strlen(q[i].name) - strlen(end), end)) return &q[i];
    fail_msg("no parameter '%s'", end);
    return NULL;
}

static void slopes_hold(struct policy p, const char *name, double step, double tolerance)
{
    struct param *q = find(p, name);
    for (int64_t k = 0; k < q->n; k += 1 + q->n / 5) {
        const float was = q->value[k];
        q->value[k] = was + (float)step;
        const double width_up = (double)q->value[k] - was;
        policy_params_changed(p);
        const double up = value_of(p);
        q->value[k] = was - (float)step;
        const double width = width_up + was - (double)q->value[k];
        policy_params_changed(p);
        const double down = value_of(p);
        q->value[k] = was;
        policy_params_changed(p);
        assert_near(q->grad[k], (up - down) / width, tolerance, 2e-2);
    }
}

static void check(struct policy p, const char *below)
{
    struct param *head = find(p, "score.weight");
    assert_int_equal(value_of(p), 0); // a new head says nothing
    for (int64_t k = 0; k < head->n; k++) head->value[k] = (float)sin((double)k + 1);
    policy_params_changed(p);
    policy_zero_grad(p);
    assert_ok(model_accumulate(p, &rows, coef, err));
    slopes_hold(p, "score.weight", 0.1, 1e-4);
    slopes_hold(p, below, 1e-2, 2e-3);
}

static void full_gradients_reach_head_and_body(void **state)
{
    (void)state;
    struct model *m;
    assert_ok(model_open(&m, repo_path("tests/golden/cases/llama-gqa"), &(struct model_options){.compute = DTYPE_F32, .train_full = true, .reward_head = true}, err));
    assert_true(model_facts(m)->reward_head);
    check((struct policy){m, NULL}, "layers.1.mlp.down_proj.weight");
    model_close(m);
}

static void an_adapter_brings_its_head(void **state)
{
    (void)state;
    const struct model_options o = {.compute = DTYPE_F32, .backward = true, .reward_head = true};
    const char *base = repo_path("tests/golden/cases/llama-gqa");
    struct model *m, *merged;
    struct adapter *a, *again;
    char folder[200], saved[220], whole[220];
    snprintf(folder, sizeof folder, "/tmp/sail-score-%d", (int)getpid());
    snprintf(saved, sizeof saved, "%s/adapter", folder);
    snprintf(whole, sizeof whole, "%s/whole", folder);
    assert_ok(dir_create(folder, err));
    assert_ok(model_open(&m, base, &o, err));
    assert_ok(adapter_create(&a, m, &(struct lora_options){.r = 4, .alpha = 8, .targets = "all-linear", .seed = 3}, err));
    struct policy p = {m, a};
    check(p, "layers.1.self_attn.v_proj.lora_B.weight");
    struct param *b = find(p, "layers.0.mlp.up_proj.lora_B.weight");
    for (int64_t k = 0; k < b->n; k++) b->value[k] = 0.05f * (float)cos((double)k);
    policy_params_changed(p);
    const double want = value_of(p);
    assert_true(fabs(want) > 1e-3);
    // Saved and opened again: the same bits. Merged: the same numbers, in a folder that is a reward model by itself.
    assert_ok(adapter_save(a, saved, err));
    assert_true(adapter_is_reward(saved));
    assert_ok(adapter_open(&again, m, saved, false, err));
    assert_true(value_of((struct policy){m, again}) == want);
    assert_ok(model_save(p, whole, &(struct save_options){.dtype = SAVE_AS_IS}, err));
    assert_ok(model_open(&merged, whole, &(struct model_options){.compute = DTYPE_F32}, err));
    assert_true(model_facts(merged)->reward_head);
    assert_near(value_of((struct policy){merged, NULL}), want, 1e-5, 1e-4);
    model_close(merged);
    adapter_close(again);
    adapter_close(a);
    model_close(m);
    // The adapter of a reward model does not fit a language model.
    assert_ok(model_open(&m, base, &(struct model_options){.compute = DTYPE_F32}, err));
    sail_err why = {0};
    assert_int_not_equal(adapter_open(&a, m, saved, false, &why), SAIL_OK);
    assert_non_null(strstr(why.message, "modules_to_save"));
    model_close(m);
    assert_ok(dir_remove(folder, err));
}

/* A score head with a bias: PEFT's copy of the module has both. */
static void a_bias_goes_along(void **state)
{
    (void)state;
    const char *base = repo_path("tests/golden/peft/llama-seqcls");
    char folder[200], path[400], command[4600];
    float bias = 0.75f;
    struct safetensors s;
    struct model *m, *merged;
    struct adapter *a, *again;
    snprintf(folder, sizeof folder, "/tmp/sail-bias-%d", (int)getpid());
    assert_ok(dir_create(folder, err));
    snprintf(command, sizeof command, "cp %s/config.json %s/", base, folder);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "%s/model.safetensors", base);
    assert_ok(safetensors_open(&s, command, err));
    struct tensor *t = calloc((size_t)s.n + 1, sizeof *t);
    memcpy(t, s.tensor, (size_t)s.n * sizeof *t);
    t[s.n] = (struct tensor){.name = "score.bias", .dtype = DTYPE_F32, .n_dim = 1, .dim = {1}, .data = &bias};
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(safetensors_write(path, t, s.n + 1, NULL, 0, err));
    safetensors_close(&s);
    free(t);
    assert_ok(model_open(&m, folder, &(struct model_options){.compute = DTYPE_F32, .backward = true}, err));
    assert_ok(adapter_create(&a, m, &(struct lora_options){.r = 2, .alpha = 4, .targets = "v_proj", .seed = 3}, err));
    struct policy p = {m, a};
    const double plain = value_of((struct policy){m, NULL});
    assert_true(value_of(p) == plain);
    find(p, "score.bias")->value[0] += 2;
    policy_params_changed(p);
    assert_near(value_of(p), plain + 2 * (coef[0] + coef[1]), 1e-5, 0);
    policy_zero_grad(p);
    assert_ok(model_accumulate(p, &rows, coef, err));
    assert_near(find(p, "score.bias")->grad[0], coef[0] + coef[1], 1e-6, 0);
    slopes_hold(p, "score.weight", 0.1, 1e-4);
    snprintf(path, sizeof path, "%s/adapter", folder);
    assert_ok(adapter_save(a, path, err));
    assert_ok(adapter_open(&again, m, path, false, err));
    assert_true(value_of((struct policy){m, again}) == value_of(p));
    snprintf(path, sizeof path, "%s/merged", folder);
    assert_ok(model_save(p, path, &(struct save_options){.dtype = SAVE_AS_IS}, err));
    assert_ok(model_open(&merged, path, &(struct model_options){.compute = DTYPE_F32}, err));
    assert_near(value_of((struct policy){merged, NULL}), value_of(p), 1e-6, 0);
    model_close(merged);
    adapter_close(again);
    adapter_close(a);
    model_close(m);
    assert_ok(dir_remove(folder, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(full_gradients_reach_head_and_body), cmocka_unit_test(an_adapter_brings_its_head), cmocka_unit_test(a_bias_goes_along)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
