/* Methods of str that ask what characters it is made of. */
#include "template/string_methods.h"
#include "template/unicode.h"

static bool is_alnum(uint32_t c) { return unicode_is_alpha(c) || unicode_is_numeric(c); }
static bool is_ascii(uint32_t c) { return c < 0x80; }

static struct value all_are(const struct string *s, bool (*kind)(uint32_t), bool of_empty)
{
    for (size_t at = 0; at < s->len;) {
        uint32_t c;
        at += utf8_decode(s->s + at, s->len - at, &c);
        if (!kind(c)) return value_bool(false);
    }
    return value_bool(s->len || of_empty);
}
METHOD(str_isalpha) { UNUSED(j), UNUSED(a), UNUSED(c); return all_are(self.string, unicode_is_alpha, false); }
METHOD(str_isalnum) { UNUSED(j), UNUSED(a), UNUSED(c); return all_are(self.string, is_alnum, false); }
METHOD(str_isdecimal) { UNUSED(j), UNUSED(a), UNUSED(c); return all_are(self.string, unicode_is_decimal, false); }
METHOD(str_isdigit) { UNUSED(j), UNUSED(a), UNUSED(c); return all_are(self.string, unicode_is_digit, false); }
METHOD(str_isnumeric) { UNUSED(j), UNUSED(a), UNUSED(c); return all_are(self.string, unicode_is_numeric, false); }
METHOD(str_isspace) { UNUSED(j), UNUSED(a), UNUSED(c); return all_are(self.string, unicode_is_space, false); }
METHOD(str_isprintable) { UNUSED(j), UNUSED(a), UNUSED(c); return all_are(self.string, unicode_is_printable, true); }
METHOD(str_isascii) { UNUSED(j), UNUSED(a), UNUSED(c); return all_are(self.string, is_ascii, true); }

METHOD(str_isidentifier)
{
    UNUSED(j), UNUSED(a), UNUSED(c);
    uint32_t first = '0';
    if (self.string->len) utf8_decode(self.string->s, self.string->len, &first);
    return value_bool((first == '_' || unicode_is_alpha(first)) && all_are(self.string, unicode_is_word, false).truth);
}

/* One cased character at least, and none of the other case. */
static bool all_cased(const struct string *s, bool upper)
{
    bool any = false;
    for (size_t at = 0; at < s->len;) {
        uint32_t c;
        at += utf8_decode(s->s + at, s->len - at, &c);
        if (upper ? unicode_is_lower(c) : unicode_is_upper(c)) return false;
        if (unicode_is_title(c)) return false;
        any |= upper ? unicode_is_upper(c) : unicode_is_lower(c);
    }
    return any;
}
METHOD(str_islower) { UNUSED(j), UNUSED(a), UNUSED(c); return value_bool(all_cased(self.string, false)); }
METHOD(str_isupper) { UNUSED(j), UNUSED(a), UNUSED(c); return value_bool(all_cased(self.string, true)); }

METHOD(str_istitle)
{
    UNUSED(j), UNUSED(a), UNUSED(c);
    bool any = false, inside = false;
    for (size_t at = 0; at < self.string->len;) {
        uint32_t point;
        at += utf8_decode(self.string->s + at, self.string->len - at, &point);
        const bool upper = unicode_is_upper(point) || unicode_is_title(point), lower = unicode_is_lower(point);
        if ((upper && inside) || (lower && !inside)) return value_bool(false);
        inside = upper || lower;
        any |= inside;
    }
    return value_bool(any);
}
