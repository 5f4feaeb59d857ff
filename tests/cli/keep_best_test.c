/* --keep-best: final/ is the policy as it was where the held-out loss was lowest, also when the run was stopped and gone on with. */
#include "cli/program.h"

#include <jansson.h>

enum { STEPS = 6 };

static int prepare(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sail-best-%d", (int)getpid());
    snprintf(model, sizeof model, "%s", repo_path("examples/demo/stories260K"));
    shell("rm -rf %s && mkdir -p %s", folder, folder);
    // Training rows say one thing, held-out rows another: the held-out loss falls while the style is learned and rises when the rows are learned by heart.
    shell("cd %s && for i in 1 2 3 4; do echo '{\"prompt\": \"Once upon a time\", \"completion\": \" there was a red fox named Tom.\"}'; done > train.jsonl && "
          "echo '{\"prompt\": \"Once upon a time\", \"completion\": \" there was a big dog named Max.\"}' > held.jsonl", folder);
    return 0;
}

static void held_out_losses(const char *run, double loss[STEPS + 1])
{
    char path[1200], line[65536];
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", folder, run);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (int i = 0; i <= STEPS; i++) loss[i] = NAN;
    while (fgets(line, sizeof line, f)) {
        json_t *j = json_loads(line, 0, NULL), *v = json_object_get(j, "eval_loss");
        const json_int_t step = json_integer_value(json_object_get(j, "step"));
        if (v && step <= STEPS) loss[step] = json_number_value(v);
        json_decref(j);
    }
    fclose(f);
}

static void final_is_the_best_step(void **state)
{
    (void)state;
    char shared[4096];
    snprintf(shared, sizeof shared, "sft --model %s --data %s/train.jsonl --eval-data %s/held.jsonl --eval-steps 1 --save-steps 1 --batch 4 --lr 2e-3 --schedule constant --dtype f32 --full --quiet", model, folder, folder);
    assert_run("%s --max-steps %d --keep-best eval_loss --out %s/run", shared, STEPS, folder);
    double loss[STEPS + 1];
    held_out_losses("run", loss);
    int best = 1;
    for (int s = 1; s <= STEPS; s++) {
        assert_true(isfinite(loss[s]));
        if (loss[s] < loss[best]) best = s;
    }
    assert_in_range(best, 2, STEPS - 1); // else the test would not tell best from first or last
    assert_run("%s --max-steps %d --out %s/short", shared, best, folder);
    assert_same_file("run/final", "short/final", "model.safetensors");
    // Killed after the best step, its final lost: the checkpoint remembers which loss is to be beaten.
    shell("cp -r %s/run %s/killed && cd %s/killed/checkpoints && for s in step-*; do [ ${s#step-} -le %d ] || rm -r $s; done", folder, folder, folder, best);
    assert_run("sft --out %s/killed --resume --quiet", folder);
    assert_same_file("run/final", "killed/final", "model.safetensors");
    assert_same_file("run", "killed", "metrics.jsonl");
}

static void needs_held_out_rows(void **state)
{
    (void)state;
    assert_int_equal(run_sail("sft --model %s --data %s/train.jsonl --max-steps 1 --keep-best eval_loss --out %s/no", model, folder, folder), 2);
    assert_non_null(strstr(output, "--eval-data"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(final_is_the_best_step), cmocka_unit_test(needs_held_out_rows)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
