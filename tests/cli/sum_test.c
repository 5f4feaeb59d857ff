/* Sums of methods as runs: named in a list or as a preset, cut into micro-batches, gone on with, refused where they mean nothing. */
#include "cli/program.h"

static const char *const shared = "--batch 6 --max-steps 4 --max-length 64 --lr 1e-2 --schedule constant --dtype f32 --lora-r 4 --quiet --seed 3 --sample-steps 1000 --max-new-tokens 8";

static void presets_are_their_sums(void **state)
{
    (void)state;
    static const struct {
        const char *preset, *methods;
    } same[] = {{"rpo", "dpo,sft-sum --method-weights 1,5e-5 --beta 0.01"}, {"irpo", "dpo,sft-mean"}, {"mpo", "dpo,bco-pair-shift,sft-mean --method-weights 0.8,0.2,1"}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char list[64];
        snprintf(list, sizeof list, "list-%s", same[i].preset);
        assert_run("align --model %s --data %s/pairs.jsonl --method %s --out %s/%s %s", model, folder, same[i].preset, folder, same[i].preset, shared);
        assert_run("align --model %s --data %s/pairs.jsonl --method %s --out %s/%s %s", model, folder, same[i].methods, folder, list, shared);
        assert_same_file(same[i].preset, list, "metrics.jsonl");
        assert_true(run_metric(same[i].preset, "loss", 4) < run_metric(same[i].preset, "loss", 1));
    }
    assert_near(run_metric("rpo", "loss/dpo", 1), 0.6931471805599453, 1e-12, 0);
    assert_near(run_metric("rpo", "loss", 1), run_metric("rpo", "loss/dpo", 1) + 5e-5 * run_metric("rpo", "loss/sft-sum", 1), 1e-12, 0);
    assert_near(run_metric("rpo", "loss/sft-sum", 1), -run_metric("rpo", "logps/chosen", 1), 1e-9, 0);
    assert_near(run_metric("mpo", "loss", 3), 0.8 * run_metric("mpo", "loss/dpo", 3) + 0.2 * run_metric("mpo", "loss/bco-pair-shift", 3) + run_metric("mpo", "loss/sft-mean", 3), 1e-12, 0);
    assert_true(run_metric("mpo", "delta", 1) == 0 && run_metric("mpo", "delta", 4) != 0);
}

/* The list as YAML has it; sft is the token mean of the chosen answers, as `--method sft` on the same rows says. */
static void a_list_in_yaml(void **state)
{
    (void)state;
    shell("printf 'method: [dpo, sft]\\nmethod_weights: [1, 0.5]\\n' > %s/sum.yaml", folder);
    assert_run("align --config %s/sum.yaml --model %s --data %s/pairs.jsonl --eval-data %s/pairs.jsonl --eval-steps 1 --out %s/yaml %s --batch 12", folder, model, folder, folder, folder, shared);
    assert_run("align --method sft --model %s --data %s/pairs.jsonl --out %s/sft %s --batch 12", model, folder, folder, shared);
    assert_near(run_metric("yaml", "loss/sft", 1), run_metric("sft", "loss", 1), 1e-12, 1e-9);
    assert_near(run_metric("yaml", "loss", 1), 0.6931471805599453 + 0.5 * run_metric("sft", "loss", 1), 1e-9, 0);
    assert_near(run_metric("yaml", "eval_loss", 1), run_metric("yaml", "loss", 2), 1e-4, 0); // the whole file is one batch
    assert_run("align --config %s/sum.yaml --model %s --data %s/pairs.jsonl --out %s/cut %s --batch 12 --micro-batch 2 --optimizer sgd", folder, model, folder, folder, shared);
    assert_run("align --config %s/sum.yaml --model %s --data %s/pairs.jsonl --out %s/whole %s --batch 12 --optimizer sgd", folder, model, folder, folder, shared);
    for (int step = 1; step <= 4; step++) assert_near(run_metric("cut", "loss", step), run_metric("whole", "loss", step), 1e-6, 1e-6);
}

/* The policy's own pairs: ties are in no term, and stale answers weigh in every term. */
static void pairs_of_the_policy(void **state)
{
    (void)state;
    const char *rule = repo_path("examples/demo/happy.yaml");
    for (int cut = 0; cut < 2; cut++)
        assert_run("align --model %s --prompts %s/prompts.jsonl --method dpo,sft --method-weights 1,0.2 --mix-pr 1 --reward-rule %s --batch 4 --max-steps 4 --max-length 128 --max-new-tokens 12 --num-samples 4 "
                   "--replay-steps 1 --lr 1e-2 --schedule constant --optimizer sgd --dtype f32 --full --quiet --seed 3 --sample-steps 1000 --micro-batch %d --out %s/own%d", model, folder, rule, cut, folder, cut);
    for (int step = 1; step <= 4; step++) {
        assert_near(run_metric("own1", "loss", step), run_metric("own0", "loss", step), 1e-5, 1e-5);
        assert_near(run_metric("own0", "loss", step), run_metric("own0", "loss/dpo", step) + 0.2 * run_metric("own0", "loss/sft", step), 1e-12, 0);
        assert_true(run_metric("own0", "loss/sft", step) > 0);
    }
    assert_true(run_metric("own0", "val/ties", 4) > 0);
}

static void the_running_delta_of_a_sum_resumes(void **state)
{
    (void)state;
    char command[4096];
    snprintf(command, sizeof command, "align --model %s --data %s/pairs.jsonl --method mpo --method-weights 1,2,0.1 --save-steps 2 %s", model, folder, shared);
    assert_resumes(command, "");
}

static void what_is_no_sum_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *arguments, *says;
    } bad[] = {
        {"--method dpo,dop", "did you mean dpo"},
        {"--method dpo,", "unknown method ''"},
        {"--method dpo,kto", "takes rows one by one"},
        {"--method dpo,sail-pp", "sail-pp does not"},
        {"--method dpo,sail-dp", "sail-dp does not"},
        {"--method dpo,reward", "leave reward out"},
        {"--method irpo,sft", "irpo is a sum itself"},
        {"--method dpo,simpo", "simpo wants beta=2, the methods before it beta=0.1: give --beta"},
        {"--method dpo,sft --method-weights 1", "a number above 0 for each method"},
        {"--method dpo,sft --method-weights 1,0", "a number above 0 for each method"},
        {"--method dpo --method-weights 1", "drop it, or name a sum"},
        {"--method dpo,sft --wpo", "likelihood in a sum is of whole answers"},
        {"--method dpo,sft --margin", "--margin needs a loss on a logit"},
        {"--method dpo,robust --eps 0.5", "--eps must be below 0.5"},
        {"--method sft,sft-mean --ref-rule ema", "has no reference"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_refused(run_sail("align --model %s --data %s/pairs.jsonl %s --out %s/never --quiet", model, folder, bad[i].arguments, folder), bad[i].arguments, bad[i].says);
    }
}

static int prepare(void **state)
{
    (void)state;
    return make_pairs("sum", 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_are_their_sums), cmocka_unit_test(a_list_in_yaml), cmocka_unit_test(pairs_of_the_policy), cmocka_unit_test(the_running_delta_of_a_sum_resumes), cmocka_unit_test(what_is_no_sum_is_refused),
    };
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
