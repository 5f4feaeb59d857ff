/* ggml's block formats. Each block carries its scales; values are rebuilt in f32 in the order of ggml's own reference. */
#include "io/gguf_dequant.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "tensor/tensor.h"

struct format {
    uint32_t type;
    int values, bytes;
    void (*block)(float *y, const unsigned char *b);
};

static float half(const unsigned char *p) { return f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

static void f32_block(float *y, const unsigned char *b) { memcpy(y, b, 4); }
static void f16_block(float *y, const unsigned char *b) { *y = half(b); }
static void bf16_block(float *y, const unsigned char *b) { *y = bf16_to_f32((uint16_t)(b[0] | b[1] << 8)); }

static void q4_0(float *y, const unsigned char *b)
{
    const float d = half(b);
    for (int i = 0; i < 16; i++) {
        y[i] = (float)((b[2 + i] & 15) - 8) * d;
        y[i + 16] = (float)((b[2 + i] >> 4) - 8) * d;
    }
}

static void q4_1(float *y, const unsigned char *b)
{
    const float d = half(b), m = half(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = (float)(b[4 + i] & 15) * d + m;
        y[i + 16] = (float)(b[4 + i] >> 4) * d + m;
    }
}

/* The fifth bits of 32 values lie in one word; with_min: scale and minimum, else scale around 16. */
static void q5(float *y, const unsigned char *b, bool with_min)
{
    const float d = half(b), m = with_min ? half(b + 2) : 0;
    const unsigned char *p = b + (with_min ? 4 : 2), *q = p + 4;
    const uint32_t high = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    for (int i = 0; i < 16; i++) {
        const int lo = (q[i] & 15) | (int)(high >> i & 1) << 4, hi = q[i] >> 4 | (int)(high >> (i + 16) & 1) << 4;
        y[i] = with_min ? (float)lo * d + m : (float)(lo - 16) * d;
        y[i + 16] = with_min ? (float)hi * d + m : (float)(hi - 16) * d;
    }
}
static void q5_0(float *y, const unsigned char *b) { q5(y, b, false); }
static void q5_1(float *y, const unsigned char *b) { q5(y, b, true); }

static void q8_0(float *y, const unsigned char *b)
{
    const float d = half(b);
    for (int i = 0; i < 32; i++) y[i] = (float)(int8_t)b[2 + i] * d;
}

/* scales[16], qs[64], d, dmin */
static void q2_k(float *y, const unsigned char *b)
{
    const unsigned char *q = b + 16;
    const float d = half(b + 80), min = half(b + 82);
    int s = 0;
    for (int n = 0; n < 256; n += 128, q += 32)
        for (int shift = 0; shift < 8; shift += 2)
            for (int part = 0; part < 2; part++, s++)
                for (int l = 0; l < 16; l++) *y++ = d * (float)(b[s] & 15) * (float)(q[part * 16 + l] >> shift & 3) - min * (float)(b[s] >> 4);
}

/* hmask[32], qs[64], scales[12] of 6 bits, d */
static void q3_k(float *y, const unsigned char *b)
{
    const unsigned char *hm = b, *q = b + 32, *sc = b + 96;
    const float d = half(b + 108);
    int scale[16];
    for (int i = 0; i < 16; i++) {
        const int low = i < 8 ? sc[i] & 15 : sc[i - 8] >> 4, high = sc[8 + i % 4] >> (2 * (i / 4)) & 3;
        scale[i] = (low | high << 4) - 32;
    }
    int s = 0, bit = 0;
    for (int n = 0; n < 256; n += 128, q += 32)
        for (int shift = 0; shift < 8; shift += 2, bit++)
            for (int part = 0; part < 2; part++, s++)
                for (int l = 0; l < 16; l++) {
                    const int at = part * 16 + l, v = (q[at] >> shift & 3) - (hm[at] >> bit & 1 ? 0 : 4);
                    *y++ = d * (float)scale[s] * (float)v;
                }
}

/* The j-th of eight 6-bit scales and minima in 12 bytes. */
static void scale_min(int j, const unsigned char *q, int *d, int *m)
{
    if (j < 4) {
        *d = q[j] & 63;
        *m = q[j + 4] & 63;
    } else {
        *d = (q[j + 4] & 15) | (q[j - 4] >> 6) << 4;
        *m = q[j + 4] >> 4 | (q[j] >> 6) << 4;
    }
}

/* d, dmin, scales[12], (qh[32]), qs[128] */
static void q4_or_5_k(float *y, const unsigned char *b, bool five)
{
    const float d = half(b), min = half(b + 2);
    const unsigned char *high = b + 16, *q = b + (five ? 48 : 16);
    for (int j = 0; j < 8; j++) {
        int sc, m;
        scale_min(j, b + 4, &sc, &m);
        const unsigned char *p = q + (j / 2) * 32;
        for (int l = 0; l < 32; l++) {
            int v = j % 2 ? p[l] >> 4 : p[l] & 15;
            if (five) v += high[l] >> j & 1 ? 16 : 0;
            *y++ = d * (float)sc * (float)v - min * (float)m;
        }
    }
}
static void q4_k(float *y, const unsigned char *b) { q4_or_5_k(y, b, false); }
static void q5_k(float *y, const unsigned char *b) { q4_or_5_k(y, b, true); }

/* ql[128], qh[64], scales[16], d */
static void q6_k(float *y, const unsigned char *b)
{
    const unsigned char *ql = b, *qh = b + 128;
    const int8_t *sc = (const int8_t *)b + 192;
    const float d = half(b + 208);
    for (int n = 0; n < 2; n++, y += 128, ql += 64, qh += 32, sc += 8)
        for (int l = 0; l < 32; l++)
            for (int k = 0; k < 4; k++) {
                const int low = k < 2 ? ql[l + 32 * k] & 15 : ql[l + 32 * (k - 2)] >> 4, v = (low | (qh[l] >> (2 * k) & 3) << 4) - 32;
                y[l + 32 * k] = d * (float)sc[l / 16 + 2 * k] * (float)v;
            }
}

/* d in f32, qs[256], sums of 16 (of use to products only) */
static void q8_k(float *y, const unsigned char *b)
{
    float d;
    memcpy(&d, b, 4);
    for (int i = 0; i < 256; i++) y[i] = d * (float)(int8_t)b[4 + i];
}

static const struct format formats[] = {
    {GGML_F32, 1, 4, f32_block},  {GGML_F16, 1, 2, f16_block},  {GGML_BF16, 1, 2, bf16_block}, {GGML_Q4_0, 32, 18, q4_0},    {GGML_Q4_1, 32, 20, q4_1},
    {GGML_Q5_0, 32, 22, q5_0},    {GGML_Q5_1, 32, 24, q5_1},    {GGML_Q8_0, 32, 34, q8_0},     {GGML_Q2_K, 256, 84, q2_k},   {GGML_Q3_K, 256, 110, q3_k},
    {GGML_Q4_K, 256, 144, q4_k},  {GGML_Q5_K, 256, 176, q5_k},  {GGML_Q6_K, 256, 210, q6_k},   {GGML_Q8_K, 256, 292, q8_k},
};

static const struct format *find(uint32_t type)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].type == type) return &formats[i];
    return NULL;
}

bool ggml_block(uint32_t type, int *values, int *bytes)
{
    const struct format *f = find(type);
    if (!f) return false;
    *values = f->values;
    *bytes = f->bytes;
    return true;
}

const char *ggml_type_name(uint32_t type)
{
    static const char *const name[] = {
        "F32",     "F16",    "Q4_0",  "Q4_1",    NULL,    NULL,     "Q5_0",   "Q5_1",  "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
        "Q6_K",    "Q8_K",   "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64",
        "F64",     "IQ1_M",  "BF16",  NULL,      NULL,    NULL,     "TQ1_0",  "TQ2_0", NULL,   NULL,   NULL,   "MXFP4",
    };
    return type < sizeof name / sizeof *name && name[type] ? name[type] : "unknown";
}

void ggml_dequantise(float *out, const unsigned char *src, uint32_t type, int64_t n)
{
    const struct format *f = find(type);
    BUG_ON(!f || n % f->values, "%lld values of ggml type %u", (long long)n, type);
    for (int64_t i = 0; i < n; i += f->values, src += f->bytes) f->block(out + i, src);
}

void ggml_quantise_q8_0(unsigned char *out, const float *x, int64_t n)
{
    BUG_ON(n % 32, "%lld values in blocks of 32", (long long)n);
    for (int64_t i = 0; i < n; i += 32, x += 32, out += 34) {
        float largest = 0;
        for (int k = 0; k < 32; k++) largest = fmaxf(largest, fabsf(x[k]));
        const float d = largest / 127, inverse = d > 0 ? 1 / d : 0;
        const uint16_t scale = f32_to_f16(d);
        out[0] = (unsigned char)scale;
        out[1] = (unsigned char)(scale >> 8);
        for (int k = 0; k < 32; k++) out[2 + k] = (unsigned char)(int8_t)roundf(x[k] * inverse);
    }
}
