/* Rotary tables: angle of position p and pair j is p * frequency_j, in double, kept as f32 cosine and sine. */
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "model/internal.h"

static double llama3_frequency(const struct rope_config *r, double f)
{
    const double wavelength = 2 * M_PI / f, original = (double)r->original_max_position;
    if (wavelength < original / r->high_freq_factor) return f;
    if (wavelength > original / r->low_freq_factor) return f / r->factor;
    const double s = (original / wavelength - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
    return (1 - s) * f / r->factor + s * f;
}

/* YaRN (arXiv 2309.00071): slow dimensions are interpolated, fast ones kept, a ramp between. */
static double yarn_frequency(const struct rope_config *r, double f, int64_t j)
{
    const double d = (double)r->rot, original = (double)r->original_max_position;
    double low = d * log(original / (r->beta_fast * 2 * M_PI)) / (2 * log(r->theta));
    double high = d * log(original / (r->beta_slow * 2 * M_PI)) / (2 * log(r->theta));
    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, d - 1);
    if (low == high) high += 0.001;
    const double ramp = fmin(fmax(((double)j - low) / (high - low), 0), 1);
    return f / r->factor * ramp + f * (1 - ramp);
}

static double frequency(const struct rope_config *r, int64_t j)
{
    const double f = pow(r->theta, -2.0 * (double)j / (double)r->rot);
    switch (r->kind) {
    case ROPE_DEFAULT: return f;
    case ROPE_LINEAR: return f / r->factor;
    case ROPE_LLAMA3: return llama3_frequency(r, f);
    case ROPE_YARN: return yarn_frequency(r, f, j);
    }
    return f;
}

int rope_ensure(struct model *m, int64_t n_pos, sail_err *err)
{
    if (n_pos <= m->rope.n) return SAIL_OK;
    const struct rope_config *r = &m->config.rope;
    const int64_t half = r->rot / 2, most = m->config.max_position;
    int64_t n = n_pos * 2 > 1024 ? n_pos * 2 : 1024; // grows seldom
    if (n > most) n = n_pos > most ? n_pos : most;
    float *cosine, *sine = NULL;
    int rc = mem_alloc(&cosine, (size_t)(n * half), sizeof *cosine, err);
    if (!rc) rc = mem_alloc(&sine, (size_t)(n * half), sizeof *sine, err);
    if (rc) {
        free(cosine);
        return rc;
    }
    const double scale = r->kind == ROPE_YARN ? r->attention_factor : 1;
    for (int64_t j = 0; j < half; j++) {
        const double f = frequency(r, j);
        for (int64_t p = 0; p < n; p++) {
            cosine[p * half + j] = (float)(cos((double)p * f) * scale);
            sine[p * half + j] = (float)(sin((double)p * f) * scale);
        }
    }
    rope_free(m);
    m->rope = (struct rope_table){n, cosine, sine};
    return SAIL_OK;
}

void rope_free(struct model *m)
{
    free(m->rope.cosine);
    free(m->rope.sine);
    m->rope = (struct rope_table){0};
}
