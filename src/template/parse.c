/* Jinja to nodes: trim_blocks and lstrip_blocks on, as transformers sets them. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "template/ast.h"

enum { MAX_DEPTH = 200 };
enum token_kind { TOKEN_END, TOKEN_NAME, TOKEN_STRING, TOKEN_NUMBER, TOKEN_OPERATOR };

struct parser {
    struct ast *t;
    const char *s, *end; /* the source; inside a tag: its end */
    const char *at;
    enum token_kind kind; /* of the token ahead */
    struct buf text;      /* its text */
    bool real;            /* a number with a point or an exponent */
    int line, depth;
    sail_err *err;
    bool failed, trim_next; /* trim_next: the tag before ended in -%} */
    const char *after_tag;  /* where text goes on behind the tag that is being read */
    bool after_trim;
};

static void fail(struct parser *p, const char *what, const char *got)
{
    if (!p->failed) err_set(p->err, SAIL_FAILED, "template line %d: %s%s%s", p->line, what, got && *got ? ", got " : "", got ? got : "");
    p->failed = true;
}

static struct node *make(struct parser *p, enum node_kind kind)
{
    struct node *n;
    if (mem_alloc(&n, 1, sizeof *n, p->err) || mem_grow(&p->t->pool, p->t->n, &p->t->capacity, sizeof *p->t->pool, p->err)) {
        p->failed = true;
        static struct node nothing;
        return &nothing;
    }
    n->kind = kind;
    n->line = p->line;
    return p->t->pool[p->t->n++] = n;
}

static void push(struct parser *p, struct node ***list, size_t *n, struct node *x)
{
    struct node **grown = realloc(*list, (*n + 1) * sizeof *grown);
    if (!grown) {
        fail(p, "out of memory", NULL);
        return;
    }
    grown[(*n)++] = x;
    *list = grown;
}

static void push_argument(struct parser *p, struct node *call, char *keyword, struct node *x)
{
    char **grown = realloc(call->keyword, (call->n + 1) * sizeof *grown);
    if (!grown) {
        fail(p, "out of memory", NULL);
        free(keyword);
        return;
    }
    grown[call->n] = keyword;
    call->keyword = grown;
    push(p, &call->list, &call->n, x);
}

void ast_free(struct ast *t)
{
    for (size_t i = 0; i < t->n; i++) {
        struct node *n = t->pool[i];
        for (size_t k = 0; n->keyword && k < n->n; k++) free(n->keyword[k]);
        free(n->keyword);
        free(n->name);
        json_decref(n->value);
        free(n->list);
        free(n->body);
        free(n->other);
        free(n);
    }
    free(t->pool);
    free(t->body);
    *t = (struct ast){0};
}

/* ---------------------------------------------------------------- tokens inside a tag */

static void string_token(struct parser *p)
{
    const char quote = *p->at++;
    for (; p->at < p->end && *p->at != quote; p->at++) {
        char c = *p->at;
        if (c == '\n') p->line++;
        if (c == '\\' && p->at + 1 < p->end) {
            c = *++p->at;
            static const char from[] = "ntrbf", to[] = "\n\t\r\b\f";
            const char *e = strchr(from, c);
            if (e && c) c = to[e - from];
            else if (c == 'u' && p->end - p->at > 4) { // \uXXXX
                char hex[5] = {p->at[1], p->at[2], p->at[3], p->at[4], 0}, json[16];
                snprintf(json, sizeof json, "\"\\u%s\"", hex);
                json_t *v = json_loads(json, JSON_DECODE_ANY, NULL);
                if (v) {
                    buf_puts(&p->text, json_string_value(v));
                    json_decref(v);
                    p->at += 4;
                    continue;
                }
            } else if (c != '\\' && c != '\'' && c != '"') {
                buf_putc(&p->text, '\\');
            }
        }
        buf_putc(&p->text, c);
    }
    if (p->at >= p->end) fail(p, "a string is not closed", NULL);
    p->at++;
    p->kind = TOKEN_STRING;
}

static void next(struct parser *p)
{
    buf_clear(&p->text);
    buf_puts(&p->text, "");
    while (p->at < p->end && isspace((unsigned char)*p->at)) p->line += *p->at++ == '\n';
    if (p->at >= p->end) {
        p->kind = TOKEN_END;
        return;
    }
    const unsigned char c = (unsigned char)*p->at;
    if (c == '"' || c == '\'') {
        string_token(p);
    } else if (isdigit(c)) {
        p->kind = TOKEN_NUMBER;
        p->real = false;
        while (p->at < p->end && (isdigit((unsigned char)*p->at) || *p->at == '_' || (*p->at == '.' && p->at + 1 < p->end && isdigit((unsigned char)p->at[1])) || ((*p->at == 'e' || *p->at == 'E')))) {
            if (*p->at == '.' || *p->at == 'e' || *p->at == 'E') p->real = true;
            if (*p->at != '_') buf_putc(&p->text, *p->at);
            p->at++;
        }
    } else if (isalpha(c) || c == '_' || c >= 0x80) {
        p->kind = TOKEN_NAME;
        while (p->at < p->end && (isalnum((unsigned char)*p->at) || *p->at == '_' || (unsigned char)*p->at >= 0x80)) buf_putc(&p->text, *p->at++);
    } else {
        static const char *const twos[] = {"==", "!=", "<=", ">=", "//", "**"};
        p->kind = TOKEN_OPERATOR;
        size_t n = 1;
        for (size_t i = 0; i < sizeof twos / sizeof *twos; i++)
            if (p->end - p->at >= 2 && !strncmp(p->at, twos[i], 2)) n = 2;
        buf_append(&p->text, p->at, n);
        p->at += n;
    }
}

static bool is(const struct parser *p, const char *text) { return (p->kind == TOKEN_OPERATOR || p->kind == TOKEN_NAME) && !strcmp(p->text.data, text); }

static bool take(struct parser *p, const char *text)
{
    if (p->failed || !is(p, text)) return false;
    next(p);
    return true;
}

static void expect(struct parser *p, const char *text)
{
    if (take(p, text)) return;
    char what[64];
    snprintf(what, sizeof what, "expected '%s'", text);
    fail(p, what, p->kind == TOKEN_END ? "the tag's end" : p->text.data);
}

static char *take_name(struct parser *p)
{
    if (p->kind != TOKEN_NAME) fail(p, "expected a name", p->kind == TOKEN_END ? "the tag's end" : p->text.data);
    char *name = mem_strdup(p->text.data ? p->text.data : "");
    next(p);
    return name;
}

/* ---------------------------------------------------------------- expressions */

static struct node *expression(struct parser *p);
static struct node *unary(struct parser *p);

static struct node *literal(struct parser *p, json_t *v)
{
    struct node *n = make(p, EXPR_LITERAL);
    n->value = v;
    return n;
}

static void arguments(struct parser *p, struct node *call)
{
    while (!p->failed && !is(p, ")")) {
        char *keyword = NULL;
        if (p->kind == TOKEN_NAME) { // name = value?
            const char *look = p->at;
            while (look < p->end && isspace((unsigned char)*look)) look++;
            if (look < p->end && *look == '=' && look + 1 < p->end && look[1] != '=') {
                keyword = take_name(p);
                expect(p, "=");
            }
        }
        push_argument(p, call, keyword, expression(p));
        if (!take(p, ",")) break;
    }
    expect(p, ")");
}

static struct node *primary(struct parser *p)
{
    struct node *n;
    if (p->kind == TOKEN_STRING) {
        struct buf all;
        buf_init(&all, 0);
        buf_puts(&all, "");
        while (p->kind == TOKEN_STRING && !p->failed) { // neighbours join
            buf_append(&all, p->text.data ? p->text.data : "", p->text.len);
            next(p);
        }
        n = literal(p, json_stringn(all.data, all.len));
        buf_release(&all);
        return n;
    }
    if (p->kind == TOKEN_NUMBER) {
        n = literal(p, p->real ? json_real(strtod(p->text.data, NULL)) : json_integer(strtoll(p->text.data, NULL, 10)));
        next(p);
        return n;
    }
    if (take(p, "(")) {
        if (is(p, ")")) {
            next(p);
            return make(p, EXPR_LIST);
        }
        n = expression(p);
        if (is(p, ",")) {
            struct node *tuple = make(p, EXPR_LIST);
            push(p, &tuple->list, &tuple->n, n);
            while (take(p, ",") && !is(p, ")")) push(p, &tuple->list, &tuple->n, expression(p));
            n = tuple;
        }
        expect(p, ")");
        return n;
    }
    if (take(p, "[")) {
        n = make(p, EXPR_LIST);
        while (!p->failed && !is(p, "]")) {
            push(p, &n->list, &n->n, expression(p));
            if (!take(p, ",")) break;
        }
        expect(p, "]");
        return n;
    }
    if (take(p, "{")) {
        n = make(p, EXPR_DICT);
        while (!p->failed && !is(p, "}")) {
            push(p, &n->list, &n->n, expression(p));
            expect(p, ":");
            push(p, &n->list, &n->n, expression(p));
            if (!take(p, ",")) break;
        }
        expect(p, "}");
        return n;
    }
    if (p->kind != TOKEN_NAME) {
        fail(p, "expected a value", p->kind == TOKEN_END ? "the tag's end" : p->text.data);
        return make(p, EXPR_LITERAL);
    }
    if (is(p, "true") || is(p, "True") || is(p, "false") || is(p, "False")) {
        n = literal(p, json_boolean(p->text.data[0] == 't' || p->text.data[0] == 'T'));
        next(p);
        return n;
    }
    if (is(p, "none") || is(p, "None")) {
        next(p);
        return literal(p, json_null());
    }
    n = make(p, EXPR_NAME);
    n->name = take_name(p);
    return n;
}

static struct node *subscript(struct parser *p, struct node *of)
{
    struct node *n = make(p, EXPR_ITEM), *first = is(p, ":") ? NULL : expression(p);
    n->a = of;
    n->b = first;
    if (is(p, ":")) { // from : to : step
        n->kind = EXPR_SLICE;
        next(p);
        if (!is(p, ":") && !is(p, "]")) n->c = expression(p);
        if (take(p, ":") && !is(p, "]")) push(p, &n->list, &n->n, expression(p));
    }
    expect(p, "]");
    return n;
}

static struct node *postfix(struct parser *p, struct node *n)
{
    while (!p->failed) {
        struct node *of = n;
        if (take(p, ".")) {
            n = make(p, EXPR_ATTRIBUTE);
            n->a = of;
            if (p->kind == TOKEN_NUMBER) {
                n->kind = EXPR_ITEM;
                n->b = primary(p);
            } else {
                n->name = take_name(p);
            }
        } else if (take(p, "[")) {
            n = subscript(p, of);
        } else if (take(p, "(")) {
            n = make(p, EXPR_CALL);
            n->a = of;
            arguments(p, n);
        } else {
            break;
        }
    }
    return n;
}

static struct node *filters(struct parser *p, struct node *n)
{
    while (!p->failed && (is(p, "|") || is(p, "is"))) {
        struct node *of = n;
        const bool test = is(p, "is");
        next(p);
        n = make(p, test ? EXPR_TEST : EXPR_FILTER);
        n->a = of;
        n->negated = test && take(p, "not");
        n->name = take_name(p);
        if (take(p, "("))
            arguments(p, n);
        else if (test && (p->kind == TOKEN_STRING || p->kind == TOKEN_NUMBER || (p->kind == TOKEN_NAME && !is(p, "and") && !is(p, "or") && !is(p, "else") && !is(p, "if") && !is(p, "is") && !is(p, "not") && !is(p, "in"))))
            push_argument(p, n, NULL, postfix(p, primary(p)));
    }
    return n;
}

static struct node *unary(struct parser *p)
{
    if (++p->depth > MAX_DEPTH) fail(p, "nested too deeply", NULL);
    struct node *n;
    if (!p->failed && (is(p, "-") || is(p, "+"))) {
        const bool minus = is(p, "-");
        next(p);
        n = unary(p);
        if (minus) {
            struct node *m = make(p, EXPR_NEGATE);
            m->a = n;
            n = m;
        }
    } else {
        n = p->failed ? make(p, EXPR_LITERAL) : postfix(p, primary(p));
        if (take(p, "**")) {
            struct node *m = make(p, EXPR_BINARY);
            m->name = mem_strdup("**");
            m->a = n;
            m->b = unary(p);
            n = m;
        }
    }
    p->depth--;
    return filters(p, n);
}

static struct node *binary(struct parser *p, const char *const *operators, int n_operator, struct node *(*below)(struct parser *))
{
    struct node *n = below(p);
    for (int i = 0; !p->failed && i < n_operator;) {
        if (!is(p, operators[i])) {
            i++;
            continue;
        }
        struct node *m = make(p, EXPR_BINARY);
        m->name = mem_strdup(operators[i]);
        next(p);
        m->a = n;
        m->b = below(p);
        n = m;
        i = 0;
    }
    return n;
}

static struct node *product(struct parser *p)
{
    static const char *const o[] = {"*", "/", "//", "%"};
    return binary(p, o, 4, unary);
}
static struct node *concatenation(struct parser *p)
{
    static const char *const o[] = {"~"};
    return binary(p, o, 1, product);
}
static struct node *sum(struct parser *p)
{
    static const char *const o[] = {"+", "-"};
    return binary(p, o, 2, concatenation);
}

/* a < b < c: operands in list, operators as names of EXPR_NAME nodes' keywords */
static struct node *comparison(struct parser *p)
{
    struct node *n = sum(p), *m = NULL;
    static const char *const o[] = {"==", "!=", "<=", ">=", "<", ">"};
    while (!p->failed) {
        const char *op = NULL;
        for (int i = 0; i < 6; i++)
            if (is(p, o[i])) op = o[i];
        if (is(p, "in")) op = "in";
        if (is(p, "not")) { // not in
            const char *look = p->at;
            while (look < p->end && isspace((unsigned char)*look)) look++;
            if (p->end - look >= 2 && !strncmp(look, "in", 2)) {
                next(p);
                op = "not in";
            }
        }
        if (!op) break;
        char *name = mem_strdup(op);
        next(p);
        if (!m) {
            m = make(p, EXPR_COMPARE);
            m->a = n;
        }
        push_argument(p, m, name, sum(p));
    }
    return m ? m : n;
}

static struct node *negation(struct parser *p)
{
    if (!take(p, "not")) return comparison(p);
    if (++p->depth > MAX_DEPTH) fail(p, "nested too deeply", NULL);
    struct node *n = make(p, EXPR_NOT);
    n->a = negation(p);
    p->depth--;
    return n;
}

static struct node *conjunction(struct parser *p)
{
    struct node *n = negation(p);
    while (take(p, "and")) {
        struct node *m = make(p, EXPR_AND);
        m->a = n;
        m->b = negation(p);
        n = m;
    }
    return n;
}

static struct node *disjunction(struct parser *p)
{
    struct node *n = conjunction(p);
    while (take(p, "or")) {
        struct node *m = make(p, EXPR_OR);
        m->a = n;
        m->b = conjunction(p);
        n = m;
    }
    return n;
}

static struct node *expression(struct parser *p)
{
    if (++p->depth > MAX_DEPTH) fail(p, "nested too deeply", NULL);
    struct node *n = disjunction(p);
    while (take(p, "if")) { // value if condition else other
        struct node *m = make(p, EXPR_CHOOSE);
        m->a = disjunction(p);
        m->b = n;
        if (take(p, "else")) m->c = expression(p);
        n = m;
    }
    p->depth--;
    return n;
}

/* a, b: a tuple */
static struct node *expression_list(struct parser *p)
{
    struct node *n = expression(p);
    if (!is(p, ",")) return n;
    struct node *tuple = make(p, EXPR_LIST);
    push(p, &tuple->list, &tuple->n, n);
    while (take(p, ",") && p->kind != TOKEN_END) push(p, &tuple->list, &tuple->n, expression(p));
    return tuple;
}

/* ---------------------------------------------------------------- statements */

/* Finds the end of a tag; strings may hold the mark. */
static const char *tag_end(const char *s, const char *end, const char *mark, bool strings)
{
    char quote = 0;
    for (; s + 2 <= end; s++) {
        if (quote) {
            if (*s == '\\') s++;
            else if (*s == quote) quote = 0;
        } else if (strings && (*s == '"' || *s == '\'')) {
            quote = *s;
        } else if (!strncmp(s, mark, 2)) {
            return s;
        }
    }
    return NULL;
}

struct tag { /* what ended a body: its first word is the token ahead */
    char word[16];
};
static void statements(struct parser *p, struct node ***body, size_t *n, struct tag *ended);

static void add_text(struct parser *p, struct node ***body, size_t *n, const char *from, const char *to)
{
    if (from >= to) return;
    struct node *t = make(p, STMT_TEXT);
    t->value = json_stringn_nocheck(from, (size_t)(to - from));
    push(p, body, n, t);
}

static void leave_tag(struct parser *p)
{
    if (p->failed || p->kind == TOKEN_END) return;
    fail(p, "expected the tag's end", p->text.data);
}

static void parse_if(struct parser *p, struct node *n)
{
    struct tag ended;
    n->a = expression(p);
    leave_tag(p);
    statements(p, &n->body, &n->n_body, &ended);
    if (!strcmp(ended.word, "elif")) {
        struct node *m = make(p, STMT_IF);
        if (++p->depth > MAX_DEPTH) fail(p, "nested too deeply", NULL);
        parse_if(p, m);
        p->depth--;
        push(p, &n->other, &n->n_other, m);
        return;
    }
    if (!strcmp(ended.word, "else")) {
        leave_tag(p);
        statements(p, &n->other, &n->n_other, &ended);
    }
    if (strcmp(ended.word, "endif")) fail(p, "expected endif", ended.word);
}

static void parse_for(struct parser *p, struct node *n)
{
    struct tag ended;
    do {
        const bool parenthesis = take(p, "(");
        struct node *target = make(p, EXPR_NAME);
        target->name = take_name(p);
        push(p, &n->list, &n->n, target);
        if (parenthesis || is(p, ")")) take(p, ")");
    } while (take(p, ","));
    take(p, ")");
    expect(p, "in");
    n->a = disjunction(p);
    if (take(p, "if")) n->b = expression(p);
    n->recursive = take(p, "recursive");
    leave_tag(p);
    statements(p, &n->body, &n->n_body, &ended);
    if (!strcmp(ended.word, "else")) {
        leave_tag(p);
        statements(p, &n->other, &n->n_other, &ended);
    }
    if (strcmp(ended.word, "endfor")) fail(p, "expected endfor", ended.word);
}

static void parse_set(struct parser *p, struct node *n)
{
    do {
        push(p, &n->list, &n->n, postfix(p, primary(p)));
    } while (take(p, ","));
    if (take(p, "=")) {
        n->a = expression_list(p);
        leave_tag(p);
        return;
    }
    n->kind = STMT_SET_BLOCK;
    struct node *dummy = make(p, EXPR_NAME);
    n->a = is(p, "|") ? filters(p, dummy) : NULL;
    leave_tag(p);
    struct tag ended;
    statements(p, &n->body, &n->n_body, &ended);
    if (strcmp(ended.word, "endset")) fail(p, "expected endset", ended.word);
}

static void parse_parameters(struct parser *p, struct node *n)
{
    while (!p->failed && !is(p, ")")) {
        struct node *parameter = make(p, EXPR_NAME);
        parameter->name = take_name(p);
        if (take(p, "=")) parameter->a = expression(p);
        push(p, &n->list, &n->n, parameter);
        if (!take(p, ",")) break;
    }
    expect(p, ")");
}

static void body_until(struct parser *p, struct node *n, const char *word)
{
    struct tag ended;
    leave_tag(p);
    statements(p, &n->body, &n->n_body, &ended);
    if (strcmp(ended.word, word)) fail(p, "a block is not closed, expected", word);
}

/* One {% ... %}; true when it ends the body that it stands in. */
static bool parse_tag(struct parser *p, struct node ***body, size_t *n, struct tag *ended)
{
    static const char *const enders[] = {"endif", "else", "elif", "endfor", "endset", "endmacro", "endcall", "endfilter", "endgeneration"};
    for (size_t i = 0; i < sizeof enders / sizeof *enders; i++)
        if (is(p, enders[i])) {
            snprintf(ended->word, sizeof ended->word, "%s", enders[i]);
            next(p);
            return true;
        }
    struct node *s = make(p, STMT_BLOCK);
    push(p, body, n, s);
    if (++p->depth > MAX_DEPTH) fail(p, "nested too deeply", NULL);
    if (take(p, "if")) {
        s->kind = STMT_IF;
        parse_if(p, s);
    } else if (take(p, "for")) {
        s->kind = STMT_FOR;
        parse_for(p, s);
    } else if (take(p, "set")) {
        s->kind = STMT_SET;
        parse_set(p, s);
    } else if (take(p, "macro")) {
        s->kind = STMT_MACRO;
        s->name = take_name(p);
        expect(p, "(");
        parse_parameters(p, s);
        body_until(p, s, "endmacro");
    } else if (take(p, "call")) {
        s->kind = STMT_CALL;
        if (take(p, "(")) parse_parameters(p, s);
        s->a = expression(p);
        body_until(p, s, "endcall");
    } else if (take(p, "filter")) {
        s->kind = STMT_FILTER;
        struct node *f = make(p, EXPR_FILTER);
        f->name = take_name(p);
        f->a = make(p, EXPR_NAME);
        if (take(p, "(")) arguments(p, f);
        s->a = filters(p, f);
        body_until(p, s, "endfilter");
    } else if (take(p, "generation")) {
        body_until(p, s, "endgeneration");
    } else if (take(p, "break")) {
        s->kind = STMT_BREAK;
    } else if (take(p, "continue")) {
        s->kind = STMT_CONTINUE;
    } else {
        fail(p, "unknown tag", p->kind == TOKEN_END ? "nothing" : p->text.data);
    }
    p->depth--;
    return false;
}

/* Text from the current place to the next tag, with the white space that the marks and the two options take away. */
static const char *plain_text(struct parser *p, const char *s, const char *all_end, const char **tag)
{
    const char *t = s;
    while (t < all_end && !(t + 1 < all_end && t[0] == '{' && (t[1] == '{' || t[1] == '%' || t[1] == '#'))) p->line += *t++ == '\n';
    *tag = t;
    const char *to = t;
    if (t < all_end) {
        const char mark = t + 2 < all_end ? t[2] : 0;
        if (mark == '-') {
            while (to > s && isspace((unsigned char)to[-1])) to--;
        } else if (t[1] != '{' && mark != '+') { // lstrip_blocks: blanks from the line's start to the tag
            const char *b = to;
            while (b > s && (b[-1] == ' ' || b[-1] == '\t')) b--;
            if (b == s ? (s == p->s || s[-1] == '\n') : b[-1] == '\n') to = b;
        }
    }
    return to;
}

static void statements(struct parser *p, struct node ***body, size_t *n, struct tag *ended)
{
    const char *all_end = p->s + strlen(p->s);
    ended->word[0] = '\0';
    if (p->after_tag) { // the tag that opened this body has been read
        p->end = p->after_tag;
        p->trim_next = p->after_trim;
        p->after_tag = NULL;
    }
    while (!p->failed) {
        const char *s = p->end, *tag; // behind the last tag
        if (p->trim_next)
            while (s < all_end && isspace((unsigned char)*s)) p->line += *s++ == '\n';
        p->trim_next = false;
        const char *to = plain_text(p, s, all_end, &tag);
        add_text(p, body, n, s, to);
        if (tag >= all_end) {
            p->end = all_end;
            return;
        }
        const char kind = tag[1], *inner = tag + 2, *close = tag_end(inner, all_end, kind == '{' ? "}}" : kind == '%' ? "%}" : "#}", kind != '#');
        if (!close) {
            fail(p, "a tag is not closed", NULL);
            return;
        }
        const bool trim = close > inner && close[-1] == '-', plus = close > inner && close[-1] == '+';
        const char *inner_end = close - (trim || plus), *after = close + 2;
        if (inner < inner_end && (*inner == '-' || *inner == '+')) inner++;
        if (kind != '{' && !plus && !trim && after < all_end && *after == '\n') { // trim_blocks
            after++;
            p->line++;
        }
        if (kind == '#') {
            p->end = after;
            p->trim_next = trim;
            continue;
        }
        const char *keep = after;
        p->at = inner;
        p->end = inner_end;
        next(p);
        if (kind == '{') {
            struct node *o = make(p, STMT_OUTPUT);
            o->a = expression_list(p);
            leave_tag(p);
            push(p, body, n, o);
            p->end = keep;
            p->trim_next = trim;
            continue;
        }
        // A nested body reads on from behind this tag: the tag's own tokens end at inner_end, so they are read first.
        if (is(p, "raw")) {
            const char *e = strstr(keep, "endraw"), *open = e;
            while (open && open > keep && strncmp(open, "{%", 2)) open--;
            const char *done = e ? tag_end(e, all_end, "%}", false) : NULL;
            if (!done) {
                fail(p, "raw is not closed", NULL);
                return;
            }
            add_text(p, body, n, keep, open);
            p->end = done + 2;
            continue;
        }
        p->after_tag = keep;
        p->after_trim = trim;
        if (parse_tag(p, body, n, ended)) return;
        if (p->after_tag) { // the tag had no body
            p->end = p->after_tag;
            p->trim_next = p->after_trim;
            p->after_tag = NULL;
        }
    }
}

int ast_parse(struct ast *t, const char *source, sail_err *err)
{
    *t = (struct ast){0};
    struct parser p = {.t = t, .s = source, .end = source, .line = 1, .err = err};
    struct tag ended;
    buf_init(&p.text, 1 << 22);
    statements(&p, &t->body, &t->n_body, &ended);
    if (!p.failed && ended.word[0]) fail(&p, "unexpected tag", ended.word);
    buf_release(&p.text);
    if (p.failed) ast_free(t);
    return p.failed ? SAIL_FAILED : SAIL_OK;
}
