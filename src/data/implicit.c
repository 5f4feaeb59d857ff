#include "data/implicit.h"

bool row_is_messages(const json_t *v)
{
    return json_is_array(v) && json_array_size(v) > 0 && json_is_object(json_array_get(v, 0)) && json_object_get(json_array_get(v, 0), "role");
}

/* Implicit preference: chosen and rejected hold the prompt. TRL's extract_prompt: the longest common beginning; for strings one space before the split
 * goes to the answers. */
const char *implicit_split(json_t *row, json_t **out)
{
    static const char no_beginning[] = "chosen and rejected have no common beginning to be the prompt";
    json_t *c = json_object_get(row, "chosen"), *r = json_object_get(row, "rejected");
    *out = json_copy(row);
    if (row_is_messages(c) && row_is_messages(r)) {
        size_t n = 0, nc = json_array_size(c), nr = json_array_size(r);
        while (n < nc && n < nr && json_equal(json_array_get(c, n), json_array_get(r, n))) n++;
        if (n && (n == nc || n == nr)) n--; // one is the beginning of the other: the last common message is the answer's
        json_t *part[3] = {json_array(), json_array(), json_array()};
        for (size_t i = 0; i < nc; i++) json_array_append(part[i < n ? 0 : 1], json_array_get(c, i));
        for (size_t i = n; i < nr; i++) json_array_append(part[2], json_array_get(r, i));
        json_object_set_new(*out, "prompt", part[0]);
        json_object_set_new(*out, "chosen", part[1]);
        json_object_set_new(*out, "rejected", part[2]);
        return n ? NULL : no_beginning;
    }
    if (!json_is_string(c) || !json_is_string(r)) return "'prompt' is missing, and chosen and rejected are not both texts or both messages";
    const char *a = json_string_value(c), *b = json_string_value(r);
    const size_t na = json_string_length(c), nb = json_string_length(r);
    size_t n = 0;
    while (n < na && n < nb && a[n] == b[n]) n++;
    if (n && (n == na || n == nb)) n--;
    while (n && ((unsigned char)a[n] & 0xC0) == 0x80) n--; // never inside a character
    if (n && a[n - 1] == ' ') n--;
    json_object_set_new(*out, "prompt", json_stringn(a, n));
    json_object_set_new(*out, "chosen", json_stringn(a + n, na - n));
    json_object_set_new(*out, "rejected", json_stringn(b + n, nb - n));
    return n ? NULL : no_beginning;
}
