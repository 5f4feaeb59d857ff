/* Evaluations with a judge from outside: verdicts of a known judge make the numbers, a judge of pairs compares and rewards nothing, studies take a judge of points, and what cannot be is refused. */
#include "cli/program.h"

#include <jansson.h>

/* The judge is the story model, which follows no rubric: what its texts say is in the patterns. */
static const char *const rubrics[][2] = {
    {"always.yaml", "prompt: '{question} {answer_a} {answer_b}'\nfirst: '(?m)\\A.'\nsecond: 'NEVER'\n"}, // whoever is shown first wins
    {"never.yaml", "prompt: '{question} {answer_a} {answer_b}'\nfirst: 'NEVER'\nsecond: 'NEVER'\n"},
    {"letter.yaml", "prompt: '{question} {answer_a}|{answer_b}'\nfirst: '\\A *[A-Ma-m]'\nsecond: '\\A *[N-Zn-z]'\n"},
    {"digits.yaml", "prompt: '{question} {answer}'\npoints: '([0-9])'\nmin: 0\nmax: 9\n"}, // very hot, some of many short texts have a digit in them
    {"words.yaml", "prompt: '{question} {answer}'\npoints: 'Score: ([0-9]+)'\n"},
};
#define HOT "--judge-temperature 100 --judge-samples 64"

static json_t *evaluate(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static json_t *evaluate(const char *fmt, ...)
{
    char options[4096], command[8192];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(options, sizeof options, fmt, ap);
    va_end(ap);
    snprintf(command, sizeof command, "eval --model %s --max-new-tokens 12 --max-length 64 --dtype f32 --threads 1 --quiet --json --judge-new-tokens 4 %s", model, options);
    assert_run("%s", command);
    json_t *j = json_loads(output, 0, NULL);
    if (!j) fail_msg("no JSON in %s", output);
    return j;
}

static double mean_of(json_t *j, const char *key)
{
    json_t *v = json_object_get(json_object_get(j, key), "mean");
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* Against the data's answers and against another model; a judge who looks at the place alone calls every pair a tie. */
static void a_judge_of_pairs_makes_a_win_rate(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        char rest[4096];
        snprintf(rest, sizeof rest, k ? "--prompts %s/prompts.jsonl --versus %s" : "--data %s/pairs.jsonl", folder, model);
        json_t *j = evaluate("%s --judge-model %s --judge-rubric %s/always.yaml", rest, model, folder);
        assert_near(mean_of(j, "win_rate"), 0.5, 1e-12, 0);
        assert_null(json_object_get(j, "reward")); // nobody said what one answer is worth
        assert_null(json_object_get(j, k ? "versus_reward" : "data_reward"));
        json_decref(j);
        j = evaluate("%s --judge-model %s --judge-rubric %s/never.yaml", rest, model, folder);
        assert_true(isnan(mean_of(j, "win_rate")));
        json_decref(j);
    }
    json_t *same = evaluate("--prompts %s/prompts.jsonl --versus %s --seed 3 --judge-model %s --judge-rubric %s/letter.yaml", folder, model, model, folder);
    assert_near(mean_of(same, "win_rate"), 0.5, 1e-12, 0); // the same answers on both sides
    json_decref(same);
}

/* Points: rewards as a labeler's, the same in every run. */
static void a_judge_of_points_rewards(void **state)
{
    (void)state;
    json_t *j[2];
    for (int k = 0; k < 2; k++) j[k] = evaluate("--data %s/pairs.jsonl --judge-model %s --judge-rubric %s/digits.yaml " HOT, folder, model, folder);
    assert_true(json_equal(j[0], j[1]));
    const double mine = mean_of(j[0], "reward"), data = mean_of(j[0], "data_reward"), wins = mean_of(j[0], "win_rate");
    if (!(mine > 0 && mine < 9 && data > 0 && data < 9 && wins >= 0 && wins <= 1)) fail_msg("rewards %g and %g, win rate %g", mine, data, wins);
    json_decref(j[0]);
    json_decref(j[1]);
    json_t *mute = evaluate("--data %s/pairs.jsonl --judge-model %s --judge-rubric %s/words.yaml", folder, model, folder); // it never writes a score
    assert_true(json_is_object(json_object_get(mute, "reward")) && isnan(mean_of(mute, "reward")) && isnan(mean_of(mute, "win_rate")));
    json_decref(mute);
}

static void write_study(const char *name, const char *base, const char *eval)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "seeds: [1]\nbase:\n  model: %s\n  data: %s/pairs.jsonl\n  eval_prompts: %s/prompts.jsonl\n%s  batch: 4\n  max_steps: 2\n  lr: 1e-3\n  dtype: f32\n  max_length: 64\n  max_new_tokens: 8\n  threads: 1\n"
               "  lora_r: 4\nmethods: [dpo, ipo]\neval: %s\n", model, folder, folder, base, eval);
    fclose(f);
}

/* The study's own judge takes the place of the runs' labeler, whatever that is. */
static void a_study_is_judged(void **state)
{
    (void)state;
    char eval[2400], base[1200];
    snprintf(eval, sizeof eval, "{judge_model: %s, judge_rubric: %s/digits.yaml, judge_new_tokens: 4, judge_samples: 64, judge_temperature: 100}", model, folder);
    snprintf(base, sizeof base, "  reward_rule: %s\n", repo_path("examples/demo/happy.yaml"));
    write_study("judged.yaml", base, eval);
    assert_run("compare --config %s/judged.yaml --out %s/judged --quiet", folder, folder);
    char path[1200];
    snprintf(path, sizeof path, "%s/judged/table.json", folder);
    json_t *j = json_load_file(path, 0, NULL), *methods = json_object_get(j, "methods");
    assert_int_equal(json_array_size(methods), 2);
    for (size_t k = 0; k < 2; k++) assert_true(mean_of(json_array_get(methods, k), "reward") > 0 && mean_of(json_array_get(methods, k), "reward") < 9);
    json_t *beside_dpo = json_object_get(json_object_get(json_array_get(methods, 1), "against"), "dpo");
    assert_true(mean_of(beside_dpo, "win_rate") >= 0 && mean_of(beside_dpo, "win_rate") <= 1);
    json_decref(j);
    snprintf(eval, sizeof eval, "{judge_model: %s, judge_rubric: %s/always.yaml}", model, folder);
    write_study("pairs.yaml", base, eval);
    assert_int_equal(run_sail("compare --config %s/pairs.yaml --out %s/never", folder, folder), 2);
    assert_non_null(strstr(output, "rewards single answers"));
    shell("test ! -e %s/never", folder);
    write_study("gold.yaml", base, "{final_answer: gold}"); // in the place of the rule, not beside it
    assert_int_equal(run_sail("compare --config %s/gold.yaml --out %s/gold --quiet", folder, folder), 1);
    assert_non_null(strstr(output, "gave no reward for any answer")); // the stories have none
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *options, *says;
    } refused[] = {
        {"--prompts FOLDER/prompts.jsonl --judge-model MODEL --judge-rubric pair", "give --versus"},
        {"--prompts FOLDER/prompts.jsonl --judge-model policy", "nothing is trained here"},
        {"--prompts FOLDER/prompts.jsonl --judge-model MODEL --reward-rule x.yaml", "one labeler at a time"},
        {"--prompts FOLDER/prompts.jsonl --versus GOLDEN --reward-rule RULE", "--versus"},
    };
    for (size_t k = 0; k < sizeof refused / sizeof *refused; k++) {
        char options[4096];
        snprintf(options, sizeof options, "%s", refused[k].options);
        const char *const put[][2] = {{"FOLDER", folder}, {"MODEL", model}, {"GOLDEN", repo_path("tests/golden/cases/llama-gqa")}, {"RULE", repo_path("examples/demo/happy.yaml")}};
        for (size_t i = 0; i < 4; i++) {
            char rest[4096], *at = strstr(options, put[i][0]);
            if (!at) continue;
            snprintf(rest, sizeof rest, "%s", at + strlen(put[i][0]));
            snprintf(at, sizeof options - (size_t)(at - options), "%s%s", put[i][1], rest);
        }
        assert_refused(run_sail("eval --model %s %s", model, options), options, refused[k].says);
    }
}

static int prepare(void **state)
{
    (void)state;
    if (make_pairs("judged-eval", 8)) return -1;
    for (size_t k = 0; k < sizeof rubrics / sizeof *rubrics; k++) {
        char path[1200];
        snprintf(path, sizeof path, "%s/%s", folder, rubrics[k][0]);
        if (file_replace(path, rubrics[k][1], strlen(rubrics[k][1]), NULL)) return -1;
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_judge_of_pairs_makes_a_win_rate), cmocka_unit_test(a_judge_of_points_rewards), cmocka_unit_test(a_study_is_judged),
                                       cmocka_unit_test(what_cannot_be_is_refused)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
