/* A parsed template: statements that write text, expressions that have values. Nodes live in one pool and go together. */
#ifndef SAIL_TEMPLATE_AST_H
#define SAIL_TEMPLATE_AST_H

#include <jansson.h>
#include <stdbool.h>

#include "base/mem.h"

enum node_kind {
    /* expressions */
    EXPR_LITERAL, EXPR_NAME, EXPR_ATTRIBUTE, EXPR_ITEM, EXPR_SLICE, EXPR_CALL, EXPR_FILTER, EXPR_TEST, EXPR_BINARY, EXPR_NEGATE, EXPR_NOT, EXPR_AND, EXPR_OR, EXPR_COMPARE, EXPR_CHOOSE, EXPR_LIST, EXPR_DICT,
    /* statements */
    STMT_TEXT, STMT_OUTPUT, STMT_IF, STMT_FOR, STMT_SET, STMT_SET_BLOCK, STMT_MACRO, STMT_CALL, STMT_FILTER, STMT_BLOCK, STMT_BREAK, STMT_CONTINUE,
};

struct node {
    enum node_kind kind;
    int line;
    char *name;           /* of a variable, attribute, filter, test, operator, macro */
    json_t *value;        /* of a literal; STMT_TEXT: its text */
    struct node *a, *b, *c; /* operands; if: condition; for: iterable, condition; item: index */
    struct node **list;   /* arguments, elements, keys and values in turn, targets, macro parameters (with defaults in a) */
    char **keyword;       /* of each argument: NULL when positional */
    size_t n;
    struct node **body, **other; /* statements; else */
    size_t n_body, n_other;
    bool negated, recursive;
};

struct ast {
    struct node **pool;
    size_t n, capacity;
    struct node **body;
    size_t n_body;
};

int ast_parse(struct ast *t, const char *source, sail_err *err);
void ast_free(struct ast *t);

#endif
