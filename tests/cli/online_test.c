/* The online methods from outside: each runs by its name on a real model and moves it, and refuses what it cannot do in a sentence that says what to change. */
#include "cli/program.h"

static double metric(const char *run, int step, const char *name)
{
    char path[1100], key[64], *data;
    size_t n;
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", folder, run);
    assert_ok(file_read(path, 1 << 20, &data, &n, err));
    snprintf(key, sizeof key, "{\"step\": %d, \"loss\"", step);
    const char *line = strstr(data, key);
    assert_non_null(line);
    snprintf(key, sizeof key, "\"%s\": ", name);
    const char *at = strstr(line, key);
    if (!at) fail_msg("step %d of %s has no %s", step, run, name);
    const double value = atof(at + strlen(key));
    free(data);
    return value;
}

static const char *const methods[] = {"online-ipo", "online-slic"};

/* Two steps of every method; the way the work is cut changes roundings only. */
static void every_method_runs_by_name(void **state)
{
    (void)state;
    const char *rule = repo_path("examples/demo/happy.yaml");
    for (size_t k = 0; k < sizeof methods / sizeof *methods; k++) {
        char shared[4096], cut[64];
        snprintf(shared, sizeof shared,
                 "align --model %s --prompts %s/prompts.jsonl --method %s --reward-rule %s --batch 3 --max-steps 2 --max-length 64 --max-new-tokens 12 --lr 1e-2 --optimizer sgd "
                 "--schedule constant --max-grad-norm 0 --dtype f32 --lora-r 4 --quiet", model, folder, methods[k], rule);
        snprintf(cut, sizeof cut, "%s-cut", methods[k]);
        assert_run("%s --out %s/%s", shared, folder, methods[k]);
        assert_run("%s --micro-batch 1 --out %s/%s", shared, folder, cut);
        assert_true(metric(methods[k], 1, "grad_norm") > 0);
        for (int step = 1; step <= 2; step++) {
            assert_near(metric(methods[k], step, "loss"), metric(cut, step, "loss"), 1e-6, 1e-5);
            assert_near(metric(methods[k], step, "grad_norm"), metric(cut, step, "grad_norm"), 1e-6, 1e-4);
        }
    }
}

static const struct {
    const char *options, *says;
} refused[] = {
    {"--method online-ipo --mix-dp 0.2 --mix-pr 0.8", "does not label its own pairs: drop --mix-dp"},
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
    snprintf(folder, sizeof folder, "/tmp/sail-online-%d", (int)getpid());
    mkdir(folder, 0700);
    snprintf(model, sizeof model, "%s", repo_path("examples/demo/stories260K"));
    shell("head -n 12 %s > %s/prompts.jsonl", repo_path("examples/demo/prompts-train.jsonl"), folder);
    return 0;
}

static int clean_up(void **state)
{
    (void)state;
    return dir_remove(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_method_runs_by_name), cmocka_unit_test(bad_configurations_are_refused)};
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
