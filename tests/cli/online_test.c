/* The online methods from outside: each runs by its name on a real model and moves it, and refuses what it cannot do in a sentence that says what to change. */
#include "cli/program.h"

static const char *const methods[] = {"online-ipo", "online-slic", "xpo", "selm", "sail-revkl", "sail-dp --revkl-coef 0.01 --revkl-on batch",
                                      "sail-revkl --revkl-estimator vocabulary", "sail-mix --label sampled", "sail-mix --revkl-coef 0.1 --revkl-on batch --revkl-estimator vocabulary --baseline loo",
                                      "online-dpo --pr-label soft --chi2-nu 0.2", "sail-pr --mix-pr 0.9 --pr-label soft --kl-nu 0.1", "sail-mix --temperature 1.3", "sail-pr --mix-pr 0.9 --temperature 0.8 --baseline loo", "sail-pr --mix-pr 0.9 --robust-rho 0.1 --param-bound 3", "sail-listwise", "reinforce", "rloo", "grpo", "grpo-kl",
                                      "sppo", "dno --pair-margin 1 --pair-floor 1", "inpo"};

/* Two steps of every method, on preference rows and their prompts; the way the work is cut changes roundings only. Both ways take the second step from one checkpoint: a rounding in the
 * parameters would draw another token now and then. */
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
        assert_run("%s --save-steps 1 --out %s/%s", shared, folder, name);
        assert_run("%s --micro-batch 1 --max-steps 1 --out %s/%s-first", shared, folder, cut);
        shell("cp -r %s/%s %s/%s && rm -r %s/%s/checkpoints/step-2 %s/%s/final", folder, name, folder, cut, folder, cut, folder, cut);
        assert_run("align --out %s/%s --resume --micro-batch 1 --quiet", folder, cut);
        char first[80];
        snprintf(first, sizeof first, "%s-first", cut);
        assert_true(run_metric(name, "grad_norm", 1) > 0);
        for (int step = 1; step <= 2; step++) {
            const char *other = step == 1 ? first : cut;
            assert_near(run_metric(name, "loss", step), run_metric(other, "loss", step), 1e-6, 1e-5);
            assert_near(run_metric(name, "grad_norm", step), run_metric(other, "grad_norm", step), 1e-6, 1e-4);
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

/* From the second iterate on some prompts bring their answers and verdicts along, and nobody is asked about those again; killed after step 2, the run still has them. */
static void earlier_iterates_come_back(void **state)
{
    (void)state;
    char shared[4096];
    snprintf(shared, sizeof shared, "align --model %s --data %s/pairs.jsonl --method dno --pair-margin 0.5 --pair-margin-own 0.1 --pair-floor -100 --replay-iterates 0.4,0.3 --ref-steps 1 --reward-rule %s "
             "--batch 6 --max-steps 4 --save-steps 2 --max-length 64 --max-new-tokens 12 --lr 1e-2 --dtype f32 --lora-r 4 --threads 1 --quiet", model, folder, repo_path("examples/demo/happy.yaml"));
    assert_resumes(shared, "--threads 1");
    assert_same_file("straight", "killed", "checkpoints/step-4/archive.safetensors");
    double brought = 0;
    for (int step = 1; step <= 4; step++) {
        const double now = run_metric("straight", "replay/prompts", step);
        assert_true(step == 1 ? now == 0 : now >= 0 && now <= 6);
        brought += now;
        assert_near(run_metric("straight", "labels", step), 6 * (6 * step - brought), 0, 0); // six answers to each of six prompts
    }
    assert_true(brought >= 4);
    assert_run("%s --replay-iterates 0 --out %s/new", shared, folder);
    assert_near(run_metric("new", "labels", 4), 6 * 24, 0, 0);
}

/* Answers that the policy would not draw by itself do not measure its KL, and the run says so. */
static void the_kl_of_another_sampler_is_no_kl(void **state)
{
    (void)state;
    static const struct {
        const char *options;
        bool says;
    } of[] = {{"--method online-dpo", false}, {"--method online-dpo --temperature 0.7", true}, {"--method online-dpo --top-k 5", true}, {"--method online-dpo --top-p 0.9", true}, {"--method sppo", false}};
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        assert_run("align --model %s --prompts %s/prompts.jsonl --reward-rule %s --max-steps 1 --dry-run %s", model, folder, repo_path("examples/demo/happy.yaml"), of[k].options);
        assert_int_equal(strstr(output, "which is not KL(pi || ref)") != NULL, of[k].says);
    }
}

/* How training samples changes nothing in what the policy is measured by: the same start has the same reward, KL and length on held-out prompts. */
static void held_out_prompts_are_answered_alike(void **state)
{
    (void)state;
    static const char *const samples[] = {"--temperature 1", "--temperature 0.3", "--top-k 2", "--top-p 0.5"};
    static const char *const measured[] = {"eval_reward", "eval_kl", "eval_length"};
    double first[3];
    for (size_t k = 0; k < sizeof samples / sizeof *samples; k++) {
        shell("rm -rf %s/alike", folder);
        assert_run("align --model %s --prompts %s/prompts.jsonl --eval-prompts %s/prompts.jsonl --reward-rule %s --method online-dpo --lr 0 --batch 2 --max-new-tokens 8 --max-steps 1 --eval-steps 1 --dtype f32 --threads 1 %s --out %s/alike",
                   model, folder, folder, repo_path("examples/demo/happy.yaml"), samples[k], folder);
        for (int i = 0; i < 3; i++) {
            const double value = run_metric("alike", measured[i], 1);
            if (!k) first[i] = value;
            assert_true(value == first[i] && isfinite(value));
        }
    }
}

/* Score terms want draws of the policy. At another temperature over the whole vocabulary pairs are weighed into such: the weights have mean 1. Cut tails cannot be weighed back, and the run says so; a sampler
 * that is not differentiated needs no weights. */
static void other_temperatures_are_weighed(void **state)
{
    (void)state;
    static const struct {
        const char *options, *says;
        bool weighs;
    } of[] = {{"--gamma 1 --temperature 1.6", "(--replay-clip", true}, {"--gamma 1 --temperature 0.7", "(--replay-clip", true}, {"--gamma 1", NULL, false}, {"--gamma 0 --temperature 1.6", NULL, false},
              {"--gamma 1 --temperature 1.6 --top-k 50", "the score term is biased", false}, {"--gamma 1 --temperature 1.6 --tempered keep", "the score term is biased", false}};
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        shell("rm -rf %s/tempered", folder);
        assert_run("align --model %s --prompts %s/prompts.jsonl --reward-rule %s --method sail-pr --mix-pr 1 --pr-label soft --batch 160 --max-new-tokens 1 --replay-clip 1e9 --max-steps 1 --dtype f32 --lora-r 4 --threads 1 --sample-steps 9 %s "
                   "--out %s/tempered", model, folder, repo_path("examples/demo/happy.yaml"), of[k].options, folder);
        const bool said = strstr(output, "(--replay-clip") || strstr(output, "the score term is biased");
        if (said != (of[k].says != NULL) || (said && !strstr(output, of[k].says))) fail_msg("%s: said %s", of[k].options, output);
        if (!of[k].weighs) {
            shell("! grep -q mean_weight %s/tempered/metrics.jsonl", folder);
            continue;
        }
        const double pairs = run_metric("tempered", "replay/pairs", 1), effective = run_metric("tempered", "replay/effective_pairs", 1);
        assert_true(pairs == 160 && effective < pairs);
        // The mean of 160 weights, within four of its standard errors.
        assert_near(run_metric("tempered", "replay/mean_weight", 1), 1, 4 * sqrt((pairs / effective - 1) / pairs), 0);
        assert_true(run_metric("tempered", "replay/clip_share", 1) == 0);
    }
}

/* Beyond every margin there is no pair; answers of the policy's own have one of their own. */
static void own_answers_win_by_a_margin_of_their_own(void **state)
{
    (void)state;
    static const double own[] = {1e6, 1e-3};
    for (int k = 0; k < 2; k++) {
        shell("rm -rf %s/margin", folder);
        assert_run("align --model %s --data %s/pairs.jsonl --method dno --pair-margin 1e6 --pair-margin-own %g --pair-floor -100 --max-repetition 1 --reward-rule %s --batch 6 --max-steps 1 --max-length 64 --max-new-tokens 12 --dtype f32 "
                   "--lora-r 4 --quiet --out %s/margin", model, folder, own[k], repo_path("examples/demo/happy.yaml"), folder);
        const double pairs = 6 * 15 - run_metric("margin", "val/ties", 1);
        if (k)
            assert_true(pairs > 0 && pairs < 6 * 15);
        else
            assert_near(pairs, 0, 0, 0);
    }
}

/* At temperature 0.001 the policy goes round in circles. Against the data's answers such ones lose, whatever the labeler says and however close; one against another they make no pair. */
static void who_repeats_itself_loses(void **state)
{
    (void)state;
    static const char answers[] = "--num-samples 0 --ref-samples 2 --data-answers 1 --pairing all --temperature 0.001 --max-new-tokens 96 --max-length 160";
    double pairs[2];
    for (int k = 0; k < 2; k++) {
        shell("rm -rf %s/again", folder);
        assert_run("align --model %s --data %s/pairs.jsonl --method dpo --mix-pr 1 %s --pair-margin 1e6 --max-repetition %s --reward-rule %s --batch 6 --max-steps 1 --dtype f32 --lora-r 4 --threads 1 --quiet --out %s/again",
                   model, folder, answers, k ? "0.05" : "1", repo_path("examples/demo/happy.yaml"), folder);
        pairs[k] = 6 * 3 - run_metric("again", "val/ties", 1);
        if (!k) continue;
        // Two greedy answers of a prompt are one: each prompt that repeats itself gives both of its pairs with the data's answer.
        const double share = run_metric("again", "completions/repetitive", 1);
        assert_true(share > 0);
        assert_near(pairs[1], 2 * 6 * share, 1e-9, 0);
    }
    assert_near(pairs[0], 0, 0, 0);
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
    {"--method online-dpo --kl-nu 0.1", "--kl-nu moves uncertain labels only, and --pr-label hard gives certain ones: --pr-label soft"},
    {"--method online-dpo --kl-nu 0.1 --chi2-nu 0.1 --pr-label soft", "give one of them"},
    {"--method online-dpo --kl-nu -0.1 --pr-label soft", "--kl-nu: expected a number from 0"},
    {"--method online-ipo --kl-nu 0.1", "take sail-pr"},
    {"--method sail-listwise --chi2-nu 0.1", "drop them, or take sail-pr"},
    {"--method sail-listwise --kl-nu 0.1", "drop them, or take sail-pr"},
    {"--method grpo --replay-steps 2", "drop --replay-steps"},
    {"--method rloo --pairing all", "drop it"},
    {"--method rloo --baseline log2", "loo, batch, none or a number"},
    {"--method grpo --ref-samples 1", "no reference to sample from"},
    {"--method rloo --ref-samples 1", "needs answers of the policy"},
    {"--method sppo --full", "drop --full"},
    {"--method inpo --full --ref-rule init", "drop --full"},
    {"--method inpo --tau 0.2", "--tau must be at most --beta"},
    {"--method dno", "give --data and drop --prompts"},
    {"--method sppo --replay-iterates 0.6,0.5", "expected less than 1"},
    {"--method sppo --replay-iterates 0.6,x", "expected shares like"},
    {"--method sppo --replay-iterates 0.6 --ref-rule init", "--ref-rule periodic"},
    {"--method sppo --replay-iterates 0.6 --pr-label sampled", "hard or soft"},
    {"--method sppo --replay-iterates 0.6 --replay-steps 1", "drop"},
    {"--method rloo --replay-iterates 0.6 --ref-rule periodic", "has no use for them"},
    {"--method sail-pr --mix-pr 1 --pair-margin-own 1", "--gamma 0"},
    {"--method sail-pr --mix-pr 1 --pair-margin 1", "--gamma 0"},
    {"--method sail-pr --mix-pr 1 --max-repetition 0.5", "--gamma 0"},
    {"--method sppo --max-repetition 0.5", "take them as they are: drop it"},
    {"--method online-dpo --num-samples 4 --pairing duels --max-repetition 0.5", "take them as they are: drop it"},
    {"--method rloo --max-repetition 0.5", "makes none: drop it"},
    {"--method sft --mix-pr 1", "learns from the data only: drop"},
};

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof refused / sizeof *refused; k++) {
        assert_refused(run_sail("align --model %s --prompts %s/prompts.jsonl --reward-rule %s --max-steps 1 --out %s/never %s", model, folder, repo_path("examples/demo/happy.yaml"), folder, refused[k].options), refused[k].options, refused[k].says);
    }
}

static int prepare(void **state)
{
    (void)state;
    return make_pairs("online", 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_method_runs_by_name), cmocka_unit_test(answers_of_the_reference_resume_bit_for_bit), cmocka_unit_test(earlier_iterates_come_back), cmocka_unit_test(the_kl_of_another_sampler_is_no_kl), cmocka_unit_test(held_out_prompts_are_answered_alike),
                                       cmocka_unit_test(own_answers_win_by_a_margin_of_their_own), cmocka_unit_test(other_temperatures_are_weighed), cmocka_unit_test(who_repeats_itself_loses), cmocka_unit_test(bad_configurations_are_refused)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
