/* Methods that draw from two models' logits, from outside: each runs by its name with an adapter and in full, goes on after a kill as if nothing had happened, and refuses what it
 * cannot do in a sentence that says what to change. */
#include "cli/program.h"

#include "io/safetensors.h"

/* The options that all runs share; the method's come after. */
static const char *align(const char *method)
{
    static char text[8192];
    snprintf(text, sizeof text, "align --model %s --prompts %s/prompts.jsonl --reward-rule %s/vowels.yaml --batch 4 --max-steps 4 --save-steps 2 --max-length 64 --max-new-tokens 12 --lr 1e-2 --optimizer sgd "
             "--schedule constant --max-grad-norm 1 --dtype f32 --threads 1 --quiet --method %s", model, folder, folder, method);
    return text;
}

static const struct {
    const char *name;
    bool blends, drifts; /* draws from a blend of all tokens; scores the answers by the policy that drew them */
} methods[] = {{"ipo-md", true, true},      {"nash-md", true, true},     {"nash-md-togo", true, true}, {"dpo-mix-r", false, true},
               {"dpo-mix-p", false, true}, {"egpo", false, false}, {"egpo-mean", false, false}};
enum { N_METHOD = sizeof methods / sizeof *methods };

/* With an adapter and in full. How the work is cut changes roundings only: four log-probs of some 15 nats in f32 make h, and h the loss. A blend is measured where there is one. */
static void every_method_runs_by_name(void **state)
{
    (void)state;
    for (int k = 0; k < N_METHOD; k++) {
        assert_run("%s --full --lr 1e-3 --max-steps 2 --out %s/full-%d", align(methods[k].name), folder, k);
        // beta: IPO's targets are far enough for its gradient not to be a difference of roundings
        assert_run("%s --lora-r 4 --beta 0.1 --max-steps 2 --out %s/whole-%d", align(methods[k].name), folder, k);
        assert_run("%s --lora-r 4 --beta 0.1 --max-steps 2 --micro-batch 1 --out %s/cut-%d", align(methods[k].name), folder, k);
        char run[3][64];
        snprintf(run[0], sizeof run[0], "full-%d", k);
        snprintf(run[1], sizeof run[1], "whole-%d", k);
        snprintf(run[2], sizeof run[2], "cut-%d", k);
        for (int r = 0; r < 3; r++) {
            assert_true(run_metric(run[r], "grad_norm", 1) > 0);
            if (methods[k].blends) assert_true(run_metric(run[r], "sampler/blend_kl", 1) == 0 && run_metric(run[r], "sampler/blend_kl", 2) != 0); // policy = reference: the blend is both
            if (methods[k].drifts) assert_true(run_metric(run[r], "sampler/drift_max", 2) < 5e-5);
        }
        for (int step = 1; step <= 2; step++) {
            assert_near(run_metric(run[1], "loss", step), run_metric(run[2], "loss", step), 1e-5, 1e-5);
            assert_near(run_metric(run[1], "grad_norm", step), run_metric(run[2], "grad_norm", step), 1e-5, 1e-5);
        }
    }
}

static void killed_runs_go_on_bit_for_bit(void **state)
{
    (void)state;
    static const char *const kinds[] = {"nash-md-togo", "dpo-mix-p", "dpo-mix-r", "egpo"};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char command[9000];
        snprintf(command, sizeof command, "%s --lora-r 4 --optimizer adamw", align(kinds[k]));
        assert_resumes(command, "--threads 1");
        assert_same_file("straight", "killed", "checkpoints/step-4/optimizer.safetensors");
    }
}

/* Weights 1:0 are the policy itself: IPO-MD is online IPO then, to the bit. One-token answers have one KL: both forms of Nash-MD agree. */
static void special_cases_are_other_methods(void **state)
{
    (void)state;
    assert_run("%s --lora-r 4 --logit-weights 1:0 --out %s/md", align("ipo-md"), folder);
    assert_run("%s --lora-r 4 --out %s/online", align("online-ipo"), folder);
    assert_same_file("md", "online", "metrics.jsonl");
    assert_same_file("md", "online", "checkpoints/step-4/params.safetensors");
    assert_run("%s --lora-r 4 --max-new-tokens 1 --out %s/whole", align("nash-md --beta 0.5"), folder);
    assert_run("%s --lora-r 4 --max-new-tokens 1 --out %s/togo", align("nash-md-togo --beta 0.5"), folder);
    for (int step = 1; step <= 4; step++) {
        assert_near(run_metric("togo", "loss", step), run_metric("whole", "loss", step), 1e-6, 1e-5);
        assert_near(run_metric("togo", "grad_norm", step), run_metric("whole", "grad_norm", step), 1e-6, 1e-5);
    }
}

/* No prompt takes the second sampler: plain soft DPO on random pairs. Weight 1 and the paper's are not the same run. */
static void shares_and_weights(void **state)
{
    (void)state;
    assert_run("%s --lora-r 4 --sampler-share 0 --temperature 1 --out %s/none", align("dpo-mix-p"), folder);
    assert_run("%s --lora-r 4 --out %s/plain", align("dpo --mix-pr 1 --pr-label soft"), folder);
    assert_same_file("none", "plain", "metrics.jsonl");
    assert_run("%s --lora-r 4 --label-temperature 0.3 --max-steps 1 --sampler-share 1 --out %s/exact", align("dpo-mix-r"), folder);
    assert_run("%s --lora-r 4 --label-temperature 0.3 --max-steps 1 --sampler-share 1 --tilt-weight one --out %s/one", align("dpo-mix-r"), folder);
    assert_near(run_metric("one", "loss", 1), 0.6931471805599453, 1e-12, 0); // policy = reference
    assert_true(run_metric("exact", "loss", 1) > run_metric("one", "loss", 1));  // the mean of e^D is above 1
}

/* Judges of pairs, whom no reward explains. Whoever comes first wins three to one: Nash-MD starts at a gain of a quarter; in EGPO both answers beat the opponent equally. A tie is a half
 * and stays; no verdict is no pair. */
static void judges_of_pairs(void **state)
{
    (void)state;
    static const struct {
        const char *method, *p;
        double loss, labels, unlabelled;
    } kinds[] = {{"nash-md", "0.75", -0.25, 8, 0}, {"nash-md-togo", "0.75", -0.25, 8, 0}, {"ipo-md", "0.75", 0.0625, 8, 0}, {"egpo", "0.75", 0, 32, 0},
                 {"nash-md", "0.5", 0, 8, 0},      {"egpo --pr-label hard", "0.5", 0, 32, 0}, {"nash-md", "null", 0, 8, 4}, {"egpo", "null", 0, 32, 8 /* in both halves */}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char path[1100], script[200];
        snprintf(path, sizeof path, "%s/judge.sh", folder);
        snprintf(script, sizeof script, "#!/bin/sh\nexec sed -u 's/.*\"id\": *\\(\"[^\"]*\"\\).*/{\"id\": \\1, \"p\": [%s]}/'\n", kinds[k].p);
        assert_ok(file_replace(path, script, strlen(script), err));
        chmod(path, 0700);
        shell("rm -rf %s/judged", folder);
        assert_run("align --model %s --prompts %s/prompts.jsonl --labeler-command %s/judge.sh --batch 4 --max-steps 1 --max-length 64 --max-new-tokens 8 --dtype f32 --threads 1 --lora-r 4 --quiet --method %s "
                   "--out %s/judged", model, folder, folder, kinds[k].method, folder);
        assert_near(run_metric("judged", "loss", 1), kinds[k].loss, 1e-12, 0);
        assert_near(run_metric("judged", "labels", 1), kinds[k].labels, 0, 0);
        assert_near(run_metric("judged", "val/unlabelled", 1), kinds[k].unlabelled, 0, 0);
        assert_near(run_metric("judged", "val/ties", 1), 0, 0, 0);
    }
}

/* Norm of an optimizer's moments by the start of their names, over all parameters. */
static double norm_of(const char *run, int step, const char *name)
{
    char path[1200];
    struct safetensors s;
    double sum = 0;
    snprintf(path, sizeof path, "%s/%s/checkpoints/step-%d/optimizer.safetensors", folder, run, step);
    assert_ok(safetensors_open(&s, path, err));
    for (int64_t i = 0; i < s.n; i++) {
        const float *x = s.tensor[i].data;
        if (strncmp(s.tensor[i].name, name, strlen(name))) continue;
        for (int64_t k = 0; k < tensor_count(&s.tensor[i]); k++) sum += (double)x[k] * x[k];
    }
    safetensors_close(&s);
    return sqrt(sum);
}

/* Looking ahead leaves no trace: with a rate of 0 the run is the plain one, bit for bit, in parameters and in what every optimizer remembers; with a rate above 0 the first moments after one
 * step are that step's gradient alone, clipped to norm 1 and times 1 - beta1, and the step-0 check (log-probs of policy and reference equal to the bit) holds after the way back. */
static void looking_ahead_leaves_no_trace(void **state)
{
    (void)state;
    static const char *const optimizers[] = {"adamw", "rmsprop --momentum 0.9", "sgd --momentum 0.9", "adafactor"};
    for (size_t k = 0; k < sizeof optimizers / sizeof *optimizers; k++) {
        shell("rm -rf %s/ahead %s/plain", folder, folder);
        assert_run("%s --lora-r 4 --lr 0 --max-steps 2 --optimizer %s --out %s/ahead", align("egpo"), optimizers[k], folder);
        assert_run("%s --lora-r 4 --lr 0 --max-steps 2 --optimizer %s --extragradient=false --out %s/plain", align("egpo"), optimizers[k], folder);
        assert_same_file("ahead", "plain", "checkpoints/step-2/params.safetensors");
        assert_same_file("ahead", "plain", "checkpoints/step-2/optimizer.safetensors");
        assert_near(run_metric("ahead", "loss", 2), run_metric("plain", "loss", 2), 0, 0);
        assert_near(run_metric("ahead", "labels", 2), 2 * run_metric("plain", "labels", 2), 0, 0);
    }
    shell("rm -rf %s/ahead %s/plain", folder, folder);
    assert_run("%s --lora-r 4 --max-steps 1 --optimizer adamw --lr 0.1 --out %s/ahead", align("egpo"), folder);
    assert_run("%s --lora-r 4 --max-steps 1 --optimizer adamw --lr 0.1 --extragradient=false --out %s/plain", align("egpo"), folder);
    assert_true(run_metric("ahead", "grad_norm", 1) > 1);
    assert_near(norm_of("ahead", 1, "exp_avg."), 0.1, 0, 1e-5);
    assert_true(run_metric("ahead", "loss", 1) != run_metric("plain", "loss", 1)); // the answers half a step ahead were others
    char path[1100], *data;
    size_t n;
    snprintf(path, sizeof path, "%s/ahead/checkpoints/step-1/state.json", folder);
    assert_ok(file_read(path, 1 << 20, &data, &n, err));
    assert_non_null(strstr(data, "\"optimizer_steps\": 1,"));
    free(data);
}

static const struct {
    const char *options, *says;
} refused[] = {
    {"ipo-md --logit-weights 0.5", "expected POLICY:REFERENCE"},
    {"ipo-md --logit-weights 0.5:", "expected POLICY:REFERENCE"},
    {"ipo-md --logit-weights 1:nan", "expected POLICY:REFERENCE"},
    {"ipo-md --logit-weights 1e9:0", "numbers to 100"},
    {"ipo-md --logit-weights 1:0@0", "expected POLICY:REFERENCE"},
    {"ipo-md --logit-weights 0:0", "give one of them a weight"},
    {"ipo-md --logit-weights 1:0,0.5:0.5,0.5:0.5", "names 3 answers and --num-samples 2"},
    {"ipo-md --replay-steps 2", "drop it, or --logit-weights"},
    {"online-ipo --sampler-share 0.5", "no second sampler"},
    {"simpo --mix-pr 1 --logit-weights 0.5:0.5", "has no reference"},
    {"sail-pr --mix-pr 1 --logit-weights 0.5:0.5", "differentiates its sampler"},
    {"dpo-mix-r --pr-label hard", "--tilt-weight one"},
    {"dpo-mix-r --replay-steps 1", "drop it, or --logit-weights and --pairing tilted"},
    {"dpo-mix-r --mix-pr 0.5 --mix-pp 0.5", "does not label its own pairs"},
    {"dpo-mix-p --sampler-share 1.5", "sampler-share"},
    {"egpo --pairing random", "--pairing opponent"},
    {"online-ipo --pairing opponent --num-samples 3", "does not read a lead"},
    {"egpo --num-samples 4 --logit-weights 1:0", "--num-samples 3"},
    {"egpo --logit-weights 1:0", "plays against the policy itself"},
    {"egpo --logit-weights 1:0,1:0,0.5:0.5@1", "plays against the policy itself"},
    {"egpo --sampler-share 0.5", "plays against the policy itself"},
    {"egpo --mix-pr 0.5 --data DATA", "--mix-pr 1"},
    {"egpo --eval-data DATA", "give --eval-prompts"},
    {"egpo --pair-margin 1", "drop --pair-margin"},
    {"nash-md --extragradient", "differentiates its sampler"},
    {"online-ipo --extragradient --replay-steps 1", "fresh answers in both halves"},
    {"dpo --extragradient --data DATA", "samples nothing that half a step would change"},
    {"nash-md --pr-label hard", "--pr-label soft"},
    {"nash-md --num-samples 3 --logit-weights 1:0 --pairing random", "--num-samples 2"},
    {"nash-md --logit-weights 0.5:0.5", "--logit-weights 1:0,..."},
    {"nash-md --logit-weights 1:0@2,0.5:0.5", "--logit-weights 1:0,..."},
    {"nash-md --mix-pr 0.5 --data DATA", "--mix-pr 1"},
    {"nash-md --eval-data DATA", "give --eval-prompts"},
};

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof refused / sizeof *refused; k++) {
        const char *options = with_data(refused[k].options, "prompts.jsonl");
        assert_refused(run_sail("%s --out %s/never", align(options), folder), options, refused[k].says);
    }
    shell("echo '{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}' > %s/pairs.jsonl", folder);
    assert_int_equal(run_sail("grad --model %s --ref %s --data %s/pairs.jsonl --method nash-md-togo --out %s/never", model, model, folder, folder), 2);
    assert_non_null(strstr(output, "token by token"));
    assert_int_equal(run_sail("grad --model %s --ref %s --data %s/pairs.jsonl --method egpo --out %s/never", model, model, folder, folder), 2);
    assert_non_null(strstr(output, "with an opponent"));
}

static int prepare(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sail-two-model-%d", (int)getpid());
    mkdir(folder, 0700);
    snprintf(model, sizeof model, "%s", repo_path("examples/demo/stories260K"));
    shell("printf 'rules:\\n  - kind: regex\\n    pattern: \"[aeiou]\"\\n    weight: 0.3\\n' > %s/vowels.yaml", folder); // hardly ever a tie
    shell("head -n 12 %s > %s/prompts.jsonl", repo_path("examples/demo/prompts-train.jsonl"), folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_method_runs_by_name), cmocka_unit_test(killed_runs_go_on_bit_for_bit), cmocka_unit_test(special_cases_are_other_methods), cmocka_unit_test(shares_and_weights), cmocka_unit_test(judges_of_pairs), cmocka_unit_test(looking_ahead_leaves_no_trace),
                                       cmocka_unit_test(bad_configurations_are_refused)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
