/* Learning rates over a run, by transformers' definitions. */
#include "optim/schedule.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

int schedule_find(enum schedule_kind *out, const char *name, sail_err *err)
{
    static const char *const names[] = {"constant", "linear", "cosine", "inverse-sqrt"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i])) return *out = (enum schedule_kind)i, SAIL_OK;
    return err_set(err, SAIL_USAGE, "--schedule: expected linear, cosine, constant or inverse-sqrt, got '%s'", name);
}

double schedule_factor(const struct schedule *s, int64_t step, int64_t total)
{
    const double w = (double)s->warmup, t = (double)step;
    if (step < s->warmup) return t / w;
    if (s->kind == SCHEDULE_CONSTANT) return 1;
    if (s->kind == SCHEDULE_INVERSE_SQRT) {
        const double timescale = s->timescale ? (double)s->timescale : s->warmup ? w : 10000;
        return 1 / sqrt((t + timescale - w) / timescale);
    }
    const double progress = (t - w) / fmax(1, (double)(total - s->warmup));
    if (s->kind == SCHEDULE_LINEAR) return fmax(0, 1 - progress);
    const double wave = 0.5 * (1 + cos(3.14159265358979323846 * 2 * s->cycles * progress));
    return fmax(0, wave * (1 - s->min_rate) + s->min_rate);
}
