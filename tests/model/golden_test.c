/* The engine against float64 references: log-probs, reward scores, greedy answers, gradients. The cases in tests/golden always; the rest where the
 * reference folder is there. Bars: token 5e-5, sequence 5e-6 relative, score 1e-5, gradient 3e-5 whole and 6e-5 worst tensor. */
#include "test.h"

#include <dirent.h>
#include <jansson.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/safetensors.h"

static char folder[4096]; /* of scratch files */

static char *run_sail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Runs the program; NULL on success, else its error (static). */
static char *run_sail(const char *fmt, ...)
{
    static char output[8192];
    char arguments[8192], command[16384];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(arguments, sizeof arguments, fmt, ap);
    va_end(ap);
    snprintf(command, sizeof command, "%s %s 2>&1", TEST_PROGRAM, arguments);
    FILE *p = popen(command, "r");
    size_t n = fread(output, 1, sizeof output - 1, p);
    output[n] = '\0';
    return pclose(p) ? output : NULL;
}

#define assert_run(...)                                   \
    do {                                                  \
        char *failed_ = run_sail(__VA_ARGS__);            \
        if (failed_) fail_msg("sail failed: %s", failed_); \
    } while (0)

static json_t *load_lines(const char *path)
{
    char *data;
    size_t n;
    assert_ok(file_read(path, 1 << 28, &data, &n, err));
    json_t *all = json_array();
    for (char *line = strtok(data, "\n"); line; line = strtok(NULL, "\n")) json_array_append_new(all, json_loads(line, 0, NULL));
    free(data);
    return all;
}

static json_t *load_json(const char *path)
{
    json_t *j = json_load_file(path, 0, NULL);
    if (!j) fail_msg("cannot read %s", path);
    return j;
}

static double number(json_t *row, const char *side, const char *key)
{
    char name[64];
    snprintf(name, sizeof name, "%s_%s", side, key);
    return json_number_value(json_object_get(row, name));
}

static void compare_rows(const char *scored, json_t *expected)
{
    json_t *got = load_lines(scored), *want = json_object_get(expected, "rows");
    assert_int_equal(json_array_size(got), json_array_size(want));
    for (size_t i = 0; i < json_array_size(want); i++)
        for (int k = 0; k < 2; k++) {
            const char *side = k ? "rejected" : "chosen";
            json_t *g = json_array_get(got, i), *w = json_array_get(want, i);
            char key[64];
            snprintf(key, sizeof key, "%s_score", side);
            if (json_object_get(w, key)) {
                assert_near(number(g, side, "score"), number(w, side, "score"), 1e-5, 0);
                continue;
            }
            assert_near(number(g, side, "logp"), number(w, side, "logp"), 1e-7, 5e-6);
            snprintf(key, sizeof key, "%s_token_logps", side);
            json_t *gt = json_object_get(g, key), *wt = json_object_get(w, key);
            assert_int_equal(json_array_size(gt), json_array_size(wt));
            for (size_t t = 0; t < json_array_size(wt); t++) assert_near(json_number_value(json_array_get(gt, t)), json_number_value(json_array_get(wt, t)), 5e-5, 0);
        }
    json_decref(got);
}

static void compare_gradients(const char *got_path, const char *want_path, double loss)
{
    struct safetensors got, want;
    assert_ok(safetensors_open(&got, got_path, err));
    assert_ok(safetensors_open(&want, want_path, err));
    assert_int_equal(got.n, want.n);
    double difference = 0, size = 0;
    for (int64_t i = 0; i < want.n; i++) {
        const struct tensor *w = &want.tensor[i], *g = safetensors_find(&got, w->name);
        if (!g) fail_msg("gradient of %s is missing", w->name);
        assert_int_equal(tensor_count(g), tensor_count(w));
        double worst = 0, largest = 1e-12;
        for (int64_t k = 0; k < tensor_count(w); k++) {
            float a, b;
            memcpy(&a, (char *)g->data + 4 * k, 4);
            memcpy(&b, (char *)w->data + 4 * k, 4);
            difference += ((double)a - b) * ((double)a - b);
            size += (double)b * b;
            worst = fmax(worst, fabs((double)a - b));
            largest = fmax(largest, fabs(b));
        }
        if (worst > 6e-5 * largest) fail_msg("%s: %s differs by %.3g of its largest gradient", want_path, w->name, worst / largest);
    }
    if (!(sqrt(difference / size) <= 3e-5)) fail_msg("%s: gradient off by %.3g", want_path, sqrt(difference / size));
    if (!isnan(loss)) assert_near(atof(json_string_value(json_object_get(got.metadata, "loss"))), loss, 1e-6, 1e-5);
    safetensors_close(&got);
    safetensors_close(&want);
}

static void check_gradients(const char *c, json_t *expected, const char *adapter)
{
    char reference[4200] = "", path[8500];
    snprintf(path, sizeof path, "%s/ref", c);
    if (path_is_dir(path)) snprintf(reference, sizeof reference, "--ref %s/ref", c);
    json_t *m;
    size_t i;
    json_array_foreach(json_object_get(expected, "methods"), i, m)
    {
        const char *file = json_string_value(json_object_get(m, "file"));
        snprintf(path, sizeof path, "%s/%s", c, file);
        if (!path_exists(path)) continue;
        struct buf options;
        buf_init(&options, 0);
        buf_puts(&options, " ");
        const char *key;
        json_t *value;
        json_object_foreach(json_object_get(m, "options"), key, value)
        {
            buf_printf(&options, "--%s ", key);
            buf_json_double(&options, json_number_value(value));
            buf_putc(&options, ' ');
        }
        assert_run("grad --model %s --data %s/%s --method %s --out %s/g.safetensors %s %s %s", c, c, json_string_value(json_object_get(m, "data")), json_string_value(json_object_get(m, "method")),
                   folder, adapter, reference, options.data);
        char out[4200];
        snprintf(out, sizeof out, "%s/g.safetensors", folder);
        compare_gradients(out, path, json_number_value(json_object_get(m, "loss")));
        buf_release(&options);
    }
    snprintf(path, sizeof path, "%s/grad-reward.safetensors", c);
    if (path_exists(path)) {
        assert_run("grad --model %s --data %s/data.jsonl --method reward --out %s/g.safetensors", c, c, folder);
        char out[4200];
        snprintf(out, sizeof out, "%s/g.safetensors", folder);
        compare_gradients(out, path, NAN);
    }
}

static void check_greedy(const char *c, json_t *expected, const char *adapter)
{
    json_t *want = json_object_get(expected, "greedy"), *rows;
    if (!want) return;
    char path[4200];
    snprintf(path, sizeof path, "%s/data.jsonl", c);
    rows = load_lines(path);
    snprintf(path, sizeof path, "%s/p.jsonl", folder);
    FILE *f = fopen(path, "w");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_pack("{sO}", "prompt_ids", json_object_get(json_array_get(rows, i), "prompt_ids"));
        json_dumpf(row, f, 0);
        fputc('\n', f);
        json_decref(row);
    }
    fclose(f);
    json_decref(rows);
    assert_run("generate --model %s --prompts %s/p.jsonl --out %s/o.jsonl --greedy --max-new-tokens 12 --dtype f32 --quiet %s", c, folder, folder, adapter);
    snprintf(path, sizeof path, "%s/o.jsonl", folder);
    json_t *got = load_lines(path);
    for (size_t i = 0; i < json_array_size(want); i++) {
        json_t *g = json_array_get(got, i), *w = json_array_get(want, i);
        assert_true(json_equal(json_object_get(g, "ids"), json_object_get(w, "ids")));
        assert_true(json_equal(json_object_get(g, "finish"), json_object_get(w, "finish")));
        assert_near(json_number_value(json_object_get(g, "logp")), json_number_value(json_object_get(w, "logp")), 6e-4, 0);
    }
    json_decref(got);
}

static void check_case(const char *c)
{
    char path[4200], adapter[4200] = "";
    print_message("case %s\n", c);
    snprintf(path, sizeof path, "%s/expected.json", c);
    json_t *expected = load_json(path);
    snprintf(path, sizeof path, "%s/adapter", c);
    if (path_is_dir(path)) snprintf(adapter, sizeof adapter, "--adapter %s/adapter", c);
    snprintf(path, sizeof path, "%s/s.jsonl", folder);
    assert_run("score --model %s --data %s/data.jsonl --out %s --tokens %s", c, c, path, adapter);
    compare_rows(path, expected);
    // The other spelling of the same config.
    char other[4200], command[30000];
    snprintf(other, sizeof other, "%s/v4", folder);
    snprintf(command, sizeof command, "rm -rf %s; mkdir %s; cp %s/config.v4.json %s/config.json; cp %s/model.safetensors %s/", other, other, c, other, c, other);
    assert_int_equal(system(command), 0);
    assert_run("score --model %s --data %s/data.jsonl --out %s --tokens %s", other, c, path, adapter);
    compare_rows(path, expected);
    check_greedy(c, expected, adapter);
    check_gradients(c, expected, adapter);
    json_decref(expected);
}

static void golden_cases(void **state)
{
    (void)state;
    static const char *const names[] = {"llama-gqa", "lora-llama", "qwen2-seqcls", "phi3-longrope", "gemma-old-gelu", "gemma2", "gemma3", "gpt2", "gpt-neox", "olmo2", "smollm3",
                                        "llama-dynamic", "llama-relu", "neox-odd", "smollm3-four", "stablelm-bias", "stablelm-12b", "lora-stablelm", "granite-bias", "cohere", "cohere-norms"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s/%s", repo_path("tests/golden/cases"), names[i]);
        check_case(path);
    }
}

/* KTO's mismatched rows go through the model too: the reference point and the gradient against autograd. */
static void unpaired_gradient(void **state)
{
    (void)state;
    char c[4200], out[4200];
    snprintf(c, sizeof c, "%s", repo_path("tests/golden/cases/llama-gqa"));
    snprintf(out, sizeof out, "%s/g.safetensors", folder);
    assert_run("grad --model %s --ref %s/ref --data %s/data.jsonl --method kto --out %s", c, c, c, out);
    compare_gradients(out, repo_path("tests/golden/unpaired/grad-kto.safetensors"), 0.49781224868748847);
}

/* what = sum of weight * part, tensor by tensor; the loss too. */
static double combine(const char *what, const char *const *part, const double *weight, int n)
{
    struct safetensors s[4];
    double loss = 0;
    for (int k = 0; k < n; k++) {
        assert_ok(safetensors_open(&s[k], part[k], err));
        loss += weight[k] * atof(json_string_value(json_object_get(s[k].metadata, "loss")));
    }
    struct tensor *t = calloc((size_t)s[0].n, sizeof *t);
    for (int64_t i = 0; i < s[0].n; i++) {
        t[i] = s[0].tensor[i];
        float *sum = calloc((size_t)tensor_count(&t[i]), sizeof *sum);
        for (int k = 0; k < n; k++)
            for (int64_t e = 0; e < tensor_count(&t[i]); e++) {
                float x;
                memcpy(&x, (const char *)safetensors_find(&s[k], t[i].name)->data + 4 * e, sizeof x);
                sum[e] += (float)weight[k] * x;
            }
        t[i].data = sum;
    }
    assert_ok(safetensors_write(what, t, s[0].n, NULL, 0, err));
    for (int64_t i = 0; i < s[0].n; i++) free(t[i].data);
    free(t);
    for (int k = 0; k < n; k++) safetensors_close(&s[k]);
    return loss;
}

/* The gradient of a sum is the weighted sum of its terms' gradients, which PyTorch gives. */
static void sum_gradient(void **state)
{
    (void)state;
    char c[4200], out[4200], want[4200], sft[4200], dpo[4200];
    snprintf(c, sizeof c, "%s", repo_path("tests/golden/cases/llama-gqa"));
    snprintf(out, sizeof out, "%s/g.safetensors", folder);
    snprintf(want, sizeof want, "%s/w.safetensors", folder);
    snprintf(dpo, sizeof dpo, "%s", repo_path("tests/golden/cases/llama-gqa/grad-dpo.safetensors"));
    snprintf(sft, sizeof sft, "%s", repo_path("tests/golden/cases/llama-gqa/grad-sft.safetensors"));
    const double loss = combine(want, (const char *const[]){sft, dpo}, (const double[]){0.3, 1.7}, 2);
    assert_run("grad --model %s --ref %s/ref --data %s/data.jsonl --method sft,dpo --method-weights 0.3,1.7 --out %s", c, c, c, out);
    compare_gradients(out, want, loss);
}

static void all_cases(void **state)
{
    (void)state;
    NEED_SHARED(cases, "refs/cases");
    static const char *const names[] = {"llama-gqa", "llama-gqa-bf16", "llama-tied", "llama3-rope", "linear-rope", "yarn", "qwen2", "qwen3", "mistral", "llama-seqcls", "qwen2-seqcls", "lora-llama", "lora-rslora",
                                        "smollm3", "olmo2", "phi3", "phi3-partial", "phi3-longrope", "lora-phi3", "gemma2", "gemma3", "gpt2", "gpt-neox"};
    char root[4096];
    snprintf(root, sizeof root, "%s", cases);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s/%s", root, names[i]);
        check_case(path);
    }
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/sail-golden-%d", (int)getpid());
    mkdir(folder, 0700);
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_cases), cmocka_unit_test(unpaired_gradient), cmocka_unit_test(sum_gradient), cmocka_unit_test(all_cases)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dir_remove(folder, NULL);
    return failed;
}
