/* Two levels from outside: runs by its name, goes on after a kill, is REINFORCE under the reward model, trains a reward model that other commands load, and refuses what it cannot do. */
#include "cli/program.h"

static const char *align(const char *options)
{
    static char text[8192];
    snprintf(text, sizeof text, "align --model %s --prompts %s/prompts.jsonl --batch 4 --max-steps 4 --save-steps 2 --max-length 64 --max-new-tokens 12 --lr 1e-2 --schedule constant --lora-r 4 --dtype f32 "
             "--threads 1 --quiet --reward-rule %s/letters.yaml --method %s", model, folder, folder, options);
    return text;
}

static void a_run_has_a_policy_and_a_reward_model(void **state)
{
    (void)state;
    assert_run("%s --out %s/run", align("two-level"), folder);
    assert_run("%s --micro-batch 1 --out %s/cut", align("two-level"), folder);
    assert_near(run_metric("run", "reward/loss", 1), 0.6931471805599453, 1e-12, 0); // every answer starts at 0
    assert_true(run_metric("run", "reward/loss", 4) != run_metric("run", "reward/loss", 1));
    assert_true(run_metric("run", "grad_norm", 4) > 0);
    assert_near(run_metric("run", "labels", 4), 4 * 4 * 2, 0, 0); // of one policy's answers
    for (int step = 1; step <= 4; step++) assert_near(run_metric("run", "loss", step), run_metric("cut", "loss", step), 1e-5, 1e-4);
    assert_run("score --model %s --adapter %s/run/reward --data %s/pairs.jsonl --out %s/scores.jsonl --quiet", model, folder, folder, folder);
    assert_run("score --model %s --adapter %s/run/final --data %s/pairs.jsonl --out %s/logps.jsonl --quiet", model, folder, folder, folder);
    shell("grep -q chosen_score %s/scores.jsonl && grep -q chosen_logp %s/logps.jsonl", folder, folder);
    shell("! grep -q '\"chosen_score\": 0[,.]0*,' %s/scores.jsonl", folder); // it has learnt something
}

static void killed_runs_go_on_bit_for_bit(void **state)
{
    (void)state;
    static const char *const kinds[] = {"two-level", "two-level --reward-every 3 --optimizer rmsprop --penalty 0.01 --reward-lr 1e-3"};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        assert_resumes(align(kinds[k]), "--threads 1");
        assert_same_file("straight", "killed", "checkpoints/step-4/two_level.safetensors");
        assert_same_file("straight", "killed", "checkpoints/step-4/optimizer.safetensors");
        assert_same_file("straight", "killed", "reward/adapter_model.safetensors");
    }
}

/* A reward model that never steps says 0: the first policy is RLOO's under a labeler of zeros, and what the second does is nothing to it. */
static void the_first_policy_is_rloo_under_the_reward_model(void **state)
{
    (void)state;
    static const char *const zero = "rules: [{kind: contains, text: x, weight: 0}]\n";
    char path[1100];
    snprintf(path, sizeof path, "%s/zero.yaml", folder);
    assert_ok(file_replace(path, zero, strlen(zero), err));
    assert_run("%s --reward-every 100 --out %s/still", align("two-level"), folder);
    assert_run("%s --num-samples 2 --reward-rule %s --out %s/rloo", align("rloo --beta 0.1"), path, folder);
    for (int step = 1; step <= 4; step++) {
        assert_near(run_metric("still", "loss", step), run_metric("rloo", "loss", step), 1e-9, 1e-9);
        assert_near(run_metric("still", "grad_norm", step), run_metric("rloo", "grad_norm", step), 1e-9, 1e-9);
    }
    assert_same_file("still", "rloo", "checkpoints/step-4/params.safetensors");
}

static const struct {
    const char *options, *says;
} refused[] = {
    {"two-level --mix-pr 0.5 --data DATA", "--mix-pr 1"},
    {"two-level --num-samples 4", "--num-samples 2"},
    {"two-level --full", "drop --full"},
    {"two-level --replay-steps 1", "drop --replay-steps"},
    {"two-level --eval-data DATA", "give --eval-prompts"},
    {"two-level --self-judge", "give a labeler"},
    {"two-level --implicit-reward", "give a labeler"},
    {"two-level --ref-samples 1 --num-samples 1", "needs answers of the policy"},
    {"two-level --extragradient", "differentiates its sampler"},
    {"two-level --logit-weights 0.5:0.5", "differentiates its sampler"},
    {"two-level --penalty 0", "--penalty"},
};

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof refused / sizeof *refused; k++) {
        const char *options = with_data(refused[k].options, "pairs.jsonl");
        assert_refused(run_sail("%s --out %s/never", align(options), folder), options, refused[k].says);
    }
    assert_int_equal(run_sail("grad --model %s --ref %s --data %s/pairs.jsonl --method two-level --out %s/g.safetensors", model, model, folder, folder), 2);
}

static int prepare(void **state)
{
    (void)state;
    static const char *const letters = "rules: [{kind: regex, pattern: '[aeiou]', weight: 1}]\n";
    char path[1100];
    const int rc = make_pairs("two-level", 12);
    snprintf(path, sizeof path, "%s/letters.yaml", folder);
    return rc ? rc : file_replace(path, letters, strlen(letters), NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_run_has_a_policy_and_a_reward_model), cmocka_unit_test(killed_runs_go_on_bit_for_bit),
                                       cmocka_unit_test(the_first_policy_is_rloo_under_the_reward_model), cmocka_unit_test(bad_configurations_are_refused)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
