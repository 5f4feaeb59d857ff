/* The online methods from outside: each runs by its name on a real model and moves it, and refuses what it cannot do in a sentence that says what to change. */
#include "cli/program.h"

static const char *const methods[] = {"online-ipo", "online-slic", "xpo", "selm", "sail-revkl", "sail-dp --revkl-coef 0.01 --revkl-on batch",
                                      "sail-revkl --revkl-estimator vocabulary", "sail-mix --label sampled", "sail-mix --revkl-coef 0.1 --revkl-on batch --revkl-estimator vocabulary --baseline loo",
                                      "online-dpo --pr-label soft --chi2-nu 0.2", "sail-pr --mix-pr 0.9 --robust-rho 0.1 --param-bound 3", "sail-listwise", "reinforce", "rloo", "grpo", "grpo-kl",
                                      "sppo", "dno --pair-margin 1 --pair-floor 1", "inpo"};

/* Two steps of every method, on preference rows and their prompts; the way the work is cut changes roundings only. */
static void every_method_runs_by_name(void **state)
{
    (void)state;
    const char *rule = repo_path("examples/demo/happy.yaml");
    for (size_t k = 0; k < sizeof methods / sizeof *methods; k++) {
        char shared[4096], name[64], cut[72];
        snprintf(name, sizeof name, "run-%zu", k);
        snprintf(shared, sizeof shared,
                 "align --model %s --data %s/pairs.jsonl --method %s --reward-rule %s --batch 3 --max-steps 2 --max-length 64 --max-new-tokens 12 --lr 1e-2 --optimizer sgd "
                 "--schedule constant --max-grad-norm 0 --dtype f32 --lora-r 4 --quiet", model, folder, methods[k], rule);
        snprintf(cut, sizeof cut, "%s-cut", name);
        assert_run("%s --out %s/%s", shared, folder, name);
        assert_run("%s --micro-batch 1 --out %s/%s", shared, folder, cut);
        assert_true(run_metric(name, "grad_norm", 1) > 0);
        for (int step = 1; step <= 2; step++) {
            assert_near(run_metric(name, "loss", step), run_metric(cut, "loss", step), 1e-6, 1e-5);
            assert_near(run_metric(name, "grad_norm", step), run_metric(cut, "grad_norm", step), 1e-6, 1e-4);
        }
    }
}

/* Killed after step 2 and gone on with: the same answers of the reference, the same prompts in their order. */
static void answers_of_the_reference_resume_bit_for_bit(void **state)
{
    (void)state;
    static const char *const with_reference[] = {"sail-revkl", "xpo", "selm", "rloo", "inpo --ref-steps 1", "sppo --ref-steps 3"};
    for (int k = 0; k < 6; k++) {
        char shared[4096];
        snprintf(shared, sizeof shared, "align --model %s --data %s/pairs.jsonl --method %s --reward-rule %s --batch 3 --max-steps 4 --save-steps 2 --max-length 64 --max-new-tokens 12 --lr 1e-2 "
                 "--dtype f32 --lora-r 4 --quiet", model, folder, with_reference[k], repo_path("examples/demo/happy.yaml"));
        assert_resumes(shared, "");
    }
}

static const struct {
    const char *options, *says;
} refused[] = {
    {"--method online-ipo --mix-dp 0.2 --mix-pr 0.8", "does not label its own pairs: drop --mix-dp"},
    {"--method xpo --ref-samples 0 --num-samples 2", "give --ref-samples 1"},
    {"--method xpo --num-samples 0", "expected 2 to 64"},
    {"--method selm", "give --data and drop --prompts"},
    {"--method sail-pr --mix-pr 1 --ref-samples 1", "--gamma 0"},
    {"--method simpo --mix-pr 1 --ref-samples 1", "no reference to sample from"},
    {"--method online-dpo --ref-samples 1 --replay-steps 2", "drop --ref-samples"},
    {"--method sail-pr --mix-pr 1 --revkl-estimator vocabulary", "give it a weight"},
    {"--method online-ipo --revkl-coef 0.1", "take a sail-* method"},
    {"--method online-ipo --robust-rho 0.1", "take sail-pr"},
    {"--method online-dpo --chi2-nu 0.1", "--pr-label soft"},
    {"--method online-dpo --chi2-nu 0.1 --robust-rho 0.1 --pr-label soft", "give one of them"},
    {"--method sail-listwise --chi2-nu 0.1", "drop it, or take sail-pr"},
    {"--method grpo --replay-steps 2", "drop --replay-steps"},
    {"--method rloo --pairing all", "drop it"},
    {"--method rloo --baseline log2", "loo, batch, none or a number"},
    {"--method grpo --ref-samples 1", "no reference to sample from"},
    {"--method rloo --ref-samples 1", "needs answers of the policy"},
    {"--method sppo --full", "drop --full"},
    {"--method inpo --full --ref-rule init", "drop --full"},
    {"--method inpo --tau 0.2", "--tau must be at most --beta"},
    {"--method dno", "give --data and drop --prompts"},
    {"--method sail-pr --mix-pr 1 --pair-margin 1", "--gamma 0"},
    {"--method sft --mix-pr 1", "learns from the data only: drop"},
};

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof refused / sizeof *refused; k++) {
        const int status = run_sail("align --model %s --prompts %s/prompts.jsonl --reward-rule %s --max-steps 1 --out %s/never %s", model, folder, repo_path("examples/demo/happy.yaml"), folder, refused[k].options);
        if (status != 2 || !strstr(output, refused[k].says)) fail_msg("%s: status %d, said: %s(wanted 2 and \"%s\")", refused[k].options, status, output, refused[k].says);
    }
}

static int prepare(void **state)
{
    (void)state;
    return make_pairs("online", 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_method_runs_by_name), cmocka_unit_test(answers_of_the_reference_resume_bit_for_bit), cmocka_unit_test(bad_configurations_are_refused)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
