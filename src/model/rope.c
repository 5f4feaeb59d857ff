/* Rotary tables: angle of position p and pair j is p * frequency_j, in double, kept as f32 cosine and sine. Where frequencies depend on a sequence's
 * own length (dynamic), a pass over long ones has a table of its own, a row for each packed row. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

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
    const double d = (double)r->dim, original = (double)r->original_max_position;
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

/* Dynamic NTK scaling: past the original length theta grows with the sequence. */
static double dynamic_theta(const struct rope_config *r, int64_t length)
{
    const double d = (double)r->dim, original = (double)r->original_max_position;
    if (length <= r->original_max_position) return r->theta;
    return r->theta * pow(r->factor * (double)length / original - (r->factor - 1), d / (d - 2));
}

/* Of pair j in a sequence of `length` tokens. */
static double frequency(const struct rope_config *r, int64_t j, int64_t length)
{
    const double theta = r->kind == ROPE_DYNAMIC ? dynamic_theta(r, length) : r->theta, f = pow(theta, -2.0 * (double)j / (double)r->dim);
    switch (r->kind) {
    case ROPE_DEFAULT:
    case ROPE_DYNAMIC: return f;
    case ROPE_LINEAR: return f / r->factor;
    case ROPE_LLAMA3: return llama3_frequency(r, f);
    case ROPE_YARN: return yarn_frequency(r, f, j);
    case ROPE_LONG: return f / r->extension[(length > r->original_max_position ? r->rot / 2 : 0) + j];
    }
    return f;
}

static void fill(const struct rope_config *r, int64_t first, int64_t n, int64_t length, float *cosine, float *sine)
{
    const int64_t half = r->rot / 2;
    for (int64_t j = 0; j < half; j++) {
        const double f = frequency(r, j, length);
        for (int64_t p = 0; p < n; p++) {
            cosine[p * half + j] = (float)(cos((double)(first + p) * f) * r->attention_factor);
            sine[p * half + j] = (float)(sin((double)(first + p) * f) * r->attention_factor);
        }
    }
}

static int make_table(const struct rope_config *r, int64_t n, int regimes, struct rope_table *out, sail_err *err)
{
    const size_t size = (size_t)(n * regimes * (r->rot / 2));
    *out = (struct rope_table){0};
    int rc = mem_alloc(&out->cosine, size, sizeof *out->cosine, err);
    if (!rc) rc = mem_alloc(&out->sine, size, sizeof *out->sine, err);
    for (int k = 0; !rc && k < regimes; k++) fill(r, 0, n, k ? INT64_MAX : 0, out->cosine + n * k * (r->rot / 2), out->sine + n * k * (r->rot / 2));
    return rc;
}

static void free_tables(struct rope_table *t)
{
    for (int i = 0; i < ROPE_MAX_TABLES; i++) {
        free(t[i].cosine);
        free(t[i].sine);
        t[i] = (struct rope_table){0};
    }
}

int rope_ensure(struct model *m, int64_t n_pos, sail_err *err)
{
    if (n_pos <= m->rope_n || !m->config.rope[0].rot) return SAIL_OK;
    const int64_t most = m->config.context;
    int64_t n = n_pos * 2 > 1024 ? n_pos * 2 : 1024; // grows seldom
    if (n > most) n = n_pos > most ? n_pos : most;
    struct rope_table made[ROPE_MAX_TABLES] = {0};
    int rc = SAIL_OK;
    for (int i = 0; !rc && i < ROPE_MAX_TABLES; i++)
        if (m->config.rope[i].rot) rc = make_table(&m->config.rope[i], n, m->config.rope_switch && !m->config.rope_dynamic ? 2 : 1, &made[i], err);
    if (rc) {
        free_tables(made);
        return rc;
    }
    free_tables(m->rope);
    memcpy(m->rope, made, sizeof made);
    m->rope_n = n;
    return SAIL_OK;
}

void rope_free(struct model *m)
{
    free_tables(m->rope);
    m->rope_n = 0;
}

static bool by_length(const struct model *m, int64_t longest) { return m->config.rope_dynamic && longest > m->config.rope_switch; }

static size_t place_turns(struct turns *t, const struct model *m, struct arena *arena, int64_t rows, int64_t longest)
{
    size_t bytes = arena_place(arena, &t->row, (size_t)rows * sizeof *t->row);
    for (int i = 0; i < ROPE_MAX_TABLES && by_length(m, longest); i++) {
        const size_t size = (size_t)(rows * (m->config.rope[i].rot / 2)) * sizeof(float);
        bytes += arena_place(arena, &t->table[i].cosine, size);
        bytes += arena_place(arena, &t->table[i].sine, size);
    }
    return bytes;
}

size_t turns_bytes(const struct model *m, int64_t rows, int64_t longest)
{
    struct turns unused;
    return place_turns(&unused, m, NULL, rows, longest);
}

void turns_take(struct turns *t, const struct model *m, struct arena *arena, int64_t rows, int64_t longest)
{
    *t = (struct turns){.own = by_length(m, longest)};
    if (!t->own) memcpy(t->table, m->rope, sizeof t->table);
    place_turns(t, m, arena, rows, longest);
}

void turns_put(struct turns *t, const struct model *m, int64_t at, int64_t first, int64_t n, int64_t length)
{
    const struct model_config *c = &m->config;
    const bool later = c->rope_switch && !c->rope_dynamic && length > c->rope_switch;
    for (int64_t i = 0; i < n; i++) t->row[at + i] = (int32_t)(t->own ? at + i : first + i + (later ? m->rope_n : 0));
    for (int i = 0; t->own && i < ROPE_MAX_TABLES; i++) {
        const int64_t half = c->rope[i].rot / 2;
        if (half) fill(&c->rope[i], first, n, length, t->table[i].cosine + at * half, t->table[i].sine + at * half);
    }
}
