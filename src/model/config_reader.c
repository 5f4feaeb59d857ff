#include "model/config_reader.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void config_refuse(struct reader *r, const char *fmt, ...)
{
    char what[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (!r->rc) r->rc = err_set(r->err, SAIL_FAILED, "%s: %s", r->path, what);
}

json_t *config_key(const struct reader *r, const char *name)
{
    json_t *v = json_object_get(r->j, name);
    return json_is_null(v) ? NULL : v;
}

/* What stands there, for messages: the value as JSON, long ones cut. */
static const char *got(json_t *v, char out[48])
{
    char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    snprintf(out, 48, "%.40s%s", text ? text : "nothing", text && strlen(text) > 40 ? "..." : "");
    free(text);
    return out;
}

int64_t config_integer(struct reader *r, const char *name, int64_t fallback, int64_t low, int64_t high)
{
    json_t *v = config_key(r, name);
    if (r->rc) return fallback;
    if (!v && fallback >= low) return fallback;
    const double x = v ? json_number_value(v) : NAN;
    if (!json_is_number(v) || x < (double)low || x > (double)high || x != floor(x)) {
        char is[48];
        config_refuse(r, "\"%s\": expected a whole number from %lld to %lld, got %s", name, (long long)low, (long long)high, got(v, is));
        return low;
    }
    return (int64_t)x;
}

double config_number(struct reader *r, json_t *object, const char *name, double fallback)
{
    json_t *v = object ? json_object_get(object, name) : NULL;
    if (r->rc || !v || json_is_null(v)) return fallback;
    char is[48];
    if (!json_is_number(v) || !isfinite(json_number_value(v))) config_refuse(r, "\"%s\": expected a number, got %s", name, got(v, is));
    return json_number_value(v);
}

double config_positive(struct reader *r, json_t *object, const char *name, double fallback)
{
    const double x = config_number(r, object, name, fallback);
    if (!(x > 0)) config_refuse(r, "\"%s\": expected a positive number, got %g", name, x);
    return x;
}

bool config_flag(struct reader *r, const char *name, bool fallback)
{
    json_t *v = config_key(r, name);
    char is[48];
    if (v && !json_is_boolean(v)) config_refuse(r, "\"%s\": expected true or false, got %s", name, got(v, is));
    return v ? json_is_true(v) : fallback;
}
