/* Methods of str that take it apart and put strings together. */
#define _GNU_SOURCE
#include <string.h>

#include "template/string_methods.h"
#include "template/unicode.h"

static struct value piece(struct jinja *j, const struct string *s, size_t from, size_t to) { return value_string(string_markup(j, string_borrow(j, s->s + from, to - from), s->markup)); }

static void reverse(struct list *l)
{
    for (int64_t i = 0; i < l->n / 2; i++) {
        const struct value v = l->item[i];
        l->item[i] = l->item[l->n - 1 - i];
        l->item[l->n - 1 - i] = v;
    }
}

/* Splitting at runs of blanks. */
static struct list *split_blanks(struct jinja *j, const struct string *s, int64_t most)
{
    struct list *l = list_create(j, 0);
    size_t at = 0;
    uint32_t c;
    for (;;) {
        size_t n = 0;
        for (; at < s->len; at += n) {
            n = utf8_decode(s->s + at, s->len - at, &c);
            if (!unicode_is_space(c)) break;
        }
        if (at >= s->len) return l;
        size_t end = at;
        if (l->n == most) {
            list_push(j, l, piece(j, s, at, s->len));
            return l;
        }
        for (; end < s->len; end += n) {
            n = utf8_decode(s->s + end, s->len - end, &c);
            if (unicode_is_space(c)) break;
        }
        list_push(j, l, piece(j, s, at, end));
        at = end;
    }
}

static struct list *rsplit_blanks(struct jinja *j, const struct string *s, int64_t most)
{
    struct list *l = list_create(j, 0);
    size_t end = s->len;
    uint32_t c;
    for (;;) {
        size_t n = 0;
        for (; end > 0; end -= n) {
            n = utf8_step_back(s->s, end);
            utf8_decode(s->s + end - n, n, &c);
            if (!unicode_is_space(c)) break;
        }
        if (!end) break;
        if (l->n == most) {
            list_push(j, l, piece(j, s, 0, end));
            break;
        }
        size_t at = end;
        for (; at > 0; at -= n) {
            n = utf8_step_back(s->s, at);
            utf8_decode(s->s + at - n, n, &c);
            if (unicode_is_space(c)) break;
        }
        list_push(j, l, piece(j, s, at, end));
        end = at;
    }
    reverse(l);
    return l;
}

static struct list *split_at(struct jinja *j, const struct string *s, const struct string *separator, int64_t most)
{
    struct list *l = list_create(j, 0);
    size_t at = 0;
    const char *hit;
    while (l->n < most && (hit = memmem(s->s + at, s->len - at, separator->s, separator->len))) {
        jinja_charge(j, 1);
        list_push(j, l, piece(j, s, at, (size_t)(hit - s->s)));
        at = (size_t)(hit - s->s) + separator->len;
    }
    list_push(j, l, piece(j, s, at, s->len));
    return l;
}

static struct list *rsplit_at(struct jinja *j, const struct string *s, const struct string *separator, int64_t most)
{
    struct list *l = list_create(j, 0);
    struct string rest = *s;
    const char *hit;
    while (l->n < most && (hit = string_find_last(&rest, separator))) {
        jinja_charge(j, 1);
        list_push(j, l, piece(j, s, (size_t)(hit - s->s) + separator->len, rest.len));
        rest.len = (size_t)(hit - s->s);
    }
    list_push(j, l, piece(j, s, 0, rest.len));
    reverse(l);
    return l;
}

static struct value split(struct jinja *j, const struct string *s, const struct value *a, bool from_right)
{
    int64_t most = a[1].type == VALUE_ABSENT ? -1 : require_int(j, a[1]);
    if (most < 0) most = INT64_MAX;
    jinja_charge(j, (int64_t)(s->len / 8));
    if (a[0].type == VALUE_ABSENT || a[0].type == VALUE_NONE) return value_list(from_right ? rsplit_blanks(j, s, most) : split_blanks(j, s, most));
    const struct string *separator = require_string(j, a[0], "sep");
    if (!separator->len) jinja_fail(j, "empty separator");
    return value_list(from_right ? rsplit_at(j, s, separator, most) : split_at(j, s, separator, most));
}
METHOD(str_split) { UNUSED(c); return split(j, self.string, a, false); }
METHOD(str_rsplit) { UNUSED(c); return split(j, self.string, a, true); }
METHOD(str_splitlines) { UNUSED(c); return value_list(string_lines(j, self.string, value_truth(a[0]))); }

static struct value partition(struct jinja *j, const struct string *s, struct value separator, bool from_right)
{
    const struct string *at = require_string(j, separator, "sep");
    if (!at->len) jinja_fail(j, "empty separator");
    const char *hit = from_right ? string_find_last(s, at) : memmem(s->s, s->len, at->s, at->len);
    const size_t split_point = hit ? (size_t)(hit - s->s) : from_right ? 0 : s->len, after = hit ? split_point + at->len : split_point;
    struct list *l = list_create(j, 3);
    list_push(j, l, piece(j, s, 0, split_point));
    list_push(j, l, hit ? separator : value_text(j, ""));
    list_push(j, l, piece(j, s, after, s->len));
    return value_tuple(l);
}
METHOD(str_partition) { UNUSED(c); return partition(j, self.string, a[0], false); }
METHOD(str_rpartition) { UNUSED(c); return partition(j, self.string, a[0], true); }

METHOD(str_join)
{
    UNUSED(c);
    struct text t = text_start(j);
    struct iterator *it = value_iterate(j, a[0]);
    struct value item;
    for (int64_t i = 0; iterator_next(j, it, &item); i++) {
        if (item.type != VALUE_STRING) jinja_fail(j, "sequence item %lld: expected str instance, %s found", (long long)i, value_type_name(item));
        if (i) value_write(&t, self);
        value_write(&t, self.string->markup ? value_string(escape_string(j, item.string)) : item);
    }
    return value_string(string_markup(j, text_value(&t).string, self.string->markup));
}
