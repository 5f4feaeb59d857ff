/* tokenizer.json, and after "\n%%\n" a text for it. */
#include "tokenizer_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *text;
    size_t n_text;
    const size_t n = fuzz_part(data, size, &text, &n_text);
    fuzz_file("tokenizer.json", data, n);
    struct tokenizer *t;
    sail_err err = {0};
    int rc = tokenizer_open(&t, fuzz_folder(), &err);
    fuzz_check_refusal(rc, &err);
    if (rc) return 0;
    fuzz_tokenize_samples(t, text, n_text);
    tokenizer_close(t);
    return 0;
}
