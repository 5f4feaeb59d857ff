/* What every fuzz target shares. A target is NAME_fuzz.c with one LLVMFuzzerTestOneInput; its corpus is corpus/NAME, its words (optional) NAME.dict. */
#ifndef SAIL_TESTS_FUZZ_H
#define SAIL_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes a file into the process's own folder, which is removed at exit. The path stays the caller's only until the next call. */
const char *fuzz_file(const char *name, const void *data, size_t n);
const char *fuzz_folder(void);

/* Inputs of two parts are cut at the first line "%%": the length of the part before it, and *rest behind it (NULL: none). */
size_t fuzz_part(const uint8_t *data, size_t size, const uint8_t **rest, size_t *rest_size);

/* Reads every byte, for the sanitizers to see. */
void fuzz_touch(const void *data, size_t n);

/* A refusal is one line with something in it. */
static inline void fuzz_check_refusal(int rc, const sail_err *err)
{
    BUG_ON(rc && (!err->message[0] || strpbrk(err->message, "\n\x1b")), "a refusal without a message of one line: '%s'", err->message);
}

#endif
