/* Methods of str that write it another way, and the table of all. */
#include <string.h>

#include "template/string_methods.h"
#include "template/unicode.h"

static METHOD(str_upper) { UNUSED(a), UNUSED(c); return value_string(string_case(j, self.string, true)); }
static METHOD(str_lower) { UNUSED(a), UNUSED(c); return value_string(string_case(j, self.string, false)); }
static METHOD(str_capitalize) { UNUSED(a), UNUSED(c); return value_string(string_capitalize(j, self.string)); }
static METHOD(str_strip) { UNUSED(c); return value_string(string_strip(j, self.string, a[0], true, true)); }
static METHOD(str_lstrip) { UNUSED(c); return value_string(string_strip(j, self.string, a[0], true, false)); }
static METHOD(str_rstrip) { UNUSED(c); return value_string(string_strip(j, self.string, a[0], false, true)); }
static METHOD(str_format) { UNUSED(a); return value_string(format_braces(j, self.string, c)); }

static METHOD(str_format_map)
{
    UNUSED(c);
    if (a[0].type != VALUE_DICT) jinja_fail(j, "format_map() needs a mapping");
    struct call named = {.keyword = jinja_take(j, (size_t)a[0].dict->n, sizeof *named.keyword)};
    for (int64_t i = 0; i < a[0].dict->n; i++)
        if (a[0].dict->entry[i].key.type == VALUE_STRING) named.keyword[named.n_keyword++] = (struct keyword){a[0].dict->entry[i].key.string, a[0].dict->entry[i].value};
    return value_string(format_braces(j, self.string, &named));
}

static METHOD(str_casefold)
{
    UNUSED(a), UNUSED(c);
    struct text t = text_start(j);
    for (size_t at = 0; at < self.string->len;) {
        uint32_t point, out[3];
        at += utf8_decode(self.string->s + at, self.string->len - at, &point);
        const int n = unicode_map(out, point, CASE_FOLD);
        for (int i = 0; i < n; i++) text_codepoint(&t, out[i]);
    }
    return text_value(&t);
}

/* title() and swapcase(). */
static struct value recase(struct jinja *j, const struct string *s, bool title)
{
    struct text t = text_start(j);
    bool inside = false;
    for (size_t at = 0; at < s->len;) {
        uint32_t c;
        utf8_decode(s->s + at, s->len - at, &c);
        at += string_map_at(&t, s, at, title ? (inside ? CASE_LOWER : CASE_TITLE) : unicode_is_upper(c) ? CASE_LOWER : CASE_UPPER);
        inside = unicode_is_cased(c);
    }
    return value_string(string_markup(j, text_value(&t).string, s->markup));
}
static METHOD(str_title) { UNUSED(a), UNUSED(c); return recase(j, self.string, true); }
static METHOD(str_swapcase) { UNUSED(a), UNUSED(c); return recase(j, self.string, false); }

static METHOD(str_replace)
{
    UNUSED(c);
    const struct string *old = require_string(j, a[0], "replace() argument 1"), *by = require_string(j, a[1], "replace() argument 2");
    if (self.string->markup) by = escape_string(j, by);
    return value_string(string_replace(j, self.string, old, by, a[2].type == VALUE_ABSENT ? -1 : require_int(j, a[2])));
}

// ------------------------------------------------------------------------------------------------ padding

static struct value pad(struct jinja *j, const struct string *s, const struct value *a, int side)
{
    const int64_t width = require_int(j, a[0]), missing = width > s->n ? width - s->n : 0;
    const struct string *fill = a[1].type == VALUE_ABSENT ? string_borrow(j, " ", 1) : require_string(j, a[1], "the fill character");
    if (fill->n != 1) jinja_fail(j, "The fill character must be exactly one character long");
    const int64_t left = side < 0 ? missing : side > 0 ? 0 : missing / 2 + (missing & width & 1); // as CPython centres
    if (missing > (int64_t)(JINJA_MAX_MEMORY / 8)) jinja_fail(j, "the template needs too much memory");
    struct text t = text_start(j);
    text_fill(&t, fill->s, fill->len, left);
    text_append(&t, s->s, s->len);
    text_fill(&t, fill->s, fill->len, missing - left);
    return value_string(string_markup(j, text_value(&t).string, s->markup));
}
static METHOD(str_rjust) { UNUSED(c); return pad(j, self.string, a, -1); }
static METHOD(str_ljust) { UNUSED(c); return pad(j, self.string, a, 1); }
static METHOD(str_center) { UNUSED(c); return pad(j, self.string, a, 0); }

static METHOD(str_zfill)
{
    UNUSED(c);
    const struct string *s = self.string;
    const int64_t width = require_int(j, a[0]), missing = width > s->n ? width - s->n : 0;
    if (missing > (int64_t)(JINJA_MAX_MEMORY / 8)) jinja_fail(j, "the template needs too much memory");
    const size_t sign = s->len && (s->s[0] == '+' || s->s[0] == '-');
    struct text t = text_start(j);
    text_append(&t, s->s, sign);
    text_fill(&t, "0", 1, missing);
    text_append(&t, s->s + sign, s->len - sign);
    return value_string(string_markup(j, text_value(&t).string, s->markup));
}

static METHOD(str_expandtabs)
{
    UNUSED(c);
    const int64_t size = a[0].type == VALUE_ABSENT ? 8 : require_int(j, a[0]);
    if (size > 4096) jinja_fail(j, "a tab size is too large");
    struct text t = text_start(j);
    int64_t column = 0;
    for (size_t at = 0; at < self.string->len;) {
        uint32_t point;
        const size_t n = utf8_decode(self.string->s + at, self.string->len - at, &point);
        if (point == '\t') {
            const int64_t blanks = size > 0 ? size - column % size : 0;
            text_fill(&t, " ", 1, blanks);
            column += blanks;
        } else {
            text_append(&t, self.string->s + at, n);
            column = point == '\n' || point == '\r' ? 0 : column + 1;
        }
        at += n;
    }
    return value_string(string_markup(j, text_value(&t).string, self.string->markup));
}

const struct builtin string_methods[] = {
    {"capitalize", "", str_capitalize},
    {"casefold", "", str_casefold},
    {"center", "width,fillchar?,/", str_center},
    {"count", "sub,start?,end?,/", str_count},
    {"endswith", "suffix,start?,end?,/", str_endswith},
    {"expandtabs", "tabsize?", str_expandtabs},
    {"find", "sub,start?,end?,/", str_find},
    {"format", NULL, str_format},
    {"format_map", "mapping,/", str_format_map},
    {"index", "sub,start?,end?,/", str_index},
    {"isalnum", "", str_isalnum},
    {"isalpha", "", str_isalpha},
    {"isascii", "", str_isascii},
    {"isdecimal", "", str_isdecimal},
    {"isdigit", "", str_isdigit},
    {"isidentifier", "", str_isidentifier},
    {"islower", "", str_islower},
    {"isnumeric", "", str_isnumeric},
    {"isprintable", "", str_isprintable},
    {"isspace", "", str_isspace},
    {"istitle", "", str_istitle},
    {"isupper", "", str_isupper},
    {"join", "iterable,/", str_join},
    {"ljust", "width,fillchar?,/", str_ljust},
    {"lower", "", str_lower},
    {"lstrip", "chars?,/", str_lstrip},
    {"partition", "sep,/", str_partition},
    {"removeprefix", "prefix,/", str_removeprefix},
    {"removesuffix", "suffix,/", str_removesuffix},
    {"replace", "old,new,count?,/", str_replace},
    {"rfind", "sub,start?,end?,/", str_rfind},
    {"rindex", "sub,start?,end?,/", str_rindex},
    {"rjust", "width,fillchar?,/", str_rjust},
    {"rpartition", "sep,/", str_rpartition},
    {"rsplit", "sep?,maxsplit?", str_rsplit},
    {"rstrip", "chars?,/", str_rstrip},
    {"split", "sep?,maxsplit?", str_split},
    {"splitlines", "keepends?", str_splitlines},
    {"startswith", "prefix,start?,end?,/", str_startswith},
    {"strip", "chars?,/", str_strip},
    {"swapcase", "", str_swapcase},
    {"title", "", str_title},
    {"upper", "", str_upper},
    {"zfill", "width,/", str_zfill},
    {0},
};
