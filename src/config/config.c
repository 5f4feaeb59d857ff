/* Typed options from flags and YAML, all of it driven by options.def. */
#include "config/config.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "config/command.h"
#include "config/yaml.h"

enum option_type { TYPE_STR, TYPE_INT, TYPE_F64, TYPE_BOOL };

struct option_row {
    const char *name;
    enum option_type type;
    size_t offset;
    double low, high;
    unsigned commands;
    const char *choices, *help;
};


static const struct option_row rows[OPTION_COUNT] = {
#define OPT(type, name, def, low, high, commands, choices, help) \
    {#name, TYPE_##type, offsetof(struct sail_config, name), (double)(low), (double)(high), (commands), (choices), (help)},
#include "config/options.def"
#undef OPT
};

const char *sail_version(void) { return SAIL_VERSION; }

static void *field(const sail_config *c, int i) { return (char *)(uintptr_t)c + rows[i].offset; }

static void set_string(char **slot, const char *value)
{
    free(*slot);
    *slot = value ? mem_strdup(value) : NULL;
}

void config_reset(sail_config *c, enum option_id id)
{
    switch (id) {
#define FILL_STR(name, def) set_string(&c->name, def)
#define FILL_INT(name, def) c->name = (def)
#define FILL_F64(name, def) c->name = (def)
#define FILL_BOOL(name, def) c->name = (def)
#define OPT(type, name, def, low, high, commands, choices, help) \
    case OPTION_##name: FILL_##type(name, def); break;
#include "config/options.def"
#undef OPT
    case OPTION_COUNT: break;
    }
    c->is_set[id] = 0;
}

int sail_config_create(sail_config **out, const char *command, sail_err *err)
{
    *out = NULL;
    const struct command_row *row = command_find(command);
    if (!row) {
        const char *names[32];
        int n = 0;
        while (n < 32 && command_at(n)) {
            names[n] = command_at(n)->name;
            n++;
        }
        const char *near = nearest_name(command, names, n);
        return err_set(err, SAIL_USAGE, "unknown command '%s'%s%s%s; `sail --help` lists them", command, near ? ": did you mean '" : "",
                       near ? near : "", near ? "'?" : "");
    }
    sail_config *c;
    if (mem_alloc(&c, 1, sizeof *c, err)) return SAIL_FAILED;
    c->command = row->id;
    c->command_name = row->name;
    for (int i = 0; i < OPTION_COUNT; i++) config_reset(c, (enum option_id)i);
    *out = c;
    return SAIL_OK;
}

void sail_config_free(sail_config *c)
{
    if (!c) return;
    for (int i = 0; i < OPTION_COUNT; i++)
        if (rows[i].type == TYPE_STR) free(*(char **)field(c, i));
    free(c->action);
    free(c);
}

sail_config *config_copy(const sail_config *c)
{
    sail_config *copy = malloc(sizeof *copy);
    if (!copy) return NULL;
    *copy = *c;
    copy->action = c->action ? mem_strdup(c->action) : NULL;
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (rows[i].type != TYPE_STR) continue;
        const char *s = *(char **)field(c, i);
        *(char **)field(copy, i) = s ? mem_strdup(s) : NULL;
    }
    return copy;
}

bool sail_config_wants_help(const sail_config *c) { return c->wants_help; }

/* Index of an option that the command knows; errors otherwise. Dashes and underscores are the same. */
static int find_option(const sail_config *c, const char *key, int *out, sail_err *err)
{
    char name[65];
    size_t n = strlen(key);
    if (n > 64) return err_set(err, SAIL_USAGE, "unknown option --%.40s...", key);
    for (size_t i = 0; i <= n; i++) name[i] = key[i] == '-' ? '_' : key[i];
    const char *names[OPTION_COUNT];
    int n_name = 0;
    for (int i = 0; i < OPTION_COUNT; i++) {
        bool here = (rows[i].commands & c->command) != 0;
        if (here) names[n_name++] = rows[i].name;
        if (strcmp(rows[i].name, name)) continue;
        if (!here) return err_set(err, SAIL_USAGE, "option --%s is not one of `sail %s`; `sail %s --help` lists them", key, c->command_name, c->command_name);
        *out = i;
        return SAIL_OK;
    }
    const char *near = nearest_name(name, names, n_name);
    char hint[96] = "";
    if (near) {
        snprintf(hint, sizeof hint, ": did you mean --%s?", near);
        for (char *p = hint; *p; p++)
            if (*p == '_') *p = '-';
    }
    return err_set(err, SAIL_USAGE, "unknown option --%s of `sail %s`%s", key, c->command_name, hint);
}

static bool one_of(const char *choices, const char *value)
{
    size_t n = strlen(value);
    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (!strncmp(p, value, n) && (p[n] == '|' || !p[n])) return true;
    return false;
}

static int parse_bool(bool *out, const char *value)
{
    if (one_of("true|yes|on|1", value)) return *out = true, SAIL_OK;
    if (one_of("false|no|off|0", value)) return *out = false, SAIL_OK;
    return SAIL_USAGE;
}

static int set_value(sail_config *c, int i, const char *value, sail_err *err)
{
    const struct option_row *row = &rows[i];
    char flag[65];
    for (size_t k = 0; k <= strlen(row->name); k++) flag[k] = row->name[k] == '_' ? '-' : row->name[k];
    char *end;
    errno = 0;
    switch (row->type) {
    case TYPE_STR:
        if (row->choices && !one_of(row->choices, value)) return err_set(err, SAIL_USAGE, "--%s: expected one of %s, got '%s'", flag, row->choices, value);
        set_string(field(c, i), value);
        return SAIL_OK;
    case TYPE_BOOL:
        if (parse_bool(field(c, i), value)) return err_set(err, SAIL_USAGE, "--%s: expected true or false, got '%s'", flag, value);
        return SAIL_OK;
    case TYPE_INT: {
        long long v = strtoll(value, &end, 10);
        if (end == value || *end || errno || (double)v < row->low || (double)v > row->high)
            return err_set(err, SAIL_USAGE, "--%s: expected a whole number from %.0f to %.0f, got '%s'", flag, row->low, row->high, value);
        *(int64_t *)field(c, i) = v;
        return SAIL_OK;
    }
    case TYPE_F64: {
        double v = strtod(value, &end);
        if (end == value || *end || !isfinite(v) || v < row->low || v > row->high)
            return err_set(err, SAIL_USAGE, "--%s: expected a number from %g to %g, got '%s'", flag, row->low, row->high, value);
        *(double *)field(c, i) = v;
        return SAIL_OK;
    }
    }
    return SAIL_OK;
}

int sail_config_set(sail_config *c, const char *key, const char *value, sail_err *err)
{
    int i = 0, rc = find_option(c, key, &i, err);
    if (!rc) rc = set_value(c, i, value, err);
    if (!rc) c->is_set[i] = 1;
    return rc;
}

int config_default(sail_config *c, const char *key, const char *value, sail_err *err)
{
    int i = 0, rc = find_option(c, key, &i, NULL);
    if (rc || c->is_set[i]) return SAIL_OK; // an option that this command does not have needs no default
    return set_value(c, i, value, err);
}

void config_take(sail_config *to, const sail_config *from, enum option_id id)
{
    const struct option_row *row = &rows[id];
    if (!(row->commands & to->command) || !(row->commands & from->command)) return;
    switch (row->type) {
    case TYPE_STR: set_string(field(to, id), *(char *const *)field(from, id)); break;
    case TYPE_INT: *(int64_t *)field(to, id) = *(const int64_t *)field(from, id); break;
    case TYPE_F64: *(double *)field(to, id) = *(const double *)field(from, id); break;
    case TYPE_BOOL: *(bool *)field(to, id) = *(const bool *)field(from, id); break;
    }
    to->is_set[id] = from->is_set[id];
}

bool config_said(const sail_config *c, const char *key)
{
    int i = 0;
    return !find_option(c, key, &i, NULL) && c->is_set[i];
}

int config_saved(sail_config *c, const char *key, const char *value, sail_err *err)
{
    int i = 0, rc = find_option(c, key, &i, NULL);
    if (rc || c->is_set[i]) return SAIL_OK;
    if (!(rc = set_value(c, i, value, err))) c->is_set[i] = 1; // a preset's default must not come over it
    return rc;
}

static int set_from_yaml(void *context, const char *key, const char *value, sail_err *err) { return sail_config_set(context, key, value, err); }

int sail_config_load(sail_config *c, const char *path, sail_err *err) { return yaml_read_flat(path, set_from_yaml, c, err); }

/* One flag at argv[*i]; advances *i past its value. */
static int parse_flag(sail_config *c, int argc, char **argv, int *i, bool files, sail_err *err)
{
    const char *flag = argv[*i] + 2, *equals = strchr(flag, '=');
    char *key = equals ? strndup(flag, (size_t)(equals - flag)) : mem_strdup(flag);
    if (!key) return err_memory(err, strlen(flag));
    const bool is_file = !strcmp(key, "config") && c->command != CMD_COMPARE; // a study is not a flat file of options
    int option = -1, rc = is_file ? SAIL_OK : find_option(c, key, &option, err);
    const char *value = equals ? equals + 1 : NULL;
    if (!rc && !value) {
        if (option >= 0 && rows[option].type == TYPE_BOOL)
            value = "true";
        else if (*i + 1 < argc)
            value = argv[++*i];
        else
            rc = err_set(err, SAIL_USAGE, "--%s needs a value", key);
    }
    if (!rc && is_file && files) rc = sail_config_load(c, value, err);
    if (!rc && !is_file && !files) rc = sail_config_set(c, key, value, err);
    free(key);
    return rc;
}

int sail_config_parse(sail_config *c, int argc, char **argv, sail_err *err)
{
    const struct command_row *row = command_find(c->command_name);
    for (int pass = 0; pass < 2; pass++) { // files first, so that flags win
        for (int i = 0; i < argc; i++) {
            if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
                c->wants_help = true;
                return SAIL_OK;
            }
            if (!strncmp(argv[i], "--", 2) && argv[i][2]) {
                int rc = parse_flag(c, argc, argv, &i, pass == 0, err);
                if (rc) return rc;
            } else if (!row->takes_action || (pass == 0 && c->action)) {
                return err_set(err, SAIL_USAGE, "unexpected argument '%s': options are --name value (usage: %s)", argv[i], row->usage);
            } else if (pass == 0) {
                c->action = mem_strdup(argv[i]);
            }
        }
    }
    return SAIL_OK;
}

int config_require(const sail_config *c, enum option_id id, sail_err *err)
{
    const struct option_row *row = &rows[id];
    if (row->type == TYPE_STR ? *(char **)field(c, id) != NULL : c->is_set[id] != 0) return SAIL_OK;
    char flag[65];
    for (size_t k = 0; k <= strlen(row->name); k++) flag[k] = row->name[k] == '_' ? '-' : row->name[k];
    return err_set(err, SAIL_USAGE, "`sail %s` needs --%s (%s)", c->command_name, flag, row->help);
}

static void write_value(const sail_config *c, int i, struct buf *out)
{
    const void *p = field(c, i);
    switch (rows[i].type) {
    case TYPE_STR: buf_json_string(out, *(char *const *)p, strlen(*(char *const *)p)); break;
    case TYPE_INT: buf_printf(out, "%lld", (long long)*(const int64_t *)p); break;
    case TYPE_F64: buf_json_double(out, *(const double *)p); break;
    case TYPE_BOOL: buf_puts(out, *(const bool *)p ? "true" : "false"); break;
    }
}

void config_write_yaml(const sail_config *c, struct buf *out)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (!(rows[i].commands & c->command) || i == OPTION_resume || i == OPTION_dry_run || i == OPTION_quiet) continue;
        if (rows[i].type == TYPE_STR && !*(char **)field(c, i)) continue;
        buf_printf(out, "%s: ", rows[i].name);
        write_value(c, i, out);
        buf_putc(out, '\n');
    }
}

static void print_option(const sail_config *defaults, int i, FILE *out)
{
    char left[96];
    int n = snprintf(left, sizeof left, "--%s", rows[i].name);
    for (int k = 2; k < n; k++)
        if (left[k] == '_') left[k] = '-';
    if (rows[i].choices)
        snprintf(left + n, sizeof left - (size_t)n, " %s", rows[i].choices);
    else if (rows[i].type != TYPE_BOOL)
        snprintf(left + n, sizeof left - (size_t)n, " %s", rows[i].type == TYPE_STR ? "TEXT" : rows[i].type == TYPE_INT ? "N" : "X");
    fprintf(out, "  %-34s %s", left, rows[i].help);
    struct buf value;
    buf_init(&value, 0);
    if (rows[i].type != TYPE_BOOL && (rows[i].type != TYPE_STR || *(char **)field(defaults, i))) {
        write_value(defaults, i, &value);
        fprintf(out, " [%s]", value.data);
    }
    buf_release(&value);
    fputc('\n', out);
}

void sail_config_help(const char *command, FILE *out)
{
    if (!command) {
        fprintf(out, "sail %s: aligns language models online, on your own hardware\n\nusage: sail COMMAND [--config run.yaml] [--option value ...]\n\n", sail_version());
        for (int i = 0; command_at(i); i++) fprintf(out, "  %-10s %s\n", command_at(i)->name, command_at(i)->summary);
        fprintf(out, "\n`sail COMMAND --help` lists the options. Exit status: 0 ok, 1 failed, 2 usage.\n");
        return;
    }
    sail_config *defaults = NULL;
    if (sail_config_create(&defaults, command, NULL)) return;
    const struct command_row *row = command_find(command);
    fprintf(out, "sail %s: %s\n\nusage: %s\n\n%s", row->name, row->summary, row->usage, row->more ? row->more : "");
    if (row->id != CMD_COMPARE) fprintf(out, "  %-34s %s\n", "--config FILE", "options from a YAML file; flags win");
    for (int i = 0; i < OPTION_COUNT; i++)
        if (rows[i].commands & row->id) print_option(defaults, i, out);
    sail_config_free(defaults);
}
