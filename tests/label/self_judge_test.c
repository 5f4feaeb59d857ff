/* The policy's verdict on two answers, against log-probs of the question with each choice behind it. */
#include "test.h"

#include "base/file.h"
#include "train/run.h"

static struct model *model;
static struct text_pipeline text;
static sail_config *config;

/* log P(choice) behind the question, whole texts tokenised at once. */
static double logp_of(const char *question, const char *choice)
{
    struct ids all = {0};
    const int32_t group = 0;
    double logp;
    assert_ok(tokenizer_leading_specials(text.tokenizer, &all, err));
    assert_ok(tokenizer_encode(text.tokenizer, question, strlen(question), false, &all, err));
    const int32_t n_prompt = (int32_t)all.n;
    assert_ok(tokenizer_encode(text.tokenizer, choice, strlen(choice), false, &all, err));
    const int32_t n_tok = (int32_t)all.n - n_prompt, *ids = all.id;
    assert_ok(model_score((struct policy){.model = model}, &(struct sequences){.n = 1, .ids = &ids, .n_prompt = &n_prompt, .n_tok = &n_tok, .group = &group}, &logp, NULL, err));
    ids_release(&all);
    return logp;
}

static double verdict(const struct self_judge *j, const char *prompt, const char *first, const char *second)
{
    struct ids answer[2] = {{0}, {0}};
    double p;
    assert_ok(tokenizer_encode(text.tokenizer, first, strlen(first), false, &answer[0], err));
    assert_ok(tokenizer_encode(text.tokenizer, second, strlen(second), false, &answer[1], err));
    const int32_t *ids[2] = {answer[0].id, answer[1].id}, n_tok[2] = {(int32_t)answer[0].n, (int32_t)answer[1].n};
    assert_ok(self_judge_ask(j, (struct policy){.model = model}, &(struct reward_request){.prompt_text = prompt, .n = 2, .ids = ids, .n_tok = n_tok}, &p, err));
    for (int k = 0; k < 2; k++) ids_release(&answer[k]);
    return p;
}

static void both_orders_by_hand(void **state)
{
    (void)state;
    char path[64];
    static const char question[] = "Of {prompt}: one {first} or two {second}? ";
    snprintf(path, sizeof path, "/tmp/sail-judge-%d", (int)getpid());
    assert_ok(file_replace(path, question, sizeof question - 1, err));
    assert_ok(sail_config_set(config, "self_judge", "true", err));
    assert_ok(sail_config_set(config, "judge_prompt", path, err));
    assert_ok(sail_config_set(config, "judge_choices", "one,two", err));
    struct self_judge *j;
    assert_ok(self_judge_open(&j, config, &text, err));
    remove(path);
    const double ab = logp_of("Of pets: one a dog or two a fish? ", "one") - logp_of("Of pets: one a dog or two a fish? ", "two");
    const double ba = logp_of("Of pets: one a fish or two a dog? ", "one") - logp_of("Of pets: one a fish or two a dog? ", "two");
    const double want = 0.5 * (1 / (1 + exp(-ab)) + 1 - 1 / (1 + exp(-ba))), got = verdict(j, "pets", "a dog", "a fish");
    assert_true(fabs(ab - ba) > 1e-3); // the order matters to the model
    assert_near(got, want, 1e-5, 0);
    assert_near(got + verdict(j, "pets", "a fish", "a dog"), 1, 1e-12, 0);
    assert_near(verdict(j, "pets", "a dog", "a dog"), 0.5, 1e-12, 0);
    // Placeholders in an answer are text of the answer.
    assert_true(isfinite(verdict(j, "{second}", "{first}", "{prompt}")));
    static char much[8192];
    for (size_t i = 0; i + 5 < sizeof much; i += 4) memcpy(much + i, "dog ", 5);
    assert_true(isnan(verdict(j, "pets", much, "a fish")));
    self_judge_close(j);
}

int main(void)
{
    const char *path = repo_path("examples/demo/stories260K");
    sail_err why = {0};
    const struct model_options o = {.compute = DTYPE_F32};
    if (sail_config_create(&config, "align", &why) || model_open(&model, path, &o, &why) || text_pipeline_open(&text, path, model_facts(model)->eos, model_facts(model)->n_eos, config, &why)) {
        fprintf(stderr, "%s\n", why.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(both_orders_by_hand)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    text_pipeline_close(&text);
    model_close(model);
    sail_config_free(config);
    return failed;
}
