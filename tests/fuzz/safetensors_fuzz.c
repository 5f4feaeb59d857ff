/* A safetensors file, or a header and after "\n%%\n" the data, whose length is then put in front. Every tensor that was let through lies inside the file and is
 * found by its name. */
#include "fuzz.h"

#include "io/safetensors.h"

static const char *file_of(const uint8_t *data, size_t size)
{
    const uint8_t *rest;
    size_t n_rest;
    const size_t n = fuzz_part(data, size, &rest, &n_rest);
    if (!rest) return fuzz_file("model.safetensors", data, size);
    uint8_t *whole = malloc(8 + n + n_rest);
    for (int i = 0; i < 8; i++) whole[i] = (uint8_t)((uint64_t)n >> (8 * i));
    memcpy(whole + 8, data, n);
    if (n_rest) memcpy(whole + 8 + n, rest, n_rest);
    const char *path = fuzz_file("model.safetensors", whole, 8 + n + n_rest);
    free(whole);
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors s;
    sail_err err = {0};
    int rc = safetensors_open(&s, file_of(data, size), &err);
    fuzz_check_refusal(rc, &err);
    if (rc) return 0;
    for (int64_t i = 0; i < s.n; i++) {
        const struct tensor *t = &s.tensor[i];
        fuzz_touch(t->data, (size_t)tensor_count(t) * dtype_size(t->dtype));
        BUG_ON(safetensors_find(&s, t->name) != t, "'%s' is not found", t->name);
    }
    safetensors_close(&s);
    return 0;
}
