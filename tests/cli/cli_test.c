/* The program from outside: runs that are killed and resumed, the same numbers however the work is cut, and bad input. */
#include "cli/program.h"

static const char *const online = "--method sail-mix --reward-rule %s --batch 4 --max-steps 10 --max-length 64 --max-new-tokens 12 --lr 1e-3 --dtype f32 --baseline loo --quiet --save-steps 5 --seed 3";

static void resume_is_exact(const char *kind, const char *options)
{
    char rule[1200], shared[16384], arguments[4096];
    snprintf(rule, sizeof rule, "%s", repo_path("examples/demo/happy.yaml"));
    snprintf(arguments, sizeof arguments, online, rule);
    snprintf(shared, sizeof shared, "align --model %s --data %s/pairs.jsonl --prompts %s/prompts.jsonl %s %s", model, folder, folder, arguments, options);
    assert_run("%s --out %s/%s-straight", shared, folder, kind);
    // Killed without warning after the checkpoint of step 5: what it did later is lost, and done again.
    assert_run("%s --out %s/%s-killed", shared, folder, kind);
    shell("rm -r %s/%s-killed/checkpoints/step-10 %s/%s-killed/final", folder, kind, folder, kind);
    assert_run("align --out %s/%s-killed --resume --quiet", folder, kind);
    char a[64], b[64];
    snprintf(a, sizeof a, "%s-straight", kind);
    snprintf(b, sizeof b, "%s-killed", kind);
    assert_same_file(a, b, "metrics.jsonl");
    assert_same_file(a, b, "samples.jsonl");
    assert_same_file(a, b, "checkpoints/step-10/params.safetensors");
    assert_same_file(a, b, "checkpoints/step-10/optimizer.safetensors");
    assert_same_file(a, b, !strncmp(kind, "lora", 4) ? "final/adapter_model.safetensors" : "final/model.safetensors");
    // Another option than before is refused.
    assert_int_equal(run_sail("align --out %s/%s-killed --resume --lr 1e-4 --quiet", folder, kind), 2);
    assert_non_null(strstr(output, "option lr was"));
}

static void lora_resumes_bit_for_bit(void **state)
{
    (void)state;
    resume_is_exact("lora", "--lora-r 4");
}

/* Several answers, all pairs, answers that serve three steps; the run dies between two samplings. */
static void replay_resumes_bit_for_bit(void **state)
{
    (void)state;
    resume_is_exact("lora-replay", "--lora-r 4 --num-samples 3 --pairing all --replay-steps 3");
    char path[1100], *data;
    size_t n;
    snprintf(path, sizeof path, "%s/lora-replay-straight/metrics.jsonl", folder);
    assert_ok(file_read(path, 1 << 20, &data, &n, err));
    assert_null(strstr(data, "{\"step\": 1, \"replay/")); // fresh answers carry no weight
    assert_non_null(strstr(data, "\"replay/clip_share\": "));
    assert_non_null(strstr(data, "\"replay/effective_pairs\": "));
    free(data);
}

static void moving_references_resume_bit_for_bit(void **state)
{
    (void)state;
    resume_is_exact("lora-ema", "--lora-r 4 --ref-rule ema --ref-decay 0.7 --ref-steps 2");
    resume_is_exact("lora-periodic", "--lora-r 4 --ref-rule periodic --ref-steps 4");
}

/* previous: every step starts at the reference, so that h is 0 and the loss log 2; ema with decay 1 is init, with decay 0 previous; periodic moves at its
 * steps only. */
static void references_follow_their_rule(void **state)
{
    (void)state;
    char shared[4096];
    snprintf(shared, sizeof shared, "align --model %s --data %s/pairs.jsonl --method dpo --batch 4 --max-steps 4 --lr 1e-2 --schedule constant --dtype f32 --lora-r 4 --quiet", model, folder);
    assert_run("%s --out %s/ref-init", shared, folder);
    assert_run("%s --ref-rule previous --out %s/ref-previous", shared, folder);
    assert_run("%s --ref-rule ema --ref-decay 1 --out %s/ref-ema1", shared, folder);
    assert_run("%s --ref-rule ema --ref-decay 0 --out %s/ref-ema0", shared, folder);
    assert_run("%s --ref-rule periodic --ref-steps 2 --out %s/ref-periodic", shared, folder);
    // TR-DPO's two rows are DPO with its rules; an option still wins over the row.
    char tr[4096];
    snprintf(tr, sizeof tr, "align --model %s --data %s/pairs.jsonl --batch 4 --max-steps 4 --lr 1e-2 --schedule constant --dtype f32 --lora-r 4 --quiet", model, folder);
    assert_run("%s --ref-rule ema --ref-decay 0.4 --out %s/ref-ema4", shared, folder);
    assert_run("%s --method tr-dpo-soft --out %s/tr-soft", tr, folder);
    assert_run("%s --method tr-dpo-hard --out %s/tr-hard", tr, folder);
    assert_run("%s --method tr-dpo-hard --ref-steps 2 --out %s/tr-hard2", tr, folder);
    assert_same_file("tr-soft", "ref-ema4", "metrics.jsonl");
    assert_same_file("tr-hard", "ref-init", "metrics.jsonl"); // 512 steps are not reached
    assert_same_file("tr-hard2", "ref-periodic", "metrics.jsonl");
    for (int step = 1; step <= 4; step++) assert_near(run_metric("ref-previous", "loss", step), 0.6931471805599453, 1e-12, 0);
    assert_same_file("ref-init", "ref-ema1", "metrics.jsonl");
    assert_same_file("ref-previous", "ref-ema0", "metrics.jsonl");
    for (int step = 1; step <= 4; step++) assert_true((fabs(run_metric("ref-periodic", "loss", step) - 0.6931471805599453) < 1e-12) == (step % 2 == 1));
}

/* Four answers: every one is judged; how the work is cut changes roundings only; tied pairs are counted. */
static void several_answers_make_the_pairs_asked_for(void **state)
{
    (void)state;
    const char *rule = repo_path("examples/demo/happy.yaml");
    char shared[4096];
    snprintf(shared, sizeof shared, "align --model %s --prompts %s/prompts.jsonl --method iterative-dpo --reward-rule %s --batch 3 --max-steps 2 --max-length 64 --max-new-tokens 12 --lr 1e-2 "
             "--optimizer sgd --schedule constant --dtype f32 --full --quiet", model, folder, rule);
    static const char *const pairings[] = {"best-worst", "random", "all"};
    for (int k = 0; k < 3; k++) {
        assert_run("%s --pairing %s --out %s/k4-%s", shared, pairings[k], folder, pairings[k]);
        assert_run("%s --pairing %s --micro-batch 1 --out %s/k4-%s-cut", shared, pairings[k], folder, pairings[k]);
        char run[64], cut[64];
        snprintf(run, sizeof run, "k4-%s", pairings[k]);
        snprintf(cut, sizeof cut, "k4-%s-cut", pairings[k]);
        assert_true(run_metric(run, "labels", 2) == 24); // 2 steps, 3 prompts, 4 answers
        assert_near(run_metric(run, "loss", 2), run_metric(cut, "loss", 2), 1e-6, 1e-5);
    }
    assert_true(run_metric("k4-best-worst", "objective/scores_margin", 1) >= run_metric("k4-all", "objective/scores_margin", 1));
    assert_true(run_metric("k4-best-worst", "val/ties", 1) <= 3);
    assert_true(run_metric("k4-all", "val/ties", 1) <= 18);
}

static void full_training_resumes_bit_for_bit(void **state)
{
    (void)state;
    resume_is_exact("full", "--full --optimizer rmsprop");
}

/* Micro-batches change roundings only: ten steps of plain gradient descent stay together. */
static void micro_batches_give_the_same_update(void **state)
{
    (void)state;
    const char *shared = "--method dpo --batch 6 --max-steps 3 --lr 1e-2 --optimizer sgd --schedule constant --dtype f32 --full --quiet";
    assert_run("align --model %s --data %s/pairs.jsonl --out %s/whole %s", model, folder, folder, shared);
    assert_run("align --model %s --data %s/pairs.jsonl --out %s/cut %s --micro-batch 1", model, folder, folder, shared);
    char path[2][2200], *data[2];
    double loss[2] = {0};
    for (int k = 0; k < 2; k++) {
        size_t n;
        snprintf(path[k], sizeof path[k], "%s/%s/metrics.jsonl", folder, k ? "cut" : "whole");
        assert_ok(file_read(path[k], 1 << 20, &data[k], &n, err));
        char *last = strstr(data[k], "{\"step\": 3, \"loss\": ");
        assert_non_null(last);
        loss[k] = atof(last + 20);
        free(data[k]);
    }
    assert_near(loss[0], loss[1], 1e-6, 1e-5);
    assert_true(loss[0] < 0.6931);
}

/* Sampled log-probs are the scored ones, and do not depend on how many rows are decoded at once. */
static void sampled_equals_scored(void **state)
{
    (void)state;
    assert_run("generate --model %s --prompts %s/prompts.jsonl --num-return 3 --max-new-tokens 20 --dtype f32 --seed 5 --out %s/a.jsonl --quiet", model, folder, folder);
    shell("head -n 2 %s/prompts.jsonl > %s/two.jsonl", folder, folder);
    assert_run("generate --model %s --prompts %s/two.jsonl --num-return 3 --max-new-tokens 20 --dtype f32 --seed 5 --out %s/b.jsonl --quiet", model, folder, folder);
    shell("head -n 6 %s/a.jsonl | cmp - %s/b.jsonl", folder, folder);
    char path[1100], *data;
    size_t n;
    snprintf(path, sizeof path, "%s/a.jsonl", folder);
    assert_ok(file_read(path, 1 << 24, &data, &n, err));
    // The rows as score's input: the prompts' ids come from the tokenizer, the completions' from the sampler.
    shell("cd %s && awk 'NR==FNR{p[NR-1]=$0; next} {match($0,/\"i\": [0-9]+/); i=substr($0,RSTART+5,RLENGTH-5); match($0,/\"ids\": \\[[^]]*\\]/); ids=substr($0,RSTART+7,RLENGTH-7); q=p[i]; "
          "sub(/}$/, \", \\\"completion_ids\\\": \" ids \"}\", q); print q}' prompts.jsonl a.jsonl > rows.jsonl",
          folder);
    assert_run("score --model %s --data %s/rows.jsonl --out %s/s.jsonl", model, folder, folder);
    char *scored;
    snprintf(path, sizeof path, "%s/s.jsonl", folder);
    assert_ok(file_read(path, 1 << 24, &scored, &n, err));
    int rows = 0;
    for (char *a = strstr(data, "\"logp\": "), *b = strstr(scored, "\"logp\": "); a && b; a = strstr(a + 1, "\"logp\": "), b = strstr(b + 1, "\"logp\": "), rows++)
        assert_near(atof(a + 8), atof(b + 8), 20 * 5e-5, 0);
    assert_true(rows == 36);
    free(data);
    free(scored);
}

/* A merged folder scores as base and adapter do; a GGUF's folder as the GGUF. */
static void converted_models_are_the_same_model(void **state)
{
    (void)state;
    char golden[1200];
    snprintf(golden, sizeof golden, "%s", repo_path("tests/golden/cases/lora-llama"));
    assert_run("convert --model %s --merge %s/adapter --out %s/merged", golden, golden, folder);
    assert_run("score --model %s --adapter %s/adapter --data %s/data.jsonl --out %s/m0", golden, golden, golden, folder);
    assert_run("score --model %s/merged --data %s/data.jsonl --out %s/m1", folder, golden, folder);
    char *data[2];
    for (int k = 0; k < 2; k++) {
        char path[1100];
        size_t n;
        snprintf(path, sizeof path, "%s/m%d", folder, k);
        assert_ok(file_read(path, 1 << 20, &data[k], &n, err));
    }
    int rows = 0;
    for (char *a = strstr(data[0], "_logp\": "), *b = strstr(data[1], "_logp\": "); a && b; a = strstr(a + 1, "_logp\": "), b = strstr(b + 1, "_logp\": "), rows++) assert_near(atof(a + 8), atof(b + 8), 1e-5, 5e-6);
    assert_int_equal(rows, 12);
    free(data[0]);
    free(data[1]);
    assert_int_equal(run_sail("convert --model %s --out %s/merged", golden, folder), 2); // never over something
    const char *gguf = shared_path("data/models/stories260K/stories260K-f32.gguf");
    if (!gguf) {
        print_message("SKIP: no shared data (GGUF to folder)\n");
        return;
    }
    assert_run("convert --model %s --out %s/from-gguf", gguf, folder);
    assert_run("score --model %s --data %s/pairs.jsonl --out %s/g0", gguf, folder, folder);
    assert_run("score --model %s/from-gguf --data %s/pairs.jsonl --out %s/g1", folder, folder, folder);
    shell("cmp %s/g0 %s/g1", folder, folder);
}

static const struct bad {
    const char *arguments, *says;
    int status;
} bad[] = {
    {"frobnicate", "unknown command", 2},
    {"align --modle x", "did you mean --model", 2},
    {"align --model M --lr fast", "expected a number", 2},
    {"align --model M --data D --method dop --out O", "did you mean dpo", 2},
    {"align --model M --data D --out O --method sail-pr", "asks a labeler", 2},
    {"align --model M --data D --out O --method robust --eps 0.5", "--eps must be below 0.5", 2},
    {"align --model M --data D --out O --method exo-pair --eps 0", "--eps must be above 0", 2},
    {"align --model M --data D --out O --method discopop --tau 2", "--tau must be at most 1", 2},
    {"align --model M --data D --out O --method online-dpo --reward-rule R", "--max-steps", 2},
    {"align --model M --data D --out O --method dpo --full --ref-rule ema", "drop --full", 2},
    {"align --model M --data D --out O --method tr-dpo-soft --full", "drop --full", 2},
    {"align --model M --data D --out O --method dpo,tr-dpo-hard", "name dpo and give --ref-rule", 2},
    {"align --model M --data D --out O --method simpo --ref-rule previous", "has no reference", 2},
    {"align --model M --data D --out O --method dpo --ref-rule periodic --ref base", "drop --ref base", 2},
    {"align --model M --data D --out O --method sail-pr --reward-rule R --num-samples 4", "--pairing random or all", 2},
    {"align --model M --data D --out O --method sail-pp --num-samples 4", "needs a labeler's rewards", 2},
    {"align --model M --data D --out O --method dpo --num-samples 4", "samples no answers", 2},
    {"align --model M --data D --out O --method sail-pp --replay-steps 2 --temperature 0.7", "temperature 1", 2},
    {"align --model M --data D --out O --mix-dp 0.7 --mix-pp 0.7 --method sail-mix", "at most 1", 2},
    {"score --model /nonexistent --data D --out O", "/nonexistent", 1},
    {"score --model M --data /nonexistent --out O", "/nonexistent", 1},
    {"score --model M --data BADROW --out O", ":1:", 1},
    {"score --model M --data BADJSON --out O", "not a JSON object", 1},
    {"score --model M --data BADID --out O", "id 99999", 1},
    {"score --model M --data LONG --out O", "context of 512", 1},
    {"score --model M --data EMPTY --out O", "empty", 1},
    {"score --model M --data NOROWS --out O", "norows: no rows", 1},
    {"score --model M --data P --out O", "prompts.jsonl:1: expected completion, or chosen and rejected; the row has: prompt", 1},
    {"score --model HEADS --data D --out O", "\"num_attention_heads\": expected a whole number from 1 to 65536, got 0", 1},
    {"score --config TWICE", "twice:2: 'model' is there twice", 2},
    {"score --config NOTANUMBER", "expected a YAML file, got a folder", 2},
    {"grad --model NOTANUMBER --ref M --data D --out O", "the loss is nan", 1},
    {"grad --model M --ref M --data P --out O", "prompts.jsonl:1: expected chosen and rejected", 1},
    {"generate --model NOTANUMBER --prompts P --out O", "are not numbers", 1},
    {"generate --model NOTANUMBER --prompts P --greedy --out O", "are not numbers", 1},
    {"generate --model NOTANUMBER --prompts P --top-p 0.5 --top-k 9 --out O", "are not numbers", 1},
    {"generate --model M --prompts BADPROMPT --out O", "badprompt:2: token 1 is id 700", 1},
    {"generate --model M --prompts P --out NOTANUMBER", "Is a directory", 1},
    {"score --model SHORT --data D --out O", "data end at offset", 1},
    {"score --model WRONGSHAPE --data D --out O", "expected shape", 1},
    {"score --model UNKNOWN --data D --out O", "'mamba'", 1},
    {"score --model BADROPE --data D --out O", "\"rope_parameters\": expected an object", 1},
    {"score --model BADEOS --data D --out O", "\"eos_token_id\": expected a whole number", 1},
    {"score --model M --data D --out /nonexistent/o", "/nonexistent/o", 1},
    {"generate --model M --prompts P --out /dev/full", "/dev/full", 1},
    {"generate --model M --prompts P --max-new-tokens 600 --out O", "context of 512", 1},
    {"grad --model M --data D --method dpo --out O", "--ref", 2},
    {"bench generate --model M", "needs --prompts or --prompt-length", 2},
    {"bench generate --model M --prompt-length 4 --batch 3 --num-return 2", "no whole number of prompts", 2},
    {"bench generate --model M --prompt-length 500", "context of 512", 1},
    {"bench tokenize --model M", "needs --text-file", 2},
    {"bench tokenize --model M --text-file /dev/null", "expected a regular file", 1},
};

static void bad_input_is_refused_in_one_line(void **state)
{
    (void)state;
    shell("cd %s && echo '{\"question\": 1}' > badrow && echo '{\"prompt\"' > badjson && echo '{\"prompt_ids\": [1, 2], \"completion_ids\": [99999]}' > badid && echo '{\"prompt\": \"a\", \"completion\": \"\"}' > empty && echo > norows && printf 'model: a\\nmodel: b\\n' > twice", folder);
    shell("cd %s && printf '{\"prompt_ids\": [1]}\\n{\"prompt_ids\": [1, 700]}\\n' > badprompt", folder);
    shell("cd %s && awk 'BEGIN{printf \"{\\\"prompt_ids\\\": [1], \\\"completion_ids\\\": [\"; for(i=0;i<600;i++) printf \"%%s5\", i?\",\":\"\"; print \"]}\"}' > long", folder);
    shell("cd %s && for m in short wrongshape unknown heads notanumber badrope badeos; do cp -r %s $m; done && truncate -s 500000 short/model.safetensors && sed -i 's/\"hidden_size\": 64/\"hidden_size\": 32/' wrongshape/config.json && sed -i 's/\"model_type\": \"llama\"/\"model_type\": \"mamba\"/' unknown/config.json && "
          "sed -i 's/\"num_attention_heads\": 8/\"num_attention_heads\": 0/' heads/config.json && printf '\\377\\377\\377\\177' | dd of=notanumber/model.safetensors bs=1 seek=$(($(stat -c %%s notanumber/model.safetensors) - 4)) conv=notrunc status=none",
          folder, model);
    shell("cd %s && sed -i 's/\"model_type\"/\"rope_parameters\": [], &/' badrope/config.json && sed -i 's/\"eos_token_id\": .*1, 2./\"eos_token_id\": [\"x\"]/' badeos/generation_config.json", folder);
    const struct {
        const char *word, *file;
    } words[] = {{"BADROPE", "badrope"}, {"BADEOS", "badeos"}, {"WRONGSHAPE", "wrongshape"}, {"UNKNOWN", "unknown"}, {"BADROW", "badrow"}, {"BADJSON", "badjson"}, {"BADID", "badid"}, {"LONG", "long"}, {"EMPTY", "empty"}, {"SHORT", "short"}, {"NOROWS", "norows"}, {"HEADS", "heads"}, {"TWICE", "twice"}, {"NOTANUMBER", "notanumber"}, {"BADPROMPT", "badprompt"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char arguments[4096] = "", copy[1024], *save = NULL;
        snprintf(copy, sizeof copy, "%s", bad[i].arguments);
        for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
            char word[2200];
            snprintf(word, sizeof word, "%s", w);
            if (!strcmp(w, "M")) snprintf(word, sizeof word, "%s", model);
            if (!strcmp(w, "D")) snprintf(word, sizeof word, "%s/pairs.jsonl", folder);
            if (!strcmp(w, "P")) snprintf(word, sizeof word, "%s/prompts.jsonl", folder);
            if (!strcmp(w, "O")) snprintf(word, sizeof word, "%s/never", folder);
            if (!strcmp(w, "R")) snprintf(word, sizeof word, "%s", repo_path("examples/demo/happy.yaml"));
            for (size_t k = 0; k < sizeof words / sizeof *words; k++)
                if (!strcmp(w, words[k].word)) snprintf(word, sizeof word, "%s/%s", folder, words[k].file);
            strcat(arguments, word);
            strcat(arguments, " ");
        }
        const int status = run_sail("%s", arguments);
        if (status != bad[i].status || !strstr(output, bad[i].says) || strncmp(output, "sail: ", 6)) fail_msg("`sail %s`: status %d, said: %s(wanted %d and \"%s\")", arguments, status, output, bad[i].status, bad[i].says);
        char never[1100];
        snprintf(never, sizeof never, "%s/never", folder);
        if (path_exists(never)) fail_msg("`sail %s` left something behind", arguments);
    }
}

/* A prompt that several rows share is read once; both parts of the time are there. */
static void bench_tells_prompts_from_answers(void **state)
{
    (void)state;
    assert_run("bench generate --model %s --prompt-length 5 --batch 6 --num-return 3 --max-new-tokens 4 --steps 2 --threads 1 --json", model);
    assert_non_null(strstr(output, "\"rows\":6,\"returns\":3,\"prompt_tokens\":10,\"new_tokens\":24,"));
    for (const char *const *key = (const char *const[]){"tokens_per_s", "prefill_s", "prefill_gflops", "decode_s", "decode_gflops", "decode_weights_gbs", "memory_gbs", "share_of_peak", NULL}; *key; key++) {
        char quoted[64];
        snprintf(quoted, sizeof quoted, "\"%s\":", *key);
        const char *at = strstr(output, quoted);
        if (!at || atof(at + strlen(quoted)) <= 0) fail_msg("%s in %s", quoted, output);
    }
}

/* No room for what is written: an error that says so, and nothing of it stays; a run keeps the checkpoints that it has. */
static void no_room_leaves_nothing_half_written(void **state)
{
    (void)state;
    static const char *const commands[] = {"convert --model %s --out nothing", "convert --model %s --out nothing.gguf", "grad --model %s --ref ref --data pairs.jsonl --out nothing.safetensors"};
    shell("ln -sfn %s %s/ref", model, folder);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char arguments[2200];
        snprintf(arguments, sizeof arguments, commands[i], model);
        shell("cd %s && if (ulimit -f 600; exec %s %s) 2>said; then exit 1; else [ $? = 1 ]; fi && grep -q '^sail: error: .*cannot write: File too large$' said && [ -z \"$(ls | grep nothing)\" ]", folder, TEST_PROGRAM, arguments);
    }
    shell("cd %s && if (ulimit -f 600; exec %s align --model %s --data %s/pairs.jsonl --full --max-steps 4 --save-steps 2 --batch 2 --dtype f32 --quiet --out full) 2>said; then exit 1; else [ $? = 1 ]; fi && "
          "grep -q '^sail: error: checkpoint of step 2: .*File too large$' said && [ -z \"$(ls full/checkpoints)\" ] && [ ! -e full/final ]", folder, TEST_PROGRAM, model, folder);
    assert_run("align --out %s/full --resume --quiet", folder);
}

static int prepare(void **state)
{
    (void)state;
    return make_pairs("cli", 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampled_equals_scored),        cmocka_unit_test(micro_batches_give_the_same_update), cmocka_unit_test(lora_resumes_bit_for_bit),
        cmocka_unit_test(moving_references_resume_bit_for_bit), cmocka_unit_test(references_follow_their_rule),
        cmocka_unit_test(replay_resumes_bit_for_bit),   cmocka_unit_test(several_answers_make_the_pairs_asked_for),
        cmocka_unit_test(full_training_resumes_bit_for_bit), cmocka_unit_test(bad_input_is_refused_in_one_line), cmocka_unit_test(no_room_leaves_nothing_half_written), cmocka_unit_test(converted_models_are_the_same_model), cmocka_unit_test(bench_tells_prompts_from_answers),
    };
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
