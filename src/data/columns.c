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

json_t *columns_apply(const struct columns *c, json_t *row, bool prompts_only, char **missing)
{
    json_t *out = json_copy(row);
    *missing = NULL;
    for (int i = 0; out && i < COLUMN_COUNT; i++) {
        if (!c->field[i]) continue;
        json_t *value = find(row, c->field[i]);
        if (value) {
            json_object_set(out, name_of[i], value);
            drop_ids(c, out, (enum column)i);
        } else if (!prompts_only || of_prompts((enum column)i)) {
            char *there = columns_list(row), flag[64];
            snprintf(flag, sizeof flag, "%s-field", name_of[i]);
            for (char *p = flag; *p; p++)
                if (*p == '_') *p = '-';
            *missing = mem_printf("--%s %s: the row has no such column; it has: %s", flag, c->field[i], there);
            free(there);
            json_decref(out);
            return NULL;
        }
    }
    if (out) drop_nulls(out);
    return out;
}

bool columns_need(const void *columns, const char *field)
{
    const struct columns *c = columns;
    const size_t n = strlen(field);
    for (int i = 0; i < COLUMN_COUNT; i++) {
        const char *wanted = c->field[i] ? c->field[i] : name_of[i];
        if (!strncmp(wanted, field, n) && (!wanted[n] || wanted[n] == '.')) return true;
    }
    return !strcmp(field, "route") || !strcmp(field, "chat_template_kwargs");
}
