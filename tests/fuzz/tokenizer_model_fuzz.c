/* SentencePiece's tokenizer.model. */
#include "tokenizer_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_file("tokenizer.model", data, size);
    struct tokenizer *t;
    sail_err err = {0};
    int rc = tokenizer_open(&t, fuzz_folder(), &err);
    fuzz_check_refusal(rc, &err);
    if (rc) return 0;
    fuzz_tokenize_samples(t, NULL, 0);
    tokenizer_close(t);
    return 0;
}
