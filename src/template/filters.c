/* Filters on text, numbers and single values; those on sequences are in filters_sequence.c. */
#define _GNU_SOURCE
#include "template/filters.h"

#include <math.h>
#include <string.h>

#include "template/unicode.h"

static FILTER(filter_upper) { UNUSED(a), UNUSED(c); return value_string(string_case(j, soft_string(j, self), true)); }
static FILTER(filter_lower) { UNUSED(a), UNUSED(c); return value_string(string_case(j, soft_string(j, self), false)); }
static FILTER(filter_capitalize) { UNUSED(a), UNUSED(c); return value_string(string_capitalize(j, soft_string(j, self))); }
static FILTER(filter_trim) { UNUSED(c); return value_string(string_strip(j, soft_string(j, self), a[0], true, true)); }
static FILTER(filter_string) { UNUSED(a), UNUSED(c); return value_string(soft_string(j, self)); }
static FILTER(filter_safe) { UNUSED(a), UNUSED(c); return value_string(string_markup(j, value_str(j, self), true)); }
static FILTER(filter_escape) { UNUSED(a), UNUSED(c); return value_string(escape_string(j, soft_string(j, self))); }
static FILTER(filter_forceescape) { UNUSED(a), UNUSED(c); return value_string(escape_string(j, value_str(j, self))); }

static FILTER(filter_default)
{
    UNUSED(j), UNUSED(c);
    const bool use = self.type == VALUE_UNDEFINED || (value_truth(a[1]) && !value_truth(self));
    return !use ? self : a[0].type == VALUE_ABSENT ? value_text(j, "") : a[0];
}

static FILTER(filter_replace)
{
    UNUSED(c);
    const int64_t count = optional_int(j, a[2], -1);
    return value_string(string_replace(j, value_str(j, self), value_str(j, a[0]), value_str(j, a[1]), count));
}

static bool starts_word(uint32_t c) { return c == '-' || unicode_is_space(c) || c == '(' || c == '{' || c == '[' || c == '<'; }

static FILTER(filter_title)
{
    UNUSED(a), UNUSED(c);
    const struct string *s = soft_string(j, self);
    struct text t = text_start(j);
    for (size_t at = 0; at < s->len;) {
        uint32_t point;
        size_t end = at;
        bool separators = false;
        for (size_t n; end < s->len; end += n) { // a run of separators, or a word
            n = utf8_decode(s->s + end, s->len - end, &point);
            if (end == at) separators = starts_word(point);
            if (starts_word(point) != separators) break;
        }
        const size_t first = utf8_decode(s->s + at, end - at, &point);
        value_write(&t, value_string(string_case(j, string_borrow(j, s->s + at, first), true)));
        value_write(&t, value_string(string_case(j, string_borrow(j, s->s + at + first, end - at - first), false)));
        at = end;
    }
    return text_value(&t);
}

static FILTER(filter_indent)
{
    UNUSED(c);
    if (self.type == VALUE_UNDEFINED) undefined_fail(j, self);
    const struct string *s = require_string(j, self, "indent's value");
    const int64_t width = a[0].type == VALUE_STRING ? 1 : optional_int(j, a[0], 4);
    const struct string *by = a[0].type == VALUE_STRING ? a[0].string : string_borrow(j, " ", 1);
    if (width > 1 << 16) jinja_fail(j, "an indentation is too wide");
    struct text with_end = text_start(j), t = text_start(j);
    text_append(&with_end, s->s, s->len);
    text_putc(&with_end, '\n'); // so that a last empty line counts
    const struct list *lines = string_lines(j, text_value(&with_end).string, false);
    const bool first = value_truth(a[1]), blank = value_truth(a[2]);
    for (int64_t i = 0; i < lines->n; i++) {
        if (i) text_putc(&t, '\n');
        if (i ? blank || lines->item[i].string->len : first) text_fill(&t, by->s, by->len, width);
        value_write(&t, lines->item[i]);
    }
    return value_string(string_markup(j, text_value(&t).string, s->markup));
}

static FILTER(filter_wordcount)
{
    UNUSED(a), UNUSED(c);
    const struct string *s = soft_string(j, self);
    int64_t n = 0;
    bool inside = false;
    for (size_t at = 0; at < s->len;) {
        uint32_t point;
        at += utf8_decode(s->s + at, s->len - at, &point);
        n += unicode_is_word(point) && !inside;
        inside = unicode_is_word(point);
    }
    return value_int(n);
}

static FILTER(filter_center)
{
    UNUSED(c);
    const struct string name = {.s = "center", .len = 6, .n = 6};
    struct value width = a[0].type == VALUE_ABSENT ? value_int(80) : a[0];
    const struct call call = {.positional = &width, .n_positional = 1};
    return builtin_call(j, builtin_find(string_methods, &name), value_string(soft_string(j, self)), &call);
}

static FILTER(filter_truncate)
{
    UNUSED(c);
    int64_t n;
    if (!value_length(self, &n)) jinja_fail(j, "object of type '%s' has no len()", value_type_name(self));
    const struct string *end = a[2].type == VALUE_ABSENT ? string_borrow(j, "...", 3) : require_string(j, a[2], "end");
    const int64_t length = optional_int(j, a[0], 255), leeway = optional_int(j, a[3], 5);
    if (length < end->n) jinja_fail(j, "expected length >= %lld, got %lld", (long long)end->n, (long long)length);
    if (leeway < 0) jinja_fail(j, "expected leeway >= 0, got %lld", (long long)leeway);
    if (n <= length + leeway) return self;
    const struct string *s = require_string(j, self, "truncate's value");
    const struct string *head = string_slice(j, s, 0, length - end->n);
    const char *space = memrchr(head->s, ' ', head->len);
    struct text t = text_start(j);
    text_append(&t, head->s, value_truth(a[1]) || !space ? head->len : (size_t)(space - head->s));
    text_append(&t, end->s, end->len);
    return text_value(&t);
}

static FILTER(filter_format)
{
    UNUSED(a);
    if (c->n_positional && c->n_keyword) jinja_fail(j, "can't handle positional and keyword arguments at the same time");
    struct list *l = list_create(j, c->n_positional);
    for (int64_t i = 0; i < c->n_positional; i++) list_push(j, l, c->positional[i]);
    return value_string(format_percent(j, soft_string(j, self), c->n_keyword ? value_dict(dict_from_call(j, c, "format")) : value_tuple(l)));
}

static FILTER(filter_urlencode)
{
    UNUSED(a), UNUSED(c);
    struct text t = text_start(j);
    const bool pairs = self.type != VALUE_STRING && value_is_iterable(self);
    struct list *items = list_create(j, 0);
    if (pairs && self.type == VALUE_DICT)
        for (int64_t i = 0; i < self.dict->n; i++) list_push(j, items, tuple_pair(j, self.dict->entry[i].key, self.dict->entry[i].value));
    else if (pairs)
        items = value_collect(j, self);
    else
        list_push(j, items, self);
    for (int64_t i = 0; i < items->n; i++) {
        if (i) text_putc(&t, '&');
        if (pairs && (!value_is_sequence(items->item[i]) || items->item[i].list->n != 2)) jinja_fail(j, "urlencode needs pairs of key and value");
        for (int k = 0; k < 1 + pairs; k++) {
            const struct string *s = value_str(j, pairs ? items->item[i].list->item[k] : items->item[i]);
            if (k) text_putc(&t, '=');
            for (size_t at = 0; at < s->len; at++) {
                const unsigned char b = (unsigned char)s->s[at];
                if ((b >= '0' && b <= '9') || ((b | 32) >= 'a' && (b | 32) <= 'z') || (b && strchr("_.-~", b)) || (b == '/' && !pairs))
                    text_putc(&t, (char)b);
                else if (b == ' ' && pairs)
                    text_putc(&t, '+');
                else
                    text_printf(&t, "%%%02X", b);
            }
        }
    }
    return text_value(&t);
}

static FILTER(filter_striptags)
{
    UNUSED(a), UNUSED(c);
    const struct string *s = value_str(j, self);
    struct text plain = text_start(j), t = text_start(j);
    bool ends[2] = {true, true}; // whether a tag, a comment can end behind here
    for (size_t at = 0; at < s->len;) { // comments first, then tags
        const bool comment = s->len - at >= 4 && !memcmp(s->s + at, "<!--", 4);
        const char *end = NULL;
        if (s->s[at] == '<' && ends[comment]) {
            end = comment ? memmem(s->s + at + 4, s->len - at - 4, "-->", 3) : memchr(s->s + at, '>', s->len - at);
            ends[comment] = end != NULL;
        }
        if (end)
            at = (size_t)(end - s->s) + (comment ? 3 : 1);
        else
            text_putc(&plain, s->s[at++]);
    }
    static const char *const entity[][2] = {{"&lt;", "<"}, {"&gt;", ">"}, {"&#39;", "'"}, {"&#34;", "\""}, {"&quot;", "\""}, {"&amp;", "&"}};
    const struct string *words = string_borrow(j, plain.s ? plain.s : "", plain.len);
    for (size_t i = 0; i < sizeof entity / sizeof *entity; i++) words = string_replace(j, words, string_borrow(j, entity[i][0], strlen(entity[i][0])), string_borrow(j, entity[i][1], 1), -1);
    bool blank = true;
    for (size_t at = 0; at < words->len;) {
        uint32_t point;
        const size_t n = utf8_decode(words->s + at, words->len - at, &point);
        if (!unicode_is_space(point)) {
            if (blank && t.len) text_putc(&t, ' ');
            text_append(&t, words->s + at, n);
        }
        blank = unicode_is_space(point);
        at += n;
    }
    return text_value(&t);
}

static FILTER(filter_xmlattr)
{
    UNUSED(c);
    if (self.type != VALUE_DICT) jinja_fail(j, "xmlattr needs a mapping");
    struct text t = text_start(j);
    for (int64_t i = 0; i < self.dict->n; i++) {
        const struct entry *e = &self.dict->entry[i];
        if (e->value.type == VALUE_NONE || e->value.type == VALUE_UNDEFINED) continue;
        const struct string *key = require_string(j, e->key, "an attribute's name"), *text = escape_string(j, soft_string(j, e->value));
        for (size_t k = 0; k < key->len; k++)
            if (strchr(" \t\n\r\f\v/>=", key->s[k])) jinja_fail(j, "Invalid character in attribute name: '%.*s'", (int)key->len, key->s);
        if (t.len || a[0].type == VALUE_ABSENT || value_truth(a[0])) text_putc(&t, ' ');
        key = escape_string(j, key);
        text_append(&t, key->s, key->len);
        text_puts(&t, "=\"");
        text_append(&t, text->s, text->len);
        text_putc(&t, '"');
    }
    return text_value(&t);
}

// ------------------------------------------------------------------------------------------------ numbers

static FILTER(filter_abs)
{
    UNUSED(a), UNUSED(c);
    if (self.type == VALUE_FLOAT) return value_float(fabs(self.f));
    if (!value_is_integral(self)) jinja_fail(j, "bad operand type for abs(): '%s'", value_type_name(self));
    const int64_t i = value_integral(self);
    if (i == INT64_MIN) jinja_fail(j, "an integer does not fit 64 bits");
    return value_int(i < 0 ? -i : i);
}

static FILTER(filter_int)
{
    UNUSED(c);
    const struct value absent = a[0].type == VALUE_ABSENT ? value_int(0) : a[0];
    int64_t i;
    double f;
    if (self.type == VALUE_UNDEFINED) undefined_fail(j, self);
    if (value_is_integral(self)) return value_int(value_integral(self));
    if (self.type == VALUE_FLOAT) return isnan(self.f) ? absent : value_int(float_to_int(j, self.f));
    if (self.type != VALUE_STRING) return absent;
    if (parse_int(j, self.string, optional_int(j, a[1], 10), &i)) return value_int(i);
    return parse_float(self.string, &f) && isfinite(f) ? value_int(float_to_int(j, f)) : absent;
}

static FILTER(filter_float)
{
    UNUSED(c);
    double f;
    if (self.type == VALUE_UNDEFINED) undefined_fail(j, self);
    if (value_is_number(self)) return value_float(require_number(j, self));
    if (self.type == VALUE_STRING && parse_float(self.string, &f)) return value_float(f);
    return a[0].type == VALUE_ABSENT ? value_float(0) : a[0];
}

static struct value round_int(struct jinja *j, int64_t i, int64_t digits)
{
    if (digits >= 0) return value_int(i);
    if (digits < -18) return value_int(0);
    int64_t unit = 1;
    for (; digits < 0; digits++) unit *= 10;
    int64_t q = i / unit, rest = i % unit; // to the nearest, ties to even
    if (rest < 0) rest += unit, q--;
    if (rest > unit - rest || (rest == unit - rest && q % 2)) q++;
    int64_t v;
    if (__builtin_mul_overflow(q, unit, &v)) jinja_fail(j, "an integer does not fit 64 bits");
    return value_int(v);
}

static FILTER(filter_round)
{
    UNUSED(c);
    const int64_t digits = a[0].type == VALUE_ABSENT ? 0 : optional_int(j, a[0], 0);
    const struct string *method = a[1].type == VALUE_ABSENT ? string_borrow(j, "common", 6) : soft_string(j, a[1]);
    const bool ceiling = string_equals(method, "ceil"), floors = string_equals(method, "floor");
    if (!ceiling && !floors && !string_equals(method, "common")) jinja_fail(j, "method must be common, ceil or floor");
    if (!value_is_number(self)) jinja_fail(j, "type %s doesn't define __round__ method", value_type_name(self));
    if (!ceiling && !floors && value_is_integral(self)) return round_int(j, value_integral(self), digits);
    if (!ceiling && !floors) {
        if (a[0].type == VALUE_NONE) return value_int(float_to_int(j, float_round(self.f, 0)));
        return value_float(float_round(self.f, digits));
    }
    const double unit = pow(10, (double)digits), scaled = require_number(j, self) * unit;
    if (!isfinite(scaled)) jinja_fail(j, "cannot convert float infinity to integer");
    return value_float((ceiling ? ceil(scaled) : floor(scaled)) / unit);
}

static FILTER(filter_filesizeformat)
{
    UNUSED(c);
    static const char *const prefix[2][8] = {{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}, {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    const bool binary = value_truth(a[0]);
    const double base = binary ? 1024 : 1000;
    double bytes, unit = base;
    if (self.type != VALUE_STRING)
        bytes = require_number(j, self);
    else if (!parse_float(self.string, &bytes))
        jinja_fail(j, "could not convert string to float");
    struct text t = text_start(j);
    int i = 0;
    for (unit *= base; i < 7 && bytes >= unit; i++) unit *= base;
    if (bytes == 1)
        text_puts(&t, "1 Byte");
    else if (bytes < base)
        text_printf(&t, "%lld Bytes", (long long)float_to_int(j, bytes));
    else
        text_printf(&t, "%.1f %s", base * bytes / unit, prefix[binary][i]);
    return text_value(&t);
}

/* json.dumps as transformers calls it. */
static FILTER(filter_tojson)
{
    UNUSED(c);
    struct json_style style = {.ascii = value_truth(a[0]), .sort_keys = value_truth(a[3])};
    if (a[1].type == VALUE_STRING) {
        style.indent = a[1].string;
    } else if (a[1].type != VALUE_ABSENT && a[1].type != VALUE_NONE) {
        struct text t = text_start(j);
        text_fill(&t, " ", 1, require_int(j, a[1]));
        style.indent = text_value(&t).string;
    }
    style.comma = string_borrow(j, ", ", style.indent ? 1 : 2);
    style.colon = string_borrow(j, ": ", 2);
    if (a[2].type != VALUE_ABSENT && a[2].type != VALUE_NONE) {
        const struct list *l = value_collect(j, a[2]);
        if (l->n != 2) jinja_fail(j, "separators must be a pair");
        style.comma = require_string(j, l->item[0], "separator");
        style.colon = require_string(j, l->item[1], "separator");
    }
    struct text t = text_start(j);
    json_write(&t, self, &style);
    return text_value(&t);
}

static FILTER(filter_unavailable)
{
    UNUSED(self), UNUSED(a), UNUSED(c);
    jinja_fail(j, "the filters pprint, random, urlize and wordwrap are not available in chat templates");
}

const struct builtin filters[] = {
    {"abs", "", filter_abs},
    {"attr", "name", filter_attr},
    {"batch", "linecount,fill_with?", filter_batch},
    {"capitalize", "", filter_capitalize},
    {"center", "width?", filter_center},
    {"count", "", filter_length},
    {"d", "default_value?,boolean?", filter_default},
    {"default", "default_value?,boolean?", filter_default},
    {"dictsort", "case_sensitive?,by?,reverse?", filter_dictsort},
    {"e", "", filter_escape},
    {"escape", "", filter_escape},
    {"filesizeformat", "binary?", filter_filesizeformat},
    {"first", "", filter_first},
    {"float", "default?", filter_float},
    {"forceescape", "", filter_forceescape},
    {"format", NULL, filter_format},
    {"groupby", "attribute,default?,case_sensitive?", filter_groupby},
    {"indent", "width?,first?,blank?", filter_indent},
    {"int", "default?,base?", filter_int},
    {"items", "", filter_items},
    {"join", "d?,attribute?", filter_join},
    {"last", "", filter_last},
    {"length", "", filter_length},
    {"list", "", filter_list},
    {"lower", "", filter_lower},
    {"map", NULL, filter_map},
    {"max", "case_sensitive?,attribute?", filter_max},
    {"min", "case_sensitive?,attribute?", filter_min},
    {"pprint", NULL, filter_unavailable},
    {"random", NULL, filter_unavailable},
    {"reject", NULL, filter_reject},
    {"rejectattr", NULL, filter_rejectattr},
    {"replace", "old,new,count?", filter_replace},
    {"reverse", "", filter_reverse},
    {"round", "precision?,method?", filter_round},
    {"safe", "", filter_safe},
    {"select", NULL, filter_select},
    {"selectattr", NULL, filter_selectattr},
    {"slice", "slices,fill_with?", filter_slice},
    {"sort", "reverse?,case_sensitive?,attribute?", filter_sort},
    {"string", "", filter_string},
    {"striptags", "", filter_striptags},
    {"sum", "attribute?,start?", filter_sum},
    {"title", "", filter_title},
    {"tojson", "ensure_ascii?,indent?,separators?,sort_keys?", filter_tojson},
    {"trim", "chars?", filter_trim},
    {"truncate", "length?,killwords?,end?,leeway?", filter_truncate},
    {"unique", "case_sensitive?,attribute?", filter_unique},
    {"upper", "", filter_upper},
    {"urlencode", "", filter_urlencode},
    {"urlize", NULL, filter_unavailable},
    {"wordcount", "", filter_wordcount},
    {"wordwrap", NULL, filter_unavailable},
    {"xmlattr", "autospace?", filter_xmlattr},
    {0},
};
