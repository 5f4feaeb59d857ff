#include "data/columns.h"

#include <stdlib.h>
#include <string.h>

static const char *const name_of[COLUMN_COUNT] = {
#define COLUMN(name) [COLUMN_##name] = #name,
    COLUMNS(COLUMN)
#undef COLUMN
};

void columns_read(struct columns *c, const sail_config *config)
{
#define COLUMN(name) c->field[COLUMN_##name] = config->name##_field;
    COLUMNS(COLUMN)
#undef COLUMN
}

char *columns_list(json_t *row)
{
    struct buf b;
    buf_init(&b, 0);
    const char *key;
    json_t *value;
    json_object_foreach(row, key, value)
    {
        if (b.len > 200) {
            buf_puts(&b, " ...");
            break;
        }
        buf_printf(&b, "%s%.40s", b.len ? ", " : "", key);
    }
    char *text = mem_strdup(b.data ? b.data : "nothing");
    buf_release(&b);
    return text;
}

/* A field of the row, or of an object in it: "extra_info.question". */
static json_t *find(json_t *row, const char *field)
{
    for (;;) {
        json_t *value = json_object_get(row, field);
        const char *dot = strchr(field, '.');
        if (value || !dot) return value;
        char *outer = mem_printf("%.*s", (int)(dot - field), field);
        row = json_object_get(row, outer);
        field = dot + 1;
        free(outer);
    }
}

/* --prompt-field stands for the prompt as text: ids that the row has beside it are of another prompt. */
static void drop_ids(const struct columns *c, json_t *row, enum column i)
{
    char ids[64];
    snprintf(ids, sizeof ids, "%s_ids", name_of[i]);
    for (int k = 0; k < COLUMN_COUNT; k++)
        if (!c->field[k] && !strcmp(name_of[k], ids)) json_object_del(row, ids);
}

static void drop_nulls(json_t *row)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(row, next, key, value)
    {
        if (json_is_null(value)) json_object_del(row, key);
    }
}

static bool of_prompts(enum column i) { return i == COLUMN_prompt || i == COLUMN_prompt_ids || i == COLUMN_messages || i == COLUMN_tools; }

static char *say_missing(json_t *row, enum column i, const char *field)
{
    char *there = columns_list(row), flag[64];
    snprintf(flag, sizeof flag, "%s-field", name_of[i]);
    for (char *p = flag; *p; p++)
        if (*p == '_') *p = '-';
    char *why = mem_printf("--%s %s: the row has no such column; it has: %s", flag, field, there);
    free(there);
    return why;
}

/* Under a name of the data's own, 1 and 0 are labels too; a plain 'label' of another type may be anything (a class, a topic). */
static char *set_label(json_t *row, const char *field, json_t *value)
{
    const json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;
    const bool known = json_is_boolean(value) || n == 0 || n == 1;
    if (!known && !json_is_null(value)) return mem_printf("--label-field %s: expected true or false, 1 or 0", field);
    json_object_set_new(row, "label", known ? json_boolean(n == 1 || json_is_true(value)) : json_null());
    return NULL;
}

json_t *columns_apply(const struct columns *c, json_t *row, bool prompts_only, char **why)
{
    json_t *out = json_copy(row);
    *why = NULL;
    for (int i = 0; out && !*why && i < COLUMN_COUNT; i++) {
        const char *field = c->field[i];
        json_t *value = field ? find(row, field) : NULL;
        if (value && i == COLUMN_label) {
            *why = set_label(out, field, value);
        } else if (value) {
            json_object_set(out, name_of[i], value);
            drop_ids(c, out, (enum column)i);
        } else if (field && (!prompts_only || of_prompts((enum column)i))) {
            *why = say_missing(row, (enum column)i, field);
        }
    }
    if (out && !*why) drop_nulls(out);
    if (!*why) return out;
    json_decref(out);
    return NULL;
}

bool columns_need(const void *columns, const char *field)
{
    const struct columns *c = columns;
    const size_t n = strlen(field);
    for (int i = 0; i < COLUMN_COUNT; i++) {
        const char *wanted = c->field[i] ? c->field[i] : name_of[i];
        if (!strncmp(wanted, field, n) && (!wanted[n] || wanted[n] == '.')) return true;
    }
    return !strcmp(field, "route") || !strcmp(field, "conversations") || !strcmp(field, "chat_template_kwargs");
}
