/* sail reward and sail compare from outside: learning, resuming, reading back; a killed study ends with the same bytes; bad studies are refused. */
#include "cli/program.h"

#include <jansson.h>

#include "base/rng.h"

/* Pairs of ids by a rule: the chosen answer has id 7 in it, the rejected one does not. */
static void write_pairs(const char *name, uint64_t salt, int n)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < n; i++) {
        fprintf(f, "{\"prompt_ids\": [1, %d]", 10 + i % 5);
        for (int side = 0; side < 2; side++) {
            fprintf(f, ", \"%s_ids\": [", side ? "rejected" : "chosen");
            for (int t = 0; t < 5; t++) {
                const int id = 20 + (int)(40 * rng_uniform(salt, RNG_TEST, (uint64_t)i, (uint64_t)(side * 8 + t)));
                fprintf(f, "%s%d", t ? ", " : "", !side && t == i % 5 ? 7 : id);
            }
            fputs("]", f);
        }
        fprintf(f, ", \"margin\": %g}\n", 0.25 * (i % 3));
    }
    fclose(f);
}

static double last_metric(const char *run, const char *key)
{
    char path[1200], *data, *save = NULL;
    size_t n;
    double x = NAN;
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", folder, run);
    assert_ok(file_read(path, 1 << 24, &data, &n, err));
    for (char *line = strtok_r(data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *row = json_loads(line, 0, NULL), *v = json_object_get(row, key);
        if (json_is_number(v)) x = json_number_value(v);
        json_decref(row);
    }
    free(data);
    return x;
}

static void a_rule_is_learned_and_scored(void **state)
{
    (void)state;
    const char *base = repo_path("tests/golden/cases/llama-gqa");
    write_pairs("rule.jsonl", 1, 120);
    write_pairs("held.jsonl", 2, 60);
    assert_run("reward --model %s --data %s/rule.jsonl --eval-data %s/held.jsonl --out %s/rm --full --dtype f32 --lr 5e-3 --batch 12 --max-steps 60 --threads 1 --quiet", base, folder, folder, folder);
    const double accuracy = last_metric("rm", "eval_accuracy"), error = last_metric("rm", "eval_calibration_error");
    if (!(accuracy >= 0.95)) fail_msg("held-out accuracy %g, wanted 0.95", accuracy);
    assert_true(error >= 0 && error < 0.2);
    assert_run("score --model %s/rm/final --data %s/held.jsonl --out %s/scores --threads 1", folder, folder, folder);
    char path[1200], *data, *save = NULL;
    size_t n;
    int right = 0, count = 0;
    snprintf(path, sizeof path, "%s/scores", folder);
    assert_ok(file_read(path, 1 << 24, &data, &n, err));
    for (char *line = strtok_r(data, "\n", &save); line; line = strtok_r(NULL, "\n", &save), count++) {
        json_t *row = json_loads(line, 0, NULL);
        right += json_number_value(json_object_get(row, "chosen_score")) > json_number_value(json_object_get(row, "rejected_score"));
        json_decref(row);
    }
    free(data);
    assert_int_equal(count, 60);
    assert_near(right / 60.0, accuracy, 1e-9, 0); // what was saved is what was measured
    // Going on from a reward model: the head is kept.
    assert_run("reward --model %s/rm/final --data %s/rule.jsonl --out %s/rm-more --lora-r 2 --dtype f32 --lr 1e-6 --batch 12 --max-steps 1 --threads 1 --quiet", folder, folder, folder);
    assert_true(last_metric("rm-more", "loss") < 0.3);
}

static void reward_training_resumes_bit_for_bit(void **state)
{
    (void)state;
    const char *base = repo_path("tests/golden/cases/llama-gqa");
    write_pairs("rule.jsonl", 1, 40);
    const char *options = "--lora-r 4 --dtype f32 --lr 1e-2 --batch 4 --max-steps 10 --save-steps 5 --threads 1 --quiet --margin --center-coef 0.01 --label-smoothing 0.05";
    for (int k = 0; k < 2; k++) assert_run("reward --model %s --data %s/rule.jsonl --out %s/%s %s", base, folder, folder, k ? "cut" : "straight", options);
    shell("rm -r %s/cut/checkpoints/step-10 %s/cut/final", folder, folder);
    assert_run("reward --out %s/cut --resume --quiet", folder);
    assert_same_file("straight", "cut", "metrics.jsonl");
    assert_same_file("straight", "cut", "final/adapter_model.safetensors");
    assert_near(last_metric("straight", "step"), 10, 0, 0);
}

static double eval_reward(const char *options)
{
    assert_run("eval --model %s --prompts %s/prompts.jsonl --max-new-tokens 8 --dtype f32 --threads 1 --json %s", model, folder, options);
    json_t *j = json_loads(output, 0, NULL), *mean = json_object_get(json_object_get(j, "reward"), "mean");
    if (!json_is_number(mean)) fail_msg("no reward in %s", output);
    const double x = json_number_value(mean);
    json_decref(j);
    return x;
}

static void ensembles_combine_their_models(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++)
        assert_run("reward --model %s --data %s/pairs.jsonl --out %s/judge%d --full --dtype f32 --lr 1e-3 --batch 4 --max-steps 3 --seed %d --threads 1 --quiet", model, folder, folder, k, k);
    char one[2400], two[2400], both[2400];
    snprintf(one, sizeof one, "--quiet --reward-model %s/judge0/final", folder);
    snprintf(two, sizeof two, "--quiet --reward-model %s/judge1/final", folder);
    snprintf(both, sizeof both, "--quiet --reward-model %s/judge0/final,%s/judge1/final", folder, folder);
    const double a = eval_reward(one), b = eval_reward(two), mean = eval_reward(both);
    assert_near(mean, (a + b) / 2, 1e-9, 1e-9);
    strcat(both, " --reward-combine min");
    const double least = eval_reward(both);
    assert_true(least <= fmin(a, b) + 1e-12);
    // Of two models the standard deviation is half the distance: mean - spread is the smaller one.
    strcpy(strstr(both, " --reward-combine"), " --reward-combine mean-spread --spread-coef 1");
    assert_near(eval_reward(both), least, 1e-6, 1e-6);
    assert_true(a != b);
}

static void write_study(const char *name, const char *from, const char *to)
{
    char text[8192], path[1200];
    snprintf(text, sizeof text,
             "seeds: [1, 2]\n"
             "base:\n"
             "  model: %s\n"
             "  data: %s/pairs.jsonl\n"
             "  prompts: %s/prompts.jsonl\n"
             "  eval_prompts: %s/prompts.jsonl\n"
             "  reward_rule: %s\n"
             "  batch: 4\n"
             "  max_steps: 6\n"
             "  save_steps: 2\n"
             "  lr: 1e-3\n"
             "  dtype: f32\n"
             "  max_length: 64\n"
             "  max_new_tokens: 8\n"
             "  threads: 1\n"
             "methods:\n"
             "  dpo: {lora_r: 4}\n"
             "  pr: {method: sail-pr, full: true, gamma: 0.1}\n"
             "eval: {num_return: 2, seed: 9}\n",
             model, folder, folder, folder, repo_path("examples/demo/happy.yaml"));
    char *at = from ? strstr(text, from) : NULL;
    if (from) assert_non_null(at);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "%.*s%s%s", at ? (int)(at - text) : (int)strlen(text), text, at ? to : "", at ? at + strlen(from) : "");
    fclose(f);
}

static void a_killed_study_ends_with_the_same_table(void **state)
{
    (void)state;
    write_study("study.yaml", NULL, NULL);
    assert_run("compare --config %s/study.yaml --out %s/whole --quiet", folder, folder);
    assert_non_null(strstr(output, "whole/report.html"));
    shell("%s compare --config %s/study.yaml --out %s/killed --quiet >/dev/null 2>&1 & p=$!; for i in $(seq 3000); do [ -e %s/killed/dpo-seed2/checkpoints/step-4 ] && break; sleep 0.01; done; kill -9 $p; wait $p 2>/dev/null; true",
          TEST_PROGRAM, folder, folder, folder);
    char path[1200];
    snprintf(path, sizeof path, "%s/killed/table.json", folder);
    assert_false(path_exists(path));
    assert_run("compare --config %s/study.yaml --out %s/killed --quiet", folder, folder);
    assert_same_file("whole", "killed", "table.json");
    // A finished study does no work again, and the page is there.
    assert_run("compare --config %s/study.yaml --out %s/killed", folder, folder);
    assert_null(strstr(output, "step "));
    snprintf(path, sizeof path, "%s/killed/report.html", folder);
    assert_true(path_exists(path));
    // Fewer seeds need no work; other options do not fit the folders.
    assert_run("compare --config %s/study.yaml --out %s/killed --seeds 1", folder, folder);
    assert_null(strstr(output, "step "));
    write_study("other.yaml", "lr: 1e-3", "lr: 2e-3");
    assert_int_equal(run_sail("compare --config %s/other.yaml --out %s/killed", folder, folder), 2);
    assert_non_null(strstr(output, "lr: 0.001"));
}

static void assert_same_study(const char *a, const char *b)
{
    static const char *const run[] = {"dpo-seed1", "dpo-seed2", "pr-seed1", "pr-seed2"};
    static const char *const file[] = {"metrics.jsonl", "answers.jsonl", "eval.json", "samples.jsonl"};
    char name[200];
    for (size_t i = 0; i < sizeof run / sizeof *run; i++)
        for (size_t k = 0; k < sizeof file / sizeof *file; k++) {
            snprintf(name, sizeof name, "%s/%s", run[i], file[k]);
            assert_same_file(a, b, name);
        }
    assert_same_file(a, b, "table.json");
    assert_same_file(a, b, "report.html");
}

static void runs_at_a_time_leave_the_same_bytes(void **state)
{
    (void)state;
    write_study("study.yaml", NULL, NULL);
    assert_run("compare --config %s/study.yaml --out %s/parallel --jobs 3 --threads 1", folder, folder);
    assert_non_null(strstr(output, "finished 4 of 4, running 0"));
    assert_null(strstr(output, "step "));
    assert_same_study("whole", "parallel");
}

static int said(const char *what)
{
    int n = 0;
    for (const char *at = output; (at = strstr(at, what)); at++) n++;
    return n;
}

/* Two methods with a warning each, two seeds of both: two warnings, however the runs share the machine. */
static void a_warning_is_said_once(void **state)
{
    (void)state;
    write_study("warned.yaml", "  dpo: {lora_r: 4}\n  pr: {method: sail-pr, full: true, gamma: 0.1}\n",
                "  warm: {method: online-dpo, temperature: 0.7, max_steps: 1, lora_r: 4}\n  cool: {method: online-dpo, temperature: 0.6, max_steps: 1, lora_r: 4}\n");
    for (int jobs = 1; jobs <= 3; jobs += 2) {
        assert_run("compare --config %s/warned.yaml --out %s/warned%d --jobs %d --threads 1 --quiet", folder, folder, jobs, jobs);
        if (said("sail: warning") != 2 || said("temperature 0.7") != 1 || said("temperature 0.6") != 1) fail_msg("--jobs %d: wanted each of two warnings once: %s", jobs, output);
    }
}

/* The driver is asked to stop when two runs are on their way, twice at once as timeout(1) does; both save, nothing is left running, and the same command ends as if nothing had been. */
static void an_interrupt_reaches_the_runs_at_a_time(void **state)
{
    (void)state;
    write_study("long.yaml", "max_steps: 6\n  save_steps: 2", "max_steps: 100\n  save_steps: 100");
    assert_run("compare --config %s/long.yaml --out %s/long-whole --quiet", folder, folder);
    shell("%s compare --config %s/long.yaml --out %s/long --jobs 2 >%s/said 2>&1 & p=$!; for i in $(seq 3000); do [ -s %s/long/dpo-seed1/metrics.jsonl -a -s %s/long/dpo-seed2/metrics.jsonl ] && break; sleep 0.01; "
          "done; kill -INT $p; kill -TERM $p; wait $p; [ $? = 1 ] && grep -q 'interrupted with 0 of 4 runs finished' %s/said && [ -e %s/long/dpo-seed1/checkpoints ] && [ -e %s/long/dpo-seed2/checkpoints ] "
          "&& [ ! -e %s/long/dpo-seed1/final ] && [ ! -e %s/long/pr-seed1 ]",
          TEST_PROGRAM, folder, folder, folder, folder, folder, folder, folder, folder, folder, folder);
    assert_run("compare --config %s/long.yaml --out %s/long --jobs 4 --quiet", folder, folder);
    assert_same_study("long-whole", "long");
}

static void a_folder_has_one_driver(void **state)
{
    (void)state;
    write_study("long.yaml", "max_steps: 6", "max_steps: 60000");
    shell("%s compare --config %s/long.yaml --out %s/busy --jobs 2 --quiet >/dev/null 2>&1 & p=$!; for i in $(seq 3000); do [ -s %s/busy/dpo-seed1/metrics.jsonl ] && break; sleep 0.01; done; "
          "%s compare --config %s/long.yaml --out %s/busy --quiet >%s/said 2>&1; s=$?; kill -9 $p; wait $p 2>/dev/null; [ $s = 1 ] && grep -q 'another `sail compare` works in this folder' %s/said",
          TEST_PROGRAM, folder, folder, folder, TEST_PROGRAM, folder, folder, folder, folder);
    // Its runs ended with it: no metric is added any more.
    shell("for i in $(seq 200); do flock -n %s/busy/compare.lock true && exit 0; sleep 0.01; done; exit 1", folder);
}

static void a_failed_run_is_named_and_leaves_the_others_alone(void **state)
{
    (void)state;
    write_study("study.yaml", NULL, NULL);
    shell("mkdir -p %s/failing && : > %s/failing/dpo-seed2", folder, folder); // a file where the run's folder goes
    assert_int_equal(run_sail("compare --config %s/study.yaml --out %s/failing --jobs 2", folder, folder), 1);
    assert_non_null(strstr(output, "run dpo-seed2: "));
    assert_non_null(strstr(output, "1 of 4 runs failed (dpo-seed2)"));
    shell("[ -e %s/failing/pr-seed2/eval.json ] && rm %s/failing/dpo-seed2", folder, folder);
    assert_run("compare --config %s/study.yaml --out %s/failing --jobs 2 --quiet", folder, folder);
    assert_same_study("whole", "failing");
}

static void the_table_says_what_was_spent(void **state)
{
    (void)state;
    char path[1200];
    snprintf(path, sizeof path, "%s/whole/table.json", folder);
    json_t *j = json_load_file(path, 0, NULL), *methods = json_object_get(j, "methods");
    assert_int_equal(json_array_size(methods), 2);
    json_t *first = json_array_get(methods, 0), *second = json_array_get(methods, 1);
    assert_string_equal(json_string_value(json_object_get(first, "name")), "dpo");
    json_t *of_first = json_object_get(json_object_get(first, "against"), "dpo"), *of_second = json_object_get(json_object_get(second, "against"), "dpo");
    assert_true(json_is_null(json_object_get(json_object_get(of_first, "win_rate"), "mean")));
    json_t *win = json_object_get(of_second, "win_rate"), *budget = json_object_get(second, "budget");
    const double mean = json_number_value(json_object_get(win, "mean"));
    assert_true(mean >= 0 && mean <= 1);
    assert_true(json_number_value(json_object_get(win, "low")) <= mean && mean <= json_number_value(json_object_get(win, "high")));
    assert_near(json_number_value(json_object_get(budget, "gradient_steps")), 6, 0, 0);
    assert_true(json_number_value(json_object_get(budget, "labels_online")) > 0);
    assert_true(json_number_value(json_object_get(budget, "sampled_tokens")) > 0);
    assert_near(json_number_value(json_object_get(json_object_get(first, "budget"), "labels_online")), 0, 0, 0);
    json_decref(j);
}

static double spent(json_t *row, const char *key) { return json_number_value(json_object_get(json_object_get(row, "to_reach"), key)); }

/* What a curve says for itself: every line of an evaluation has the labels of the line before it; the goal is where the first method's curves end. */
static void labels_to_a_reward_are_read_off_the_curves(void **state)
{
    (void)state;
    char path[1200];
    write_study("curves.yaml", "max_steps: 6\n", "max_steps: 6\n  eval_steps: 2\n");
    assert_run("compare --config %s/curves.yaml --out %s/curves --quiet", folder, folder);
    snprintf(path, sizeof path, "%s/curves/table.json", folder);
    json_t *j = json_load_file(path, 0, NULL), *methods = json_object_get(j, "methods");
    const double goal = json_number_value(json_object_get(j, "reach"));
    assert_near(goal, (run_metric("curves/dpo-seed1", "eval_reward", 6) + run_metric("curves/dpo-seed2", "eval_reward", 6)) / 2, 1e-12, 0);
    for (int m = 0; m < 2; m++) {
        json_t *row = json_array_get(methods, (size_t)m);
        const double rows = json_number_value(json_object_get(json_object_get(row, "budget"), "labels_offline"));
        double want[3] = {0}, there = 0;
        for (int seed = 1; seed <= 2; seed++) {
            char run[64];
            snprintf(run, sizeof run, "curves/%s-seed%d", m ? "pr" : "dpo", seed);
            for (int step = 0; step <= 6; step += 2) {
                if (run_metric(run, "eval_reward", step) < goal) continue;
                want[0] += step;
                want[1] += step && m ? run_metric(run, "labels", step) : 0;
                want[2] += fmin(rows, (m ? 0.7 : 1) * 4 * step); // four rows a step; 0.3 of pr's are sampled
                there++;
                break;
            }
        }
        assert_near(spent(row, "runs"), there, 0, 0);
        assert_near(spent(row, "of"), 2, 0, 0);
        assert_true(m || there > 0); // the mean of both ends is not above both
        if (!there) continue;
        assert_near(spent(row, "gradient_steps"), want[0] / there, 1e-12, 0);
        assert_near(spent(row, "labels_online"), want[1] / there, 1e-12, 0);
        assert_near(spent(row, "labels_offline"), want[2] / there, 1e-12, 0);
    }
    json_decref(j);
    // A goal of one's own; nobody gets there, and the start is there already.
    static const char *const goals[2] = {"1e6", "-1e6"};
    for (int k = 0; k < 2; k++) {
        shell("sed 's/^seeds:/reach: %s\\nseeds:/' %s/curves.yaml > %s/goal.yaml", goals[k], folder, folder);
        assert_run("compare --config %s/goal.yaml --out %s/curves --quiet", folder, folder);
        j = json_load_file(path, 0, NULL);
        for (size_t m = 0; m < 2; m++) {
            json_t *row = json_array_get(json_object_get(j, "methods"), m);
            assert_near(spent(row, "runs"), k ? 2 : 0, 0, 0);
            assert_true(spent(row, "labels_online") == 0 && spent(row, "labels_offline") == 0);
        }
        json_decref(j);
        shell("grep -q '%s' %s/curves/report.html", k ? "0 asked + 0 rows" : "not reached", folder);
    }
}

static json_t *measure(json_t *row, const char *against, const char *name)
{
    json_t *j = against ? json_object_get(json_object_get(row, "against"), against) : row;
    return json_object_get(json_object_get(j, name), "mean");
}

/* pr has seed 2 alone; both stand against both. What is paired is what both have. */
static void methods_may_have_some_of_the_seeds(void **state)
{
    (void)state;
    char path[1200];
    write_study("some.yaml", "pr: {method", "pr: {seeds: 2, method");
    shell("sed -i 's/^seeds:/against: [pr, dpo]\\nseeds:/' %s/some.yaml && mkdir %s/some && cp -r %s/whole/dpo-seed1 %s/whole/dpo-seed2 %s/whole/pr-seed2 %s/some", folder, folder, folder, folder, folder, folder);
    assert_run("compare --config %s/some.yaml --out %s/some", folder, folder);
    assert_null(strstr(output, "run "));
    snprintf(path, sizeof path, "%s/some/pr-seed1", folder);
    assert_false(path_exists(path));
    snprintf(path, sizeof path, "%s/some/table.json", folder);
    json_t *j = json_load_file(path, 0, NULL), *dpo = json_array_get(json_object_get(j, "methods"), 0), *pr = json_array_get(json_object_get(j, "methods"), 1);
    assert_true(json_is_null(measure(dpo, "dpo", "win_rate")) && json_is_null(measure(pr, "pr", "win_rate")));
    assert_near(json_number_value(measure(dpo, "pr", "win_rate")) + json_number_value(measure(pr, "dpo", "win_rate")), 1, 1e-12, 0);
    assert_near(json_number_value(measure(dpo, "pr", "reward_gain")) + json_number_value(measure(pr, "dpo", "reward_gain")), 0, 1e-12, 1e-12);
    const double reward[2] = {json_number_value(measure(dpo, NULL, "reward")), json_number_value(measure(pr, NULL, "reward"))};
    const double kl[2] = {json_number_value(measure(dpo, NULL, "kl")), json_number_value(measure(pr, NULL, "kl"))};
    for (int k = 0; k < 2; k++) {
        const bool beaten = reward[1 - k] >= reward[k] && kl[1 - k] <= kl[k];
        assert_int_equal(json_is_true(json_object_get(k ? pr : dpo, "on_front")), !beaten);
    }
    json_decref(j);
}

static void bad_studies_are_refused_before_any_work(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *says;
    } bad[] = {
        {"  dpo: {", "  dpoo: {", "bad.yaml:17: dpoo: unknown method 'dpoo': did you mean dpo?"},
        {"lr: 1e-3", "lr: fast", "bad.yaml:11: --lr: expected a number"},
        {"batch: 4", "bach: 4", "bad.yaml:8: unknown option --bach"},
        {"gamma: 0.1", "gamma: high", "bad.yaml:18: --gamma: expected a number"},
        {"gamma: 0.1", "gamma: {a: 1}", "bad.yaml:18: --gamma: expected a number"},
        {"gamma: 0.1", "model: other", "bad.yaml:18: 'model' belongs into base"},
        {"gamma: 0.1", "mix_pr: 0.9, mix_pp: 0.9", "bad.yaml:18: pr: mix_dp + mix_pp + mix_pr = 1.8"},
        {"seeds: [1, 2]", "#", "'seeds' is missing"},
        {"seeds: [1, 2]", "seeds: [1, one]", "bad.yaml:1: seeds: expected whole numbers"},
        {"seeds: [1, 2]", "seeds: [1, 1]", "bad.yaml:1: seed 1 is there twice"},
        {"  model:", "  #", "bad.yaml:2: base: 'model' is missing"},
        {"methods:", "methodz:", "bad.yaml:16: unknown section 'methodz'"},
        {"  batch: 4\n", "  batch: 4\n  batch: 5\n", "bad.yaml:9: 'batch' is there twice"},
        {"pairs.jsonl", "nothing.jsonl", "bad.yaml:4: data: there is no file"},
        {"num_return: 2", "num_return: two", "bad.yaml:19: --num-return: expected a whole number"},
        {"  pr: {method: sail-pr", "  ../pr: {method: sail-pr", "bad.yaml:18: '../pr': expected a name"},
        {"base:\n", "base: [\n", "bad.yaml:"},
        {"base:\n", "against: [dpoo]\nbase:\n", "bad.yaml:2: against: there is no 'dpoo' in methods"},
        {"base:\n", "against: [dpo, pr, dpo, pr, dpo]\nbase:\n", "bad.yaml:2: against: 5 methods, expected at most 4"},
        {"pr: {method", "pr: {seeds: [3], method", "none of the seeds that pr has for itself"},
        {"pr: {method", "pr: {seeds: x, method", "bad.yaml:18: seeds: expected whole numbers"},
        {"base:\n", "reach: high\nbase:\n", "bad.yaml:2: expected reach: a reward"},
        {"base:\n", "reach: [1, 2]\nbase:\n", "bad.yaml:2: expected reach: a reward"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_study("bad.yaml", bad[i].from, bad[i].to);
        assert_refused(run_sail("compare --config %s/bad.yaml --out %s/never", folder, folder), bad[i].to, bad[i].says);
        char never[1200];
        snprintf(never, sizeof never, "%s/never", folder);
        if (path_exists(never)) fail_msg("'%s' left something behind", bad[i].to);
    }
    assert_int_equal(run_sail("compare --out %s/never", folder), 2);
    assert_int_equal(run_sail("align --method reward --model %s --data %s/pairs.jsonl --out %s/never", model, folder, folder), 2);
}

static int prepare(void **state)
{
    (void)state;
    return make_pairs("compare", 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rule_is_learned_and_scored),           cmocka_unit_test(reward_training_resumes_bit_for_bit), cmocka_unit_test(ensembles_combine_their_models),
        cmocka_unit_test(bad_studies_are_refused_before_any_work), cmocka_unit_test(a_killed_study_ends_with_the_same_table), cmocka_unit_test(the_table_says_what_was_spent),
        cmocka_unit_test(runs_at_a_time_leave_the_same_bytes), cmocka_unit_test(a_warning_is_said_once),     cmocka_unit_test(an_interrupt_reaches_the_runs_at_a_time),      cmocka_unit_test(a_folder_has_one_driver),
        cmocka_unit_test(methods_may_have_some_of_the_seeds), cmocka_unit_test(labels_to_a_reward_are_read_off_the_curves),
        cmocka_unit_test(a_failed_run_is_named_and_leaves_the_others_alone),
    };
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
