/* Block formats of ggml: geometry, values as f32, and Q8_0 from f32. */
#ifndef SAIL_IO_GGUF_DEQUANT_H
#define SAIL_IO_GGUF_DEQUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ggml_type {
    GGML_F32 = 0, GGML_F16 = 1, GGML_Q4_0 = 2, GGML_Q4_1 = 3, GGML_Q5_0 = 6, GGML_Q5_1 = 7, GGML_Q8_0 = 8,
    GGML_Q2_K = 10, GGML_Q3_K = 11, GGML_Q4_K = 12, GGML_Q5_K = 13, GGML_Q6_K = 14, GGML_Q8_K = 15, GGML_BF16 = 30
};

/* Values and bytes of a block; false for types that are not supported. */
bool ggml_block(uint32_t type, int *values, int *bytes);
const char *ggml_type_name(uint32_t type); /* of unsupported ones too; "unknown" */
/* n values (whole blocks) of src as f32. */
void ggml_dequantise(float *out, const unsigned char *src, uint32_t type, int64_t n);
/* n values (whole blocks of 32) as Q8_0: of each block the largest magnitude is 127. */
void ggml_quantise_q8_0(unsigned char *out, const float *x, int64_t n);

#endif
