/* Statements, as jinja2.parser reads them. */
#include "template/ast.h"

#include <stdio.h>
#include <string.h>

#include "template/eval.h"

void parser_fail(struct parser *p, int line, const char *fmt, ...)
{
    char message[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    jinja_fail(p->j, "line %d: %s", line, message);
}

struct node *node_create(struct parser *p, enum node_kind kind, int line)
{
    struct node *n = jinja_take(p->j, 1, sizeof *n);
    n->kind = kind;
    n->line = line;
    return n;
}

void nodes_push(struct jinja *j, struct nodes *list, struct node *n)
{
    if (list->n == list->capacity) {
        const int64_t want = list->capacity ? 2 * list->capacity : 4;
        struct node **at = jinja_take(j, (size_t)want, sizeof *at);
        if (list->n) memcpy(at, list->at, (size_t)list->n * sizeof *at);
        list->at = at;
        list->capacity = want;
    }
    list->at[list->n++] = n;
}

bool parser_at_operator(const struct parser *p, const char *op) { return p->token->type == TOKEN_OPERATOR && string_equals(p->token->value.string, op); }
bool parser_at_name(const struct parser *p, const char *name) { return p->token->type == TOKEN_NAME && string_equals(p->token->value.string, name); }

bool parser_skip_operator(struct parser *p, const char *op)
{
    if (!parser_at_operator(p, op)) return false;
    p->token++;
    return true;
}

bool parser_skip_name(struct parser *p, const char *name)
{
    if (!parser_at_name(p, name)) return false;
    p->token++;
    return true;
}

const char *token_text(struct jinja *j, const struct token *t)
{
    static const char *const what[] = {"template data / text", "begin of statement block", "end of statement block", "begin of print statement",
                                       "end of print statement", "name", "string", "integer", "float", "operator", "end of template"};
    if (t->type != TOKEN_NAME && t->type != TOKEN_OPERATOR) return what[t->type];
    char *s = jinja_take(j, t->value.string->len + 1, 1);
    memcpy(s, t->value.string->s, t->value.string->len);
    return s;
}

void parser_expect_operator(struct parser *p, const char *op)
{
    if (!parser_skip_operator(p, op)) parser_fail(p, p->token->line, "expected token '%s', got '%.100s'", op, token_text(p->j, p->token));
}

const struct token *parser_expect(struct parser *p, enum token_type type, const char *what)
{
    if (p->token->type != type) parser_fail(p, p->token->line, "expected token '%s', got '%.100s'", what, token_text(p->j, p->token));
    return p->token++;
}

static void expect_name(struct parser *p, const char *name)
{
    if (!parser_skip_name(p, name)) parser_fail(p, p->token->line, "expected token '%s', got '%.100s'", name, token_text(p->j, p->token));
}

// ------------------------------------------------------------------------------------------------ assignment targets

static void check_target(struct parser *p, const struct node *n)
{
    switch (n->kind) {
    case NODE_NAME:
        if (p->any_loops && string_equals(n->name, "loop")) parser_fail(p, n->line, "Can't assign to special loop variable in for-loop target");
        return;
    case NODE_NAMESPACE_TARGET: return;
    case NODE_TUPLE:
        for (int64_t i = 0; i < n->child.n; i++) check_target(p, n->child.at[i]);
        return;
    default: parser_fail(p, n->line, "can't assign to an expression or a literal");
    }
}

static struct node *parse_target(struct parser *p, bool with_namespace, const char *end)
{
    struct node *n = parse_tuple(p, (struct tuple_rules){.simplified = true, .with_namespace = with_namespace, .end = end});
    check_target(p, n);
    return n;
}

static struct node *parse_name_target(struct parser *p)
{
    const struct token *t = parser_expect(p, TOKEN_NAME, "name");
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (string_equals(t->value.string, constants[i])) parser_fail(p, t->line, "can't assign to 'name'");
    struct node *n = node_create(p, NODE_NAME, t->line);
    n->name = t->value.string;
    return n;
}

// ------------------------------------------------------------------------------------------------ statements

static struct nodes parse_until(struct parser *p, const char *const *end);

/* A statement's body: the rest of its tag, then statements up to one of `end`, whose name stays the current token. */
static struct nodes parse_body(struct parser *p, const char *const *end)
{
    parser_skip_operator(p, ":");
    parser_expect(p, TOKEN_BLOCK_END, "end of statement block");
    struct nodes body = parse_until(p, end);
    if (p->token->type == TOKEN_END) parser_fail(p, p->token->line, "Unexpected end of template. Jinja was looking for the following tags: '%s'.", end[0]);
    return body;
}

static struct nodes parse_whole_body(struct parser *p, const char *end)
{
    const char *const ends[] = {end, NULL};
    struct nodes body = parse_body(p, ends);
    p->token++;
    return body;
}

static struct node *parse_if(struct parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct node *first = node_create(p, NODE_IF, p->token->line), *n = first;
    p->token++;
    p->soft++;
    for (;;) {
        n->a = parse_tuple(p, (struct tuple_rules){.no_condition = true});
        n->body = parse_body(p, ends);
        const struct token *t = p->token++;
        if (string_equals(t->value.string, "elif")) {
            struct node *next = node_create(p, NODE_IF, t->line);
            nodes_push(p->j, &n->otherwise, next);
            n = next;
            continue;
        }
        if (string_equals(t->value.string, "else")) n->otherwise = parse_whole_body(p, "endif");
        p->soft--;
        return first;
    }
}

static struct node *parse_for(struct parser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    struct node *n = node_create(p, NODE_FOR, p->token->line);
    p->token++;
    p->any_loops++;
    const int soft = p->soft;
    n->a = parse_target(p, false, "in");
    expect_name(p, "in");
    n->b = parse_tuple(p, (struct tuple_rules){.no_condition = true, .end = "recursive"});
    p->soft = 0; // a new frame is not soft, whatever it stands in
    if (parser_skip_name(p, "if")) n->c = parse_expression(p, true);
    n->flag = parser_skip_name(p, "recursive");
    p->loops++;
    n->body = parse_body(p, ends);
    p->loops--;
    if (string_equals((p->token++)->value.string, "else")) n->otherwise = parse_whole_body(p, "endfor");
    p->soft = soft;
    p->any_loops--;
    return n;
}

static struct node *parse_set(struct parser *p)
{
    const int line = p->token->line;
    p->token++;
    struct node *target = parse_target(p, true, NULL), *n;
    if (parser_skip_operator(p, "=")) {
        n = node_create(p, NODE_SET, line);
        n->b = parse_tuple(p, (struct tuple_rules){0});
    } else {
        n = node_create(p, NODE_SET_BLOCK, line);
        const int soft = p->soft;
        p->soft = 0;
        n->b = parse_filter(p, NULL, false);
        n->body = parse_whole_body(p, "endset");
        p->soft = soft;
    }
    n->a = target;
    return n;
}

static void parse_parameters(struct parser *p, struct macro_source *m)
{
    bool defaults = false;
    parser_expect_operator(p, "(");
    while (!parser_at_operator(p, ")")) {
        if (m->parameter.n) parser_expect_operator(p, ",");
        struct node *name = parse_name_target(p);
        for (int64_t i = 0; i < m->parameter.n; i++)
            if (string_same(m->parameter.at[i]->name, name->name)) parser_fail(p, name->line, "duplicate argument '%.*s' in function definition", (int)name->name->len, name->name->s);
        if (parser_skip_operator(p, "=")) {
            name->a = parse_expression(p, true);
            defaults = true;
        } else if (defaults) {
            parser_fail(p, name->line, "non-default argument follows default argument");
        }
        nodes_push(p->j, &m->parameter, name);
    }
    parser_expect_operator(p, ")");
}

/* The body of a macro, a call block or a generation block: a function of its own. */
static void parse_macro_body(struct parser *p, struct macro_source *m, const char *end, int line)
{
    const int loops = p->loops;
    p->loops = 0;
    m->body = parse_whole_body(p, end);
    p->loops = loops;
    m->uses_caller = nodes_read_name(&m->body, "caller");
    m->uses_kwargs = nodes_read_name(&m->body, "kwargs");
    m->uses_varargs = nodes_read_name(&m->body, "varargs");
    for (int64_t i = 0; i < m->parameter.n; i++) {
        const struct node *parameter = m->parameter.at[i];
        if (string_equals(parameter->name, "kwargs")) m->uses_kwargs = false;
        if (string_equals(parameter->name, "varargs")) m->uses_varargs = false;
        if (!string_equals(parameter->name, "caller")) continue;
        m->explicit_caller = true;
        if (m->uses_caller && !parameter->a)
            parser_fail(p, line, "When defining macros or call blocks the special \"caller\" argument must be omitted or be given a default.");
    }
}

static struct node *parse_macro(struct parser *p)
{
    struct node *n = node_create(p, NODE_MACRO, p->token->line);
    const int soft = p->soft;
    p->token++;
    p->soft = 0;
    n->macro = jinja_take(p->j, 1, sizeof *n->macro);
    n->name = n->macro->name = parse_name_target(p)->name;
    parse_parameters(p, n->macro);
    parse_macro_body(p, n->macro, "endmacro", n->line);
    p->soft = soft;
    return n;
}

static struct node *parse_call_block(struct parser *p)
{
    struct node *n = node_create(p, NODE_CALL_BLOCK, p->token->line);
    const int soft = p->soft;
    p->token++;
    n->macro = jinja_take(p->j, 1, sizeof *n->macro);
    if (parser_at_operator(p, "(")) parse_parameters(p, n->macro);
    n->a = parse_expression(p, true);
    if (n->a->kind != NODE_CALL) parser_fail(p, n->line, "expected call");
    p->soft = 0;
    parse_macro_body(p, n->macro, "endcall", n->line);
    p->soft = soft;
    return n;
}

static struct node *parse_generation(struct parser *p)
{
    struct node *n = node_create(p, NODE_GENERATION, p->token->line);
    const int soft = p->soft;
    struct macro_source m = {0};
    p->token++;
    p->soft = 0;
    parse_macro_body(p, &m, "endgeneration", n->line);
    p->soft = soft;
    n->body = m.body;
    return n;
}

static struct node *parse_with(struct parser *p)
{
    struct node *n = node_create(p, NODE_WITH, p->token->line);
    const int soft = p->soft;
    p->token++;
    while (p->token->type != TOKEN_BLOCK_END) {
        if (n->child.n) parser_expect_operator(p, ",");
        nodes_push(p->j, &n->child, parse_target(p, false, NULL));
        parser_expect_operator(p, "=");
        nodes_push(p->j, &n->child, parse_expression(p, true));
    }
    p->soft = 0;
    n->body = parse_whole_body(p, "endwith");
    p->soft = soft;
    return n;
}

static struct node *parse_block(struct parser *p)
{
    struct node *n = node_create(p, NODE_BLOCK, p->token->line);
    const int soft = p->soft, loops = p->loops;
    p->token++;
    n->name = parser_expect(p, TOKEN_NAME, "name")->value.string;
    n->flag = parser_skip_name(p, "scoped");
    if (parser_skip_name(p, "required")) parser_fail(p, n->line, "Required block '%.*s' not found", (int)n->name->len, n->name->s);
    p->soft = p->loops = 0;
    n->body = parse_whole_body(p, "endblock");
    p->soft = soft;
    p->loops = loops;
    if (p->token->type == TOKEN_NAME && string_same(p->token->value.string, n->name)) p->token++;
    return n;
}

static struct node *parse_filter_block(struct parser *p)
{
    struct node *n = node_create(p, NODE_FILTER_BLOCK, p->token->line);
    const int soft = p->soft;
    p->token++;
    p->soft = 0;
    n->b = parse_filter(p, NULL, true);
    n->body = parse_whole_body(p, "endfilter");
    p->soft = soft;
    return n;
}

static struct node *parse_print(struct parser *p, struct nodes *out)
{
    p->token++;
    for (int i = 0; p->token->type != TOKEN_BLOCK_END; i++) {
        if (i) parser_expect_operator(p, ",");
        struct node *n = node_create(p, NODE_OUTPUT, p->token->line);
        n->a = parse_expression(p, true);
        nodes_push(p->j, out, n);
    }
    return NULL;
}

static struct node *parse_autoescape(struct parser *p)
{
    struct node *n = node_create(p, NODE_AUTOESCAPE, p->token->line);
    p->token++;
    n->a = parse_expression(p, true);
    n->body = parse_whole_body(p, "endautoescape");
    return n;
}

/* include, import, from, extends: chat templates have no loader, so that running one fails. */
static struct node *parse_loader(struct parser *p)
{
    struct node *n = node_create(p, NODE_LOADER, p->token->line);
    p->token++;
    n->a = parse_expression(p, true);
    while (p->token->type != TOKEN_BLOCK_END && p->token->type != TOKEN_END) p->token++;
    return n;
}

static struct node *parse_loop_control(struct parser *p, enum node_kind kind)
{
    const struct token *t = p->token++;
    if (!p->loops) parser_fail(p, t->line, "'%.20s' outside loop", token_text(p->j, t));
    return node_create(p, kind, t->line);
}

/* One statement; those that give several nodes (print) push them themselves and return NULL. */
static struct node *parse_statement(struct parser *p, struct nodes *out, const char *const *end)
{
    static const struct {
        const char *tag;
        struct node *(*parse)(struct parser *);
    } statements[] = {
        {"if", parse_if}, {"for", parse_for}, {"set", parse_set}, {"macro", parse_macro}, {"call", parse_call_block}, {"generation", parse_generation}, {"with", parse_with},
        {"block", parse_block}, {"filter", parse_filter_block}, {"autoescape", parse_autoescape}, {"include", parse_loader}, {"import", parse_loader}, {"from", parse_loader}, {"extends", parse_loader},
    };
    if (p->token->type != TOKEN_NAME) parser_fail(p, p->token->line, "tag name expected");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (parser_at_name(p, statements[i].tag)) return statements[i].parse(p);
    if (parser_at_name(p, "print")) return parse_print(p, out);
    if (parser_at_name(p, "break")) return parse_loop_control(p, NODE_BREAK);
    if (parser_at_name(p, "continue")) return parse_loop_control(p, NODE_CONTINUE);
    parser_fail(p, p->token->line, "Encountered unknown tag '%.100s'.%s%s%s", token_text(p->j, p->token), end ? " Jinja was looking for the following tags: '" : "", end ? end[0] : "", end ? "'." : "");
}

static struct nodes parse_until(struct parser *p, const char *const *end)
{
    struct nodes body = {0};
    if (++p->nesting > JINJA_MAX_NESTING) parser_fail(p, p->token->line, "too many nested blocks");
    while (p->token->type != TOKEN_END) {
        const struct token *t = p->token++;
        if (t->type == TOKEN_DATA) {
            struct node *n = node_create(p, NODE_TEXT, t->line);
            n->constant = t->value;
            nodes_push(p->j, &body, n);
        } else if (t->type == TOKEN_VARIABLE_BEGIN) {
            struct node *n = node_create(p, NODE_OUTPUT, t->line);
            n->a = parse_tuple(p, (struct tuple_rules){0});
            parser_expect(p, TOKEN_VARIABLE_END, "end of print statement");
            nodes_push(p->j, &body, n);
        } else {
            for (int i = 0; end && end[i]; i++)
                if (parser_at_name(p, end[i])) {
                    p->nesting--;
                    return body;
                }
            struct node *n = parse_statement(p, &body, end);
            if (n) nodes_push(p->j, &body, n);
            parser_expect(p, TOKEN_BLOCK_END, "end of statement block");
        }
    }
    p->nesting--;
    return body;
}

struct nodes parser_run(struct jinja *j, const struct tokens *tokens)
{
    struct parser p = {.j = j, .token = tokens->token};
    struct nodes body = parse_until(&p, NULL);
    if (p.unknown.n) {
        const struct node *n = p.unknown.at[0];
        parser_fail(&p, n->line, "No %s named '%.*s'.", n->kind == NODE_FILTER ? "filter" : "test", (int)n->name->len, n->name->s);
    }
    return body;
}
