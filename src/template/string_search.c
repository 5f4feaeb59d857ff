/* Methods of str that look for a part of it. */
#define _GNU_SOURCE
#include <string.h>

#include "template/string_methods.h"
#include "template/unicode.h"

/* The part [start, end) that the optional arguments of find() and the like select; false when it lies outside. */
static bool window(struct jinja *j, const struct string *s, const struct value *a, int64_t *start, int64_t *end)
{
    *start = optional_int(j, a[1], 0);
    *end = optional_int(j, a[2], s->n);
    if (*end > s->n) *end = s->n;
    if (*end < 0) *end = *end + s->n < 0 ? 0 : *end + s->n;
    if (*start < 0) *start = *start + s->n < 0 ? 0 : *start + s->n;
    return *start <= *end;
}

const char *string_find_last(const struct string *s, const struct string *what)
{
    for (size_t at = s->len - what->len + 1; what->len <= s->len && at-- > 0;)
        if (!memcmp(s->s + at, what->s, what->len)) return s->s + at;
    return NULL;
}

static int64_t find(struct jinja *j, const struct string *s, const struct value *a, bool last)
{
    int64_t start, end;
    const struct string *what = require_string(j, a[0], "argument");
    if (!window(j, s, a, &start, &end)) return -1;
    jinja_charge(j, (int64_t)(s->len / 16));
    const struct string *part = string_slice(j, s, start, end);
    const char *hit = last ? string_find_last(part, what) : memmem(part->s, part->len, what->s, what->len);
    return hit ? start + utf8_count(part->s, (size_t)(hit - part->s)) : -1;
}

static struct value found(struct jinja *j, int64_t at, bool must)
{
    if (must && at < 0) jinja_fail(j, "substring not found");
    return value_int(at);
}
METHOD(str_find) { UNUSED(c); return found(j, find(j, self.string, a, false), false); }
METHOD(str_rfind) { UNUSED(c); return found(j, find(j, self.string, a, true), false); }
METHOD(str_index) { UNUSED(c); return found(j, find(j, self.string, a, false), true); }
METHOD(str_rindex) { UNUSED(c); return found(j, find(j, self.string, a, true), true); }

METHOD(str_count)
{
    UNUSED(c);
    int64_t start, end, n = 0;
    const struct string *what = require_string(j, a[0], "argument");
    if (!window(j, self.string, a, &start, &end)) return value_int(0);
    const struct string *part = string_slice(j, self.string, start, end);
    if (!what->len) return value_int(part->n + 1);
    jinja_charge(j, (int64_t)(part->len / 16));
    for (const char *at = part->s, *stop = part->s + part->len; (at = memmem(at, (size_t)(stop - at), what->s, what->len)); at += what->len) n++;
    return value_int(n);
}

static bool has_affix(const struct string *s, const struct string *affix, bool at_end)
{
    return affix->len <= s->len && !memcmp(at_end ? s->s + s->len - affix->len : s->s, affix->s, affix->len);
}

static struct value affix(struct jinja *j, const struct string *s, const struct value *a, bool at_end)
{
    int64_t start, end;
    const char *name = at_end ? "endswith" : "startswith";
    if (a[0].type != VALUE_STRING && a[0].type != VALUE_TUPLE) jinja_fail(j, "%s first arg must be str or a tuple of str, not %s", name, value_type_name(a[0]));
    if (!window(j, s, a, &start, &end)) return value_bool(false);
    const struct string *part = start || end != s->n ? string_slice(j, s, start, end) : s;
    if (a[0].type == VALUE_STRING) return value_bool(has_affix(part, a[0].string, at_end));
    for (int64_t i = 0; i < a[0].list->n; i++)
        if (has_affix(part, require_string(j, a[0].list->item[i], "tuple for startswith"), at_end)) return value_bool(true);
    return value_bool(false);
}
METHOD(str_startswith) { UNUSED(c); return affix(j, self.string, a, false); }
METHOD(str_endswith) { UNUSED(c); return affix(j, self.string, a, true); }

METHOD(str_removeprefix)
{
    UNUSED(c);
    const struct string *s = self.string, *prefix = require_string(j, a[0], "removeprefix() argument");
    return has_affix(s, prefix, false) ? value_string(string_slice(j, s, prefix->n, s->n)) : self;
}
METHOD(str_removesuffix)
{
    UNUSED(c);
    const struct string *s = self.string, *suffix = require_string(j, a[0], "removesuffix() argument");
    return suffix->len && has_affix(s, suffix, true) ? value_string(string_slice(j, s, 0, s->n - suffix->n)) : self;
}
