/* A GGUF file through everything that reads one: weights with their config, tokenizer, chat template. */
#include "tokenizer_text.h"

#include "io/gguf.h"
#include "io/weights.h"
#include "template/template.h"

static void read_weights(const char *path)
{
    struct weights *w;
    sail_err err = {0};
    int rc = weights_open(&w, path, &err);
    fuzz_check_refusal(rc, &err);
    if (rc) return;
    for (int64_t i = 0; i < weights_count(w); i++) {
        const struct tensor *t = weights_at(w, i);
        const size_t n = (size_t)tensor_count(t);
        if (n > 1 << 18) continue;
        float *f32 = malloc(n * sizeof *f32);
        uint16_t *bf16 = malloc(n * sizeof *bf16);
        weights_load(w, t, f32, DTYPE_F32, NULL);
        weights_load(w, t, bf16, DTYPE_BF16, NULL);
        free(f32);
        free(bf16);
    }
    weights_close(w);
}

static void read_tokenizer(const char *path)
{
    struct tokenizer *t;
    sail_err err = {0};
    int rc = tokenizer_exists(path) ? tokenizer_open(&t, path, &err) : err_set(&err, SAIL_FAILED, "no tokenizer");
    fuzz_check_refusal(rc, &err);
    if (rc) return;
    fuzz_tokenize_samples(t, NULL, 0);
    tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file("model.gguf", data, size);
    struct gguf *g;
    sail_err err = {0};
    int rc = gguf_open(&g, path, &err);
    fuzz_check_refusal(rc, &err);
    if (rc) return 0;
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        fuzz_touch(t->data, t->bytes);
        BUG_ON(!gguf_tensor_find(g, t->name), "'%s' is not found", t->name);
    }
    gguf_close(g);
    read_weights(path);
    read_tokenizer(path);
    struct chat_template *t;
    if (template_exists(path) && !template_open(&t, path, NULL)) template_close(t);
    return 0;
}
