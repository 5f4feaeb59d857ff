/* Which names a body reads before it binds them, as jinja2.idtracking finds the special arguments of macros. */
#include "template/ast.h"

enum reads { READS_NOT, READS_IT, BINDS_IT };

static enum reads list_reads(const struct nodes *list, const char *name);

static enum reads target_binds(const struct node *n, const char *name)
{
    if (n->kind == NODE_NAME) return string_equals(n->name, name) ? BINDS_IT : READS_NOT;
    for (int64_t i = 0; n->kind == NODE_TUPLE && i < n->child.n; i++)
        if (target_binds(n->child.at[i], name)) return BINDS_IT;
    return READS_NOT;
}

static enum reads node_reads(const struct node *n, const char *name)
{
    enum reads r;
    if (!n || n->kind == NODE_BLOCK) return READS_NOT;
    if (n->kind == NODE_NAME) return string_equals(n->name, name) ? READS_IT : READS_NOT;
    const bool has_target = n->kind == NODE_FOR || n->kind == NODE_SET || n->kind == NODE_SET_BLOCK;
    if (has_target && (r = target_binds(n->a, name))) return r;
    if (n->kind == NODE_WITH) { // targets, then values, then the body
        for (int64_t i = 0; i < n->child.n; i += 2)
            if ((r = target_binds(n->child.at[i], name))) return r;
        for (int64_t i = 1; i < n->child.n; i += 2)
            if ((r = node_reads(n->child.at[i], name))) return r;
        return list_reads(&n->body, name);
    }
    if (!has_target && (r = node_reads(n->a, name))) return r;
    if ((r = node_reads(n->b, name))) return r;
    if ((r = list_reads(&n->child, name))) return r;
    if (n->call) {
        if ((r = list_reads(&n->call->positional, name))) return r;
        for (int64_t i = 0; i < n->call->keyword.n; i++)
            if ((r = node_reads(n->call->keyword.at[i]->a, name))) return r;
        if ((r = node_reads(n->call->star, name)) || (r = node_reads(n->call->star_star, name))) return r;
    }
    if (n->macro) {
        for (int64_t i = 0; i < n->macro->parameter.n; i++)
            if (string_equals(n->macro->parameter.at[i]->name, name)) return BINDS_IT;
        for (int64_t i = 0; i < n->macro->parameter.n; i++)
            if ((r = node_reads(n->macro->parameter.at[i]->a, name))) return r;
        if ((r = list_reads(&n->macro->body, name))) return r;
    }
    if ((r = list_reads(&n->body, name)) || (r = list_reads(&n->otherwise, name))) return r;
    return node_reads(n->c, name);
}

static enum reads list_reads(const struct nodes *list, const char *name)
{
    for (int64_t i = 0; i < list->n; i++) {
        const enum reads r = node_reads(list->at[i], name);
        if (r) return r;
    }
    return READS_NOT;
}

bool nodes_read_name(const struct nodes *list, const char *name) { return list_reads(list, name) == READS_IT; }
