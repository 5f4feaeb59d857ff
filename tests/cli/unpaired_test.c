/* Runs on unpaired rows: a small model learns from labels, however the rows came and however the work is cut; the reference points go through a checkpoint. */
#include "cli/program.h"

#include <jansson.h>

static const char *const methods[] = {"kto", "apo-zero-unpaired", "bco-unpaired", "aot-unpaired"};
static const char *const coupled[] = {"kto", "bco-unpaired"}; /* a reference point of the batch, one of the whole run */

static const char *const shared = "--batch 6 --max-length 64 --lr 1e-2 --schedule constant --dtype f32 --lora-r 4 --beta 0.5 --quiet --seed 3 --sample-steps 1000 --max-new-tokens 8";

/* Desirable answers rise against undesirable ones, on the rows it learns from and as the objective says on those held out. */
static void labels_are_learned(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof methods / sizeof *methods; k++) {
        assert_run("align --model %s --data %s/unpaired.jsonl --eval-data %s/unpaired.jsonl --eval-steps 1 --method %s --max-steps 12 --out %s/%s %s", model, folder, folder, methods[k], folder, methods[k], shared);
        if (!(run_metric(methods[k], "eval_loss", 12) < run_metric(methods[k], "eval_loss", 1))) fail_msg("%s did not lower its own loss", methods[k]);
        assert_true(run_metric(methods[k], "eval_rewards/margins", 12) > 0.2);
        assert_true(run_metric(methods[k], "eval_rewards/margins", 12) > run_metric(methods[k], "eval_rewards/margins", 1));
        assert_true(run_metric(methods[k], "num_tokens", 12) < 12 * 6 * 64);
    }
    assert_true(run_metric("kto", "kl", 1) == 0 && run_metric("kto", "kl", 12) >= 0);
    assert_near(run_metric("kto", "loss", 1), 0.5, 1e-9, 0);
    assert_true(run_metric("bco-unpaired", "delta", 1) == 0 && run_metric("bco-unpaired", "delta", 12) != 0);
}

/* A preference file and the same rows in a file of labels are the same run. */
static void preference_rows_are_taken_apart(void **state)
{
    (void)state;
    assert_run("align --model %s --data %s/pairs.jsonl --method kto --max-steps 3 --out %s/from-pairs %s", model, folder, folder, shared);
    assert_run("align --model %s --data %s/unpaired.jsonl --method kto --max-steps 3 --out %s/from-labels %s", model, folder, folder, shared);
    assert_same_file("from-pairs", "from-labels", "metrics.jsonl");
}

/* Policy and reference differ from the start, so that both reference points are at work: z0 is above 0, delta is not 0. */
static const char *far_apart(const char *method)
{
    static char arguments[16384];
    char c[2200];
    snprintf(c, sizeof c, "%s", repo_path("tests/golden/cases/llama-gqa"));
    snprintf(arguments, sizeof arguments, "align --model %s/ref --ref %s --data %s/data.jsonl --eval-data %s/data.jsonl --eval-steps 1 --method %s --max-steps 4 --save-steps 2 --batch 5 --lr 1e-3 "
             "--schedule constant --dtype f32 --full --quiet --sample-steps 1000 --max-new-tokens 4", c, c, c, c, method);
    return arguments;
}

static void micro_batches_change_roundings_only(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof coupled / sizeof *coupled; k++) {
        const char *point = k ? "delta" : "kl";
        int at_work = 0;
        assert_run("%s --optimizer sgd --out %s/whole", far_apart(coupled[k]), folder);
        assert_run("%s --optimizer sgd --micro-batch 1 --out %s/cut", far_apart(coupled[k]), folder);
        for (int step = 1; step <= 4; step++) {
            assert_near(run_metric("cut", "loss", step), run_metric("whole", "loss", step), 1e-7, 1e-6);
            assert_near(run_metric("cut", "eval_loss", step), run_metric("whole", "eval_loss", step), 1e-7, 1e-6);
            assert_near(run_metric("cut", point, step), run_metric("whole", point, step), 1e-6, 1e-5);
            at_work += fabs(run_metric("cut", point, step)) > 0.01;
        }
        assert_true(at_work >= 2); // a floor of 0 may hide a step's
        shell("rm -r %s/whole %s/cut", folder, folder);
    }
}

static void reference_points_resume_bit_for_bit(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof coupled / sizeof *coupled; k++) {
        assert_resumes(far_apart(coupled[k]), "");
        assert_same_file("straight", "killed", "final/model.safetensors");
    }
}

/* Where policy and reference stay the same, z0 is 0: a mismatched row's log-prob under the reference is never that of another epoch's completion. With a
 * reference that follows every step (TR-KTO) too. */
static void z0_is_of_the_rows_at_hand(void **state)
{
    (void)state;
    assert_run("align --model %s --data %s/unpaired.jsonl --method kto --max-steps 12 --out %s/still %s --lr 0", model, folder, folder, shared);
    for (int step = 1; step <= 12; step++) assert_true(run_metric("still", "kl", step) == 0 && fabs(run_metric("still", "loss", step) - 0.5) < 1e-12);
    assert_run("align --model %s --data %s/unpaired.jsonl --method kto --ref-rule previous --max-steps 4 --out %s/previous %s", model, folder, folder, shared);
    for (int step = 1; step <= 4; step++) {
        assert_near(run_metric("previous", "loss", step), 0.5, 1e-12, 0);
        assert_true(run_metric("previous", "kl", step) == 0);
    }
}

/* A row's weight of 0 is as good as no loss: only the other kind pulls. */
static void weights_scale_the_rows_of_a_kind(void **state)
{
    (void)state;
    assert_run("align --model %s --data %s/unpaired.jsonl --method kto --desirable-weight 0 --max-steps 1 --out %s/w0 %s", model, folder, folder, shared);
    assert_run("align --model %s --data %s/unpaired.jsonl --method kto --undesirable-weight 0 --max-steps 1 --out %s/w1 %s", model, folder, folder, shared);
    assert_run("align --model %s --data %s/unpaired.jsonl --method kto --undesirable-weight 3 --max-steps 1 --out %s/w3 %s", model, folder, folder, shared);
    assert_near(run_metric("w0", "loss", 1) + run_metric("w1", "loss", 1), 0.5, 1e-12, 0);
    assert_near(run_metric("w3", "loss", 1), run_metric("w1", "loss", 1) + 3 * run_metric("w0", "loss", 1), 1e-12, 0);
}

static void what_has_no_meaning_is_refused(void **state)
{
    (void)state;
    shell("cd %s && grep 'label\": true' unpaired.jsonl > good.jsonl && sed 's/, \"label\": [a-z]*//' unpaired.jsonl > unlabelled.jsonl && sed 's/\"prompt_ids\": .[^]]*]/\"prompt_ids\": [1]/' unpaired.jsonl > oneprompt.jsonl", folder);
    static const struct {
        const char *arguments;
        int status; // 1: of the file's rows, 2: of the options
        const char *says;
    } bad[] = {
        {"--data %s/unpaired.jsonl --method kto --batch 1", 2, "give --batch 2 or more"},
        {"--data %s/good.jsonl --method kto", 1, "no row is undesirable"},
        {"--data %s/unlabelled.jsonl --method bco-unpaired", 2, "expected rows with a label"},
        {"--data %s/oneprompt.jsonl --method kto", 1, "every row has the same prompt"},
        {"--data %s/unpaired.jsonl --method dpo", 2, "expected preference rows"},
        {"--data %s/unpaired.jsonl --method aot-unpaired --desirable-weight 2", 2, "leave --desirable-weight"},
        {"--data %s/unpaired.jsonl --method kto --desirable-weight 0 --undesirable-weight 0", 2, "nothing would be learned"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char arguments[2400];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(arguments, sizeof arguments, bad[i].arguments, folder);
#pragma GCC diagnostic pop
        assert_status(run_sail("align --model %s %s --out %s/never --quiet", model, arguments, folder), bad[i].status, arguments, bad[i].says);
    }
}

/* What is not to be written is not imitated: the run on all rows is that on the good ones, held-out rows and gradients alike. */
static void sft_leaves_undesirable_rows_out(void **state)
{
    (void)state;
    shell("cd %s && grep 'label\": true' unpaired.jsonl > good.jsonl && grep 'label\": false' unpaired.jsonl > bad.jsonl", folder);
    const char *files[2] = {"unpaired", "good"};
    for (int k = 0; k < 2; k++) {
        assert_run("sft --model %s --data %s/%s.jsonl --eval-data %s/%s.jsonl --max-steps 3 --batch 4 --max-length 64 --lora-r 4 --dtype f32 --threads 1 --out %s/sft-%d", model, folder, files[k], folder, files[k],
                   folder, k);
        assert_int_equal(strstr(output, "rows whose label is false") != NULL, !k);
        assert_run("grad --model %s --data %s/%s.jsonl --method sft --out %s/sft-%d.safetensors", model, folder, files[k], folder, k);
    }
    assert_same_file("sft-0", "sft-1", "metrics.jsonl");
    assert_same_file("sft-0", "sft-1", "final/adapter_model.safetensors");
    shell("cmp %s/sft-0.safetensors %s/sft-1.safetensors", folder, folder);
    assert_status(run_sail("sft --model %s --data %s/bad.jsonl --max-steps 1 --lora-r 4 --out %s/never", model, folder, folder), 1, "rows that are all bad", "the label of every row is false");
}

/* pairs.jsonl as unpaired.jsonl: the chosen row, then the rejected one. */
static int take_apart(void)
{
    char path[1100], *data;
    size_t n;
    snprintf(path, sizeof path, "%s/pairs.jsonl", folder);
    if (file_read(path, 1 << 20, &data, &n, NULL)) return -1;
    snprintf(path, sizeof path, "%s/unpaired.jsonl", folder);
    FILE *f = fopen(path, "w");
    for (char *line = strtok(data, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *row = json_loads(line, 0, NULL);
        for (int k = 0; k < 2; k++) {
            json_t *out = json_pack("{sO sO sb}", "prompt_ids", json_object_get(row, "prompt_ids"), "completion_ids", json_object_get(row, k ? "rejected_ids" : "chosen_ids"), "label", !k);
            json_dumpf(out, f, 0);
            fputc('\n', f);
            json_decref(out);
        }
        json_decref(row);
    }
    free(data);
    return fclose(f);
}

static int prepare(void **state)
{
    (void)state;
    return make_pairs("unpaired", 12) ? -1 : take_apart();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_learned),          cmocka_unit_test(preference_rows_are_taken_apart), cmocka_unit_test(micro_batches_change_roundings_only),
        cmocka_unit_test(reference_points_resume_bit_for_bit), cmocka_unit_test(z0_is_of_the_rows_at_hand), cmocka_unit_test(weights_scale_the_rows_of_a_kind), cmocka_unit_test(what_has_no_meaning_is_refused),
        cmocka_unit_test(sft_leaves_undesirable_rows_out),
    };
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
