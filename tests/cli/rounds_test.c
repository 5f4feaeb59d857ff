/* IterComp's loop from outside: a gallery meets, reward models are refitted, the policy learns from them and joins; every stage against the command that does it alone; killed anywhere and gone on with;
 * several judges, other tokenizers, full weights; refusals. */
#include "cli/program.h"

#include <jansson.h>

#define REFIT "'{\"max_steps\": 3, \"batch\": 4, \"lr\": 1e-3, \"lora_r\": 4}'"
#define MACHINE "--dtype f32 --threads 1 --quiet"

static const char *align(const char *more)
{
    static char text[16384];
    snprintf(text, sizeof text,
             "align --model %s --prompts %s/prompts.jsonl --gallery %s,%s/other/final --batch 4 --round-steps 2 --max-steps 5 --max-length 64 --max-new-tokens 12 --lr 1e-2 --lora-r 4 --refit " REFIT " " MACHINE
             " %s", model, folder, model, folder, more);
    return text;
}

static const char *ruled(const char *method)
{
    static char text[2200];
    snprintf(text, sizeof text, "--method %s --reward-rule %s/long.yaml", method, folder);
    return text;
}

static char *contents(const char *name)
{
    char path[2200], *data;
    size_t n;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(file_read(path, 1 << 24, &data, &n, err));
    return data;
}

static int lines(const char *name)
{
    char *data = contents(name);
    int n = 0;
    for (char *c = data; *c; c++) n += *c == '\n';
    free(data);
    return n;
}

static int64_t spent(const char *run, int round, const char *key)
{
    char name[400];
    snprintf(name, sizeof name, "%s/rounds/%d/spent.json", run, round);
    char *data = contents(name);
    json_t *j = json_loads(data, 0, NULL);
    const int64_t x = json_integer_value(json_object_get(j, key));
    json_decref(j);
    free(data);
    return x;
}

static void itercomp_runs_by_name(void **state)
{
    (void)state;
    assert_run("%s --dry-run", align(ruled("itercomp")));
    assert_non_null(strstr(output, "rounds      3 of 2 steps; gallery: "));
    assert_run("%s --out %s/run", align(ruled("itercomp")), folder);
    // Three members meet in three pairs at each of 8 prompts, then the new policy meets three and four.
    assert_int_equal(spent("run", 1, "labels"), 2 * 3 * 8);
    assert_true(spent("run", 2, "labels") <= 2 * 3 * 8 && spent("run", 2, "labels") > 0 && spent("run", 3, "labels") > 2 * 3 * 8);
    assert_int_equal(lines("run/rounds/1/meetings.jsonl"), spent("run", 1, "labels"));
    // What is fitted is fitted to all pairs so far.
    char *first = contents("run/rounds/1/reward-1/pairs.jsonl"), *second = contents("run/rounds/2/reward-1/pairs.jsonl"), *fresh = contents("run/rounds/2/reward-1/new.jsonl");
    assert_true(strlen(first) > 0 && strlen(fresh) > 0 && !strncmp(second, first, strlen(first)) && !strcmp(second + strlen(first), fresh));
    free(first);
    free(second);
    free(fresh);
    // The budget has the gallery's tokens and labels in it; a step samples and labels 8 answers.
    const int64_t labels[3] = {spent("run", 1, "labels"), spent("run", 2, "labels"), spent("run", 3, "labels")};
    assert_true(run_metric("run", "labels", 1) == (double)(labels[0] + 8) && run_metric("run", "labels", 3) == (double)(labels[0] + labels[1] + 24));
    assert_true(run_metric("run", "labels", 5) == (double)(labels[0] + labels[1] + labels[2] + 40));
    assert_true(run_metric("run", "sampled_tokens", 1) > (double)spent("run", 1, "sampled_tokens"));
}

/* Each stage of the rounds is a command; by hand it leaves the same bytes. */
static void by_hand_it_is_the_same(void **state)
{
    (void)state;
    assert_run("generate --model %s --prompts %s/prompts.jsonl --max-new-tokens 12 --seed 43 --out %s/by-hand.jsonl " MACHINE, model, folder, folder);
    shell("cmp %s/by-hand.jsonl %s/run/rounds/start.jsonl", folder, folder);
    assert_run("generate --model %s --adapter %s/run/rounds/1/policy --prompts %s/prompts.jsonl --max-new-tokens 12 --seed 46 --out %s/by-hand.jsonl " MACHINE, model, folder, folder, folder);
    shell("cmp %s/by-hand.jsonl %s/run/rounds/1/policy.jsonl", folder, folder);
    assert_run("label --model %s --prompts %s/prompts.jsonl --data %s/run/rounds/1/meetings.jsonl --reward-rule %s/long.yaml --out %s/by-hand.jsonl --quiet", model, folder, folder, folder, folder);
    shell("cmp %s/by-hand.jsonl %s/run/rounds/1/reward-1/pairs.jsonl", folder, folder);
    assert_run("reward --model %s --data %s/by-hand.jsonl --max-steps 3 --batch 4 --lr 1e-3 --lora-r 4 --max-length 64 --out %s/judge " MACHINE, model, folder, folder);
    shell("cmp %s/judge/final/adapter_model.safetensors %s/run/rounds/1/reward-1/run/final/adapter_model.safetensors", folder, folder);
    assert_run("convert --model %s --merge %s/judge/final --out %s/judge-merged", model, folder, folder);
    assert_run("align --model %s --prompts %s/prompts.jsonl --method dpo --mix-pr 1 --reward-model %s/judge-merged --batch 4 --max-steps 5 --save-steps 2 --keep-checkpoints 9 --max-length 64 --max-new-tokens 12 --lr 1e-2 "
               "--lora-r 4 --out %s/plain " MACHINE, model, folder, folder, folder);
    assert_same_file("run", "plain", "checkpoints/step-2/params.safetensors");
    assert_true(run_metric("run", "objective/scores", 2) == run_metric("plain", "objective/scores", 2));
    assert_true(run_metric("run", "objective/scores", 3) != run_metric("plain", "objective/scores", 3)); // the second round has another judge
}

/* Killed while the file was being made or right after it, and gone on with, again and again. */
static void killed_anywhere_it_goes_on(void **state)
{
    (void)state;
    static const char *const when[] = {"rounds/gallery-1.jsonl", "rounds/1/meetings.jsonl", "rounds/1/reward-1/pairs.jsonl", "rounds/1/reward-1/run/metrics.jsonl", "rounds/1/reward-1/model", "checkpoints/step-2",
                                       "rounds/1/policy", "rounds/2/spent.json", "rounds/2/reward-1/run/final", "checkpoints/step-4"};
    char command[18000];
    snprintf(command, sizeof command, "%s --out %s/cut", align(ruled("itercomp")), folder);
    for (size_t k = 0; k < sizeof when / sizeof *when; k++)
        shell("%s %s%s >/dev/null 2>&1 & p=$!; for i in $(seq 3000); do [ -e %s/cut/%s ] && break; sleep 0.01; done; kill -9 $p 2>/dev/null; wait $p 2>/dev/null; [ -e %s/cut/%s ]", TEST_PROGRAM, command,
              k ? " --resume" : "", folder, when[k], folder, when[k]);
    assert_run("%s --resume", command);
    assert_same_file("run", "cut", "metrics.jsonl");
    assert_same_file("run", "cut", "checkpoints/step-5/params.safetensors");
    assert_same_file("run", "cut", "checkpoints/step-5/state.json");
    assert_same_file("run", "cut", "rounds/3/reward-1/pairs.jsonl");
    assert_same_file("run", "cut", "rounds/3/reward-1/model/model.safetensors");
    assert_run("%s --resume", command); // finished: no work
    assert_same_file("run", "cut", "metrics.jsonl");
}

static void every_judge_has_a_reward_model(void **state)
{
    (void)state;
    char path[1200], text[4096];
    snprintf(path, sizeof path, "%s/judges.yaml", folder);
    snprintf(text, sizeof text, "evaluators:\n  - {name: long, reward_rule: %s/long.yaml, weight: 3}\n  - {name: happy, reward_rule: %s/vowels.yaml}\n", folder, folder);
    assert_ok(file_replace(path, text, strlen(text), err));
    snprintf(text, sizeof text, "--method itercomp --evaluators %s --reward-combine mean --max-steps 3", path);
    assert_run("%s --out %s/judges", align(text), folder);
    char *a = contents("judges/rounds/1/reward-1/pairs.jsonl"), *b = contents("run/rounds/1/reward-1/pairs.jsonl"), *c = contents("judges/rounds/1/reward-2/pairs.jsonl");
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
    free(a);
    free(b);
    free(c);
    assert_int_equal(spent("judges", 1, "labels"), 2 * spent("run", 1, "labels"));
    // Their models label as evaluators of the same weights do.
    assert_run("align --model %s --prompts %s/prompts.jsonl --method dpo --mix-pr 1 --evaluators %s/judges/rounds/1/evaluators.yaml --batch 4 --max-steps 3 --save-steps 2 --max-length 64 --max-new-tokens 12 --lr 1e-2 "
               "--lora-r 4 --out %s/weighed " MACHINE, model, folder, folder, folder);
    assert_same_file("judges", "weighed", "checkpoints/step-2/params.safetensors");
    char *weights = contents("judges/rounds/1/evaluators.yaml");
    assert_non_null(strstr(weights, "\"weight\": 3.0"));
    free(weights);
}

/* A file with its own tokenizer in it: its answers are read as texts. And every weight of policy and reward model. */
static void other_tokenizers_and_full_weights(void **state)
{
    (void)state;
    assert_run("convert --model %s --out %s/story.gguf", model, folder);
    char more[5000];
    snprintf(more, sizeof more, "%s --gallery %s/story.gguf --full --lr 1e-4 --max-steps 4 --refit '{\"full\": true, \"max_steps\": 2, \"batch\": 4}' --gallery-prompts %s/few.jsonl", ruled("online-dpo"), folder, folder);
    assert_run("%s --out %s/texts", align(more), folder);
    assert_int_equal(lines("texts/rounds/start.jsonl"), 3);
    assert_int_equal(lines("texts/rounds/1/meetings.jsonl"), 6);
    char *data = contents("texts/rounds/2/meetings.jsonl");
    assert_non_null(strstr(data, "\"ids\": ["));
    free(data);
    char path[1200];
    snprintf(path, sizeof path, "%s/texts/rounds/1/policy/model.safetensors", folder);
    assert_true(path_exists(path));
    snprintf(path, sizeof path, "%s/texts/rounds/2/reward-1/run/final/model.safetensors", folder);
    assert_true(path_exists(path));
}

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *options, *says;
    } refused[] = {
        {"--method itercomp --reward-rule R", "give --gallery"},
        {"--method itercomp --gallery M", "asks a labeler"},
        {"--method itercomp --gallery M,,M --reward-rule R", "a name between the commas is empty"},
        {"--method itercomp --gallery /no/such/model --reward-rule R", "there is no file or folder '/no/such/model'"},
        {"--method online-dpo --gallery M --reward-rule R --max-steps 2", "about rounds: give --round-steps, or --method itercomp"},
        {"--method online-dpo --refit {} --reward-rule R --max-steps 2", "about rounds"},
        {"--method osp --round-steps 2 --gallery M --max-steps 2", "has a reward of its own"},
        {"--method two-level --round-steps 2 --gallery M --max-steps 2 --reward-rule R", "has a reward of its own"},
        {"--method itercomp --round-steps 1 --gallery M --reward-rule R", "the gallery would grow past 64"},
        {"--method itercomp --gallery M --reward-rule R --refit nonsense", "expected options of `sail reward`"},
        {"--method itercomp --gallery M --reward-rule R --refit '{\"beta\": 1}'", "--refit: option --beta is not one of `sail reward`"},
        {"--method itercomp --gallery M --reward-rule R --refit '{\"data\": \"x\"}'", "'data' is set by the round itself"},
        {"--method itercomp --gallery M --reward-rule R --refit '{\"lr\": -1}'", "--refit: --lr: expected a number"},
        {"--method itercomp --gallery M --final-answer majority", "--final-answer majority and --round-steps"},
        {"--method itercomp --gallery M --judge-model policy", "the gallery is judged between the rounds"},
        {"--method sft --round-steps 2 --gallery M", "the refitted reward models label sampled answers"},
    };
    for (size_t k = 0; k < sizeof refused / sizeof *refused; k++) {
        char options[4096] = "";
        for (const char *c = refused[k].options; *c; c++) {
            const bool alone = (c == refused[k].options || strchr(" ,", c[-1])) && (!c[1] || strchr(" ,", c[1]));
            const size_t n = strlen(options);
            if (alone && *c == 'M')
                snprintf(options + n, sizeof options - n, "%s", model);
            else if (alone && *c == 'R')
                snprintf(options + n, sizeof options - n, "%s/long.yaml", folder);
            else
                snprintf(options + n, sizeof options - n, "%c", *c);
        }
        assert_refused(run_sail("align --model %s --data %s/pairs.jsonl --out %s/never %s", model, folder, folder, options), options, refused[k].says);
        char never[1200];
        snprintf(never, sizeof never, "%s/never", folder);
        if (path_exists(never)) fail_msg("%s left something behind", options);
    }
    char ties[3000];
    shell("printf 'rules:\\n  - {kind: contains, text: zzzz}\\n' > %s/ties.yaml", folder);
    snprintf(ties, sizeof ties, "--method itercomp --reward-rule %s/ties.yaml", folder);
    assert_int_equal(run_sail("%s --out %s/ties", align(ties), folder), 1);
    assert_non_null(strstr(output, "told no two answers of the gallery apart"));
    assert_int_equal(run_sail("%s --out %s/run", align(ruled("itercomp")), folder), 2);
    assert_non_null(strstr(output, "add --resume"));
}

static int prepare(void **state)
{
    (void)state;
    if (make_pairs("rounds", 8)) return -1;
    shell("printf 'rules:\\n  - {kind: characters}\\n' > %s/long.yaml", folder);
    shell("printf 'rules:\\n  - {kind: regex, pattern: \"[aeiou]\"}\\n' > %s/vowels.yaml", folder);
    shell("head -n 3 %s/prompts.jsonl > %s/few.jsonl", folder, folder);
    return run_sail("align --model %s --data %s/pairs.jsonl --max-steps 3 --batch 4 --lr 5e-2 --lora-r 4 --out %s/other " MACHINE, model, folder, folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(itercomp_runs_by_name),          cmocka_unit_test(by_hand_it_is_the_same),            cmocka_unit_test(killed_anywhere_it_goes_on),
                                       cmocka_unit_test(every_judge_has_a_reward_model), cmocka_unit_test(other_tokenizers_and_full_weights), cmocka_unit_test(bad_configurations_are_refused)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
