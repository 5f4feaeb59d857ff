#include "model/name_rule.h"

#include <oniguruma.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

struct name_rule {
    regex_t *regex;
    char *what, *pattern; /* for messages */
};

static int refuse(const struct name_rule *r, int code, OnigErrorInfo *why, sail_err *err)
{
    OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
    onig_error_code_to_str(message, code, why);
    return err_set(err, SAIL_FAILED, "%s: pattern '%.80s': %s", r->what, r->pattern, (const char *)message);
}

int name_rule_create(struct name_rule **out, const char *before, const char *pattern, const char *after, const char *what, sail_err *err)
{
    OnigEncoding use[] = {ONIG_ENCODING_UTF8};
    OnigErrorInfo why;
    struct name_rule *r;
    *out = NULL;
    int rc = mem_alloc(&r, 1, sizeof *r, err);
    if (rc) return rc;
    onig_initialize(use, 1);
    r->what = mem_strdup(what);
    r->pattern = mem_strdup(pattern);
    char *whole = mem_printf("%s%s%s", before, pattern, after);
    const OnigUChar *s = (const OnigUChar *)whole;
    const int code = onig_new(&r->regex, s, s + strlen(whole), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_PYTHON, &why);
    free(whole);
    if (code == ONIG_NORMAL) {
        *out = r;
        return SAIL_OK;
    }
    r->regex = NULL;
    rc = refuse(r, code, &why, err);
    name_rule_free(r);
    return rc;
}

int name_rule_matches(const struct name_rule *r, const char *name, bool *yes, sail_err *err)
{
    const OnigUChar *s = (const OnigUChar *)name, *end = s + strlen(name);
    OnigMatchParam *limits = onig_new_match_param();
    if (!limits) return err_memory(err, 0);
    onig_initialize_match_param(limits);
    onig_set_retry_limit_in_match_of_match_param(limits, 1000000);
    const int n = onig_match_with_param(r->regex, s, end, s, NULL, ONIG_OPTION_NONE, limits);
    onig_free_match_param(limits);
    if (n < 0 && n != ONIG_MISMATCH) return refuse(r, n, NULL, err);
    *yes = n >= 0;
    return SAIL_OK;
}

void name_rule_free(struct name_rule *r)
{
    if (!r) return;
    if (r->regex) onig_free(r->regex);
    free(r->what);
    free(r->pattern);
    free(r);
}

int name_rules_add(struct name_rules *list, const char *before, const char *pattern, const char *after, const char *what, sail_err *err)
{
    struct name_rule **grown = realloc(list->rule, (list->n + 1) * sizeof *grown);
    if (!grown) return err_memory(err, (list->n + 1) * sizeof *grown);
    list->rule = grown;
    int rc = name_rule_create(&list->rule[list->n], before, pattern, after, what, err);
    if (!rc) list->n++;
    return rc;
}

int name_rules_find(const struct name_rules *list, const char *name, int *index, sail_err *err)
{
    *index = -1;
    for (size_t i = 0; i < list->n; i++) {
        bool yes = false;
        int rc = name_rule_matches(list->rule[i], name, &yes, err);
        if (rc) return rc;
        if (yes) {
            *index = (int)i;
            return SAIL_OK;
        }
    }
    return SAIL_OK;
}

void name_rules_release(struct name_rules *list)
{
    for (size_t i = 0; i < list->n; i++) name_rule_free(list->rule[i]);
    free(list->rule);
    *list = (struct name_rules){0};
}

bool name_ends_with(const char *name, const char *entry)
{
    const size_t n = strlen(name), k = strlen(entry);
    return k && n >= k && !strcmp(name + n - k, entry) && (n == k || name[n - k - 1] == '.');
}
