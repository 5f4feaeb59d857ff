/* Methods whose labels are the policy's own: each runs by its name, resumes bit for bit and refuses what it cannot do in a sentence that says what to change. */
#include "cli/program.h"

#include <jansson.h>

/* The options that all runs share; the method's come after. */
static const char *align(const char *method)
{
    static char text[8192];
    snprintf(text, sizeof text, "align --model %s --data %s/pairs.jsonl --batch 3 --max-steps 4 --save-steps 2 --max-length 64 --max-new-tokens 12 --lr 1e-2 --optimizer sgd --schedule constant "
             "--max-grad-norm 0 --dtype f32 --threads 1 --quiet --method %s", model, folder, method);
    return text;
}

/* The start policy of DICE, trained by DPO on the same base. */
static const char *dice(const char *more)
{
    static char text[4096];
    snprintf(text, sizeof text, "dice --adapter %s/dpo/final --ref-samples 4 --finished-only=false %s", folder, more);
    return text;
}

/* At the first step policy, reference and judge are one: the mean implicit reward of two answers is what a run with the base as reference measures as KL of the same answers. */
static void the_reward_is_a_log_ratio(void **state)
{
    (void)state;
    char method[2048];
    assert_run("%s --max-steps 1 --out %s/ratio", align(dice("--mix-pr 1 --num-samples 2 --ref-samples 0 --length-coef 0 --temperature 1")), folder);
    snprintf(method, sizeof method, "online-dpo --adapter %s/dpo/final --ref base --pr-label soft --reward-rule %s --max-steps 1", folder, repo_path("examples/demo/happy.yaml"));
    assert_run("%s --out %s/kl", align(method), folder);
    assert_true(fabs(run_metric("kl", "objective/kl", 1)) > 0.1);
    assert_near(run_metric("ratio", "objective/scores", 1), run_metric("kl", "objective/kl", 1), 1e-5, 1e-5);
}

static void dice_asks_the_start_policy(void **state)
{
    (void)state;
    assert_run("%s --out %s/dice", align(dice("--mix-pr 1")), folder);
    for (int step = 1; step <= 4; step++) {
        assert_true(run_metric("dice", "grad_norm", step) > 0);
        assert_true(run_metric("dice", "objective/length_coef", step) >= 0 && run_metric("dice", "objective/length_coef", step) <= 1);
        assert_true(run_metric("dice", "objective/scores_margin", step) > 0);
        assert_true(run_metric("dice", "val/unlabelled", step) == 0);
    }
    assert_run("%s --micro-batch 1 --out %s/dice-cut", align(dice("--mix-pr 1")), folder);
    assert_near(run_metric("dice", "loss", 2), run_metric("dice-cut", "loss", 2), 1e-6, 1e-5);
    // Another price of length is another reward of the same answers: lower by that times their characters, which are the same in both runs.
    assert_run("%s --max-steps 1 --length-coef 0 --out %s/dice-0", align(dice("--mix-pr 1")), folder);
    assert_run("%s --max-steps 1 --length-coef 0.5 --out %s/dice-1", align(dice("--mix-pr 1")), folder);
    assert_run("%s --max-steps 1 --length-coef 1 --out %s/dice-2", align(dice("--mix-pr 1")), folder);
    const double r0 = run_metric("dice-0", "objective/scores", 1), r1 = run_metric("dice-1", "objective/scores", 1), r2 = run_metric("dice-2", "objective/scores", 1);
    assert_true(r0 - r2 > 12); // twelve tokens are more characters than that
    assert_near(r0 - r1, r1 - r2, 1e-9, 0);
}

static void dice_resumes(void **state)
{
    (void)state;
    assert_resumes(align(dice("--ref-steps 3")), "");
}

/* Answers that were cut have no verdict: nothing of theirs is left of the batch, the data's pairs are. */
static void cut_answers_have_no_verdict(void **state)
{
    (void)state;
    assert_run("%s --adapter %s/dpo/final --ref-samples 4 --mix-pr 0.8 --out %s/cut", align("dice"), folder, folder);
    assert_true(run_metric("cut", "val/contain_eos_token", 2) == 0);
    assert_true(run_metric("cut", "val/unlabelled", 2) > 0);
}

/* Two runs that learn the same from the same answers. */
static void assert_same_steps(const char *a, const char *b)
{
    for (int step = 1; step <= 4; step++) {
        assert_true(run_metric(a, "grad_norm", step) > 0);
        assert_near(run_metric(a, "loss", step), run_metric(b, "loss", step), 1e-6, 1e-5);
        assert_near(run_metric(a, "grad_norm", step), run_metric(b, "grad_norm", step), 1e-6, 1e-4);
    }
}

static void osp_runs_and_resumes(void **state)
{
    (void)state;
    assert_run("%s --out %s/osp", align("osp --lora-r 4"), folder);
    assert_run("%s --micro-batch 1 --out %s/osp-cut", align("osp --lora-r 4"), folder);
    assert_same_steps("osp", "osp-cut");
    // A labeler beside them scores the evaluations and changes nothing else.
    char judged[2048];
    snprintf(judged, sizeof judged, "osp --lora-r 4 --eval-prompts %s/prompts.jsonl --reward-rule %s", folder, repo_path("examples/demo/happy.yaml"));
    assert_run("%s --out %s/osp-judged", align(judged), folder);
    assert_same_steps("osp", "osp-judged");
    assert_true(isfinite(run_metric("osp-judged", "eval_reward", 4)));
    assert_true(run_metric("osp", "labels", 1) == 3 * 6 * 2); // prompts, pairs, answers of a pair
    assert_resumes(align("osp --lora-r 4"), "");
}

/* A judge of rewards says the same of a pair whether it is asked about all answers or about these two. */
static void duels_are_all_pairs(void **state)
{
    (void)state;
    char method[2048];
    static const char *const pairing[] = {"all", "duels"};
    for (int hard = 0; hard < 2; hard++) {
        for (int k = 0; k < 2; k++) {
            snprintf(method, sizeof method, "online-dpo --lora-r 4 --num-samples 4 --reward-rule %s --pr-label %s --pairing %s", repo_path("examples/demo/happy.yaml"), hard ? "hard" : "soft", pairing[k]);
            assert_run("%s --out %s/%s-%d", align(method), folder, pairing[k], hard);
        }
    }
    assert_same_steps("all-0", "duels-0");
    for (int step = 1; step <= 4; step++) {
        assert_true(run_metric("all-1", "loss", step) == run_metric("duels-1", "loss", step));
        assert_true(run_metric("all-1", "grad_norm", step) == run_metric("duels-1", "grad_norm", step));
    }
}

/* Hot answers of the story model hold numbers now and then. */
static const char pfpo[] = "pfpo --lora-r 4 --temperature 20 --top-p 1 --majority-share 0";

static void pfpo_runs_and_resumes(void **state)
{
    (void)state;
    assert_run("%s --out %s/pfpo", align(pfpo), folder);
    double moved = 0;
    for (int step = 1; step <= 4; step++) moved += run_metric("pfpo", "grad_norm", step);
    assert_true(moved > 0);
    assert_resumes(align(pfpo), "");
    // Pseudo tests: a program says how many of them an answer passes.
    char method[2048];
    snprintf(method, sizeof method, "pfpo --lora-r 4 --final-answer none --num-samples 3 --pair-floor 0.5 --pair-margin 0.6 --labeler-command \"sh %s/passes.sh\"", folder);
    static const char program[] = "while read -r x; do id=$(echo \"$x\" | sed 's/.*\"id\": *\"\\([0-9]*\\)\".*/\\1/'); echo '{\"id\": \"'$id'\", \"rewards\": [0.4, 0.9, 0.25]}'; done\n";
    char path[1100];
    snprintf(path, sizeof path, "%s/passes.sh", folder);
    assert_ok(file_replace(path, program, sizeof program - 1, err));
    assert_run("%s --out %s/tests", align(method), folder);
    assert_true(run_metric("tests", "val/unlabelled", 1) == 0);
    assert_true(run_metric("tests", "val/ties", 1) == 3 * 2); // 0.9 against 0.4 is too close, 0.4 wins nothing
}

/* A labeler that keeps what it is asked and says the same each time. */
static const char *keeper(const char *rewards)
{
    static char option[2300];
    char program[2048], path[1100];
    snprintf(program, sizeof program, "while read -r x; do echo \"$x\" >> %s/asked.jsonl; id=$(echo \"$x\" | sed 's/.*\"id\": *\"\\([0-9]*\\)\".*/\\1/'); echo '{\"id\": \"'$id'\", \"rewards\": [%s]}'; done\n", folder, rewards);
    snprintf(path, sizeof path, "%s/keeper.sh", folder);
    assert_ok(file_replace(path, program, strlen(program), err));
    snprintf(option, sizeof option, "--final-answer none --labeler-command \"sh %s/keeper.sh\"", folder);
    return option;
}

static size_t in_common(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] && a[n] == b[n]) n++;
    return n;
}

/* Two answers, three endings of each: the labeler sees both whole and then the endings, which begin as the answer that they belong to. */
static void beginnings_are_judged_by_their_endings(void **state)
{
    (void)state;
    char method[4096];
    snprintf(method, sizeof method, "pdpo --lora-r 4 --prefix-cut token --num-samples 2 --max-steps 1 %s", keeper("0, 0, 1, 1, 1, 0, 0, 0"));
    shell("rm -f %s/asked.jsonl", folder);
    assert_run("%s --out %s/values", align(method), folder);
    assert_true(run_metric("values", "val/unlabelled", 1) == 0 && run_metric("values", "val/ties", 1) == 0);
    assert_true(run_metric("values", "objective/scores", 1) == 0.5 && run_metric("values", "objective/scores_margin", 1) == 1);
    assert_true(run_metric("values", "completions/mean_length", 1) <= 8); // 0.7 of 12
    char path[1100], *data;
    size_t n;
    snprintf(path, sizeof path, "%s/asked.jsonl", folder);
    assert_ok(file_read(path, 1 << 20, &data, &n, err));
    int shared = 0, whole = 0;
    for (char *line = strtok(data, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *j = json_loads(line, 0, NULL), *texts = json_object_get(j, "completions");
        if (json_array_size(texts) != 8) { // samples for the report are asked about one by one
            json_decref(j);
            continue;
        }
        whole++;
        for (size_t k = 2; k < 8; k++) shared += in_common(json_string_value(json_array_get(texts, k)), json_string_value(json_array_get(texts, (k - 2) / 3))) > 0;
        json_decref(j);
    }
    free(data);
    assert_int_equal(whole, 3);
    assert_int_equal(shared, 3 * 6);
    snprintf(method, sizeof method, "pdpo --lora-r 4 --prefix-cut token --num-samples 2 --max-steps 1 %s", keeper("1, 0, 1, 1, 0, 0, 0, 0"));
    assert_run("%s --out %s/uncertain", align(method), folder);
    assert_true(run_metric("uncertain", "val/ties", 1) == 3); // right twice of three times is neither
    snprintf(method, sizeof method, "pdpo --lora-r 4 --num-samples 2 --max-steps 1 %s", keeper("1, 0"));
    assert_run("%s --out %s/lines", align(method), folder);
    assert_true(run_metric("lines", "val/unlabelled", 1) == 3); // answers without five lines are not cut
}

static void pdpo_runs_and_resumes(void **state)
{
    (void)state;
    static const char hot[] = "pdpo --lora-r 4 --temperature 20 --top-p 1 --majority-share 0 --prefix-cut token --pair-margin 0.3 --pair-floor 0.3 --batch 6";
    assert_run("%s --out %s/pdpo", align(hot), folder);
    assert_run("%s --micro-batch 1 --out %s/pdpo-cut", align(hot), folder);
    double moved = 0;
    for (int step = 1; step <= 4; step++) {
        moved += run_metric("pdpo", "grad_norm", step);
        assert_near(run_metric("pdpo", "loss", step), run_metric("pdpo-cut", "loss", step), 1e-5, 1e-5);
    }
    assert_true(moved > 0);
    assert_resumes(align(hot), "");
}

/* Eight answers meet ten or eleven times, two are asked about each time; two answers meet once, as they would without a tournament. */
static void tournaments_ask_little(void **state)
{
    (void)state;
    char method[2048];
    static const char *const pairing[] = {"best-worst", "tournament"};
    for (int k = 0; k < 2; k++) {
        snprintf(method, sizeof method, "online-dpo --lora-r 4 --reward-rule %s --pairing %s", repo_path("examples/demo/happy.yaml"), pairing[k]);
        assert_run("%s --out %s/two-%d", align(method), folder, k);
    }
    for (int step = 1; step <= 4; step++) {
        assert_true(run_metric("two-0", "loss", step) == run_metric("two-1", "loss", step));
        assert_true(run_metric("two-0", "labels", step) == run_metric("two-1", "labels", step));
    }
    snprintf(method, sizeof method, "inpo --lora-r 4 --reward-rule %s --pairing tournament", repo_path("examples/demo/happy.yaml"));
    assert_run("%s --batch 4 --max-steps 2 --out %s/inpo", align(method), folder);
    const double asked = run_metric("inpo", "labels", 1);
    assert_true(asked >= 4 * 2 * 10 && asked <= 4 * 2 * 11 && run_metric("inpo", "grad_norm", 1) > 0);
    assert_resumes(align("osp --lora-r 4 --pairing tournament"), "");
}

static const struct {
    const char *options, *says;
} refused[] = {
    {"osp --pairing tournament --replay-steps 1", "drop --replay-steps"},
    {"sppo --reward-rule x.yaml --pairing tournament", "reads every answer's rate of wins"},
    {"inpo --reward-rule x.yaml --pairing tournament --pair-margin 1", "asks who wins"},
    {"sail-pr --reward-rule x.yaml --mix-pr 1 --num-samples 4 --pairing tournament", "would be biased"},
    {"dice", "give that policy as --adapter"},
    {"dice --adapter %s/dpo/final --ref base", "drop --ref"},
    {"dice --adapter %s/dpo/final --length-coef no", "expected auto or a number"},
    {"dice --adapter %s/dpo/final --self-judge", "drop one of them"},
    {"dice --adapter %s/dpo/final --mix-pr 0", "samples no answers"},
    {"dpo --implicit-reward", "--mix-pr above 0"},
    {"dice --adapter %s/dpo/final --pairing duels --finished-only=false", "--pairing best-worst"},
    {"online-dpo --reward-rule x.yaml --length-coef auto", "give --implicit-reward"},
    {"sail-pr --reward-rule x.yaml --finished-only", "--gamma 0"},
    {"osp --pairing all", "--pairing duels or tournament, or --num-samples 2"},
    {"osp --judge-choices A", "two texts with a comma"},
    {"osp --judge-choices A,A", "different tokens"},
    {"osp --judge-prompt %s/prompts.jsonl", "expected {prompt} once, found it nowhere"},
    {"osp --replay-steps 1", "drop --replay-steps"},
    {"online-dpo --reward-rule x.yaml --judge-choices a,b", "are for --self-judge"},
    {"sppo --reward-rule x.yaml --pairing duels", "--pairing all"},
    {"pfpo --reward-rule x.yaml", "--final-answer (none)"},
    {"pfpo --final-answer none", "asks a labeler"},
    {"pdpo --num-samples 20", "80 texts to judge for a prompt: expected at most 64"},
    {"pdpo --replay-steps 2 --top-p 1", "drop one of them"},
    {"pdpo --pairing duels --pair-margin 0 --pair-floor -1e12", "--pairing all"},
    {"pdpo --finished-only", "are not finished"},
    {"pdpo --data-answers 1", "drop --mix-pp"},
    {"osp --prefix-endings 2", "a labeler of whole texts"},
    {"rloo --reward-rule x.yaml --prefix-endings 2", "needs whole draws"},
    {"pfpo --prefix-cut token", "give --prefix-endings"},
};

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof refused / sizeof *refused; k++) {
        char method[2048];
        snprintf(method, sizeof method, refused[k].options, folder);
        assert_refused(run_sail("%s --out %s/never", align(method), folder), method, refused[k].says);
    }
}

static int prepare(void **state)
{
    (void)state;
    return make_pairs("self-label", 12) ? -1 : run_sail("align --model %s --data %s/pairs.jsonl --method dpo --max-steps 3 --batch 3 --lr 1e-2 --lora-r 4 --dtype f32 --out %s/dpo --quiet", model, folder, folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_reward_is_a_log_ratio), cmocka_unit_test(dice_asks_the_start_policy), cmocka_unit_test(dice_resumes), cmocka_unit_test(cut_answers_have_no_verdict),
                                       cmocka_unit_test(osp_runs_and_resumes), cmocka_unit_test(duels_are_all_pairs), cmocka_unit_test(tournaments_ask_little), cmocka_unit_test(pfpo_runs_and_resumes),
                                       cmocka_unit_test(beginnings_are_judged_by_their_endings), cmocka_unit_test(pdpo_runs_and_resumes),
                                       cmocka_unit_test(bad_configurations_are_refused)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
