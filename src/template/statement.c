/* Statements, scopes and macros. */
#include <string.h>

#include "base/err.h"
#include "template/eval.h"

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

static enum flow exec_list(struct run *r, const struct nodes *body);

struct scope *scope_enter(struct run *r, struct scope *outer)
{
    struct scope *s = jinja_take(r->j, 1, sizeof *s);
    s->outer = outer;
    r->scope = s;
    return s;
}

void scope_set(struct run *r, struct scope *s, const struct string *name, struct value v)
{
    for (struct binding *b = s->first; b; b = b->next)
        if (string_same(b->name, name)) {
            b->value = v;
            return;
        }
    struct binding *b = jinja_take(r->j, 1, sizeof *b);
    *b = (struct binding){name, v, s->first};
    s->first = b;
}

static void write(struct run *r, const char *s, size_t n)
{
    if (n > JINJA_MAX_OUTPUT - r->out->len) jinja_fail(r->j, "the output is too long: more than %zu MiB", JINJA_MAX_OUTPUT >> 20);
    text_append(r->out, s, n);
}

static void write_value(struct run *r, struct value v)
{
    if (v.type == VALUE_STRING) {
        write(r, v.string->s, v.string->len);
        return;
    }
    const struct string *s = value_str(r->j, v);
    write(r, s->s, s->len);
}

/* Runs the body in a scope of its own and gives its text, through the filter if there is one. */
static enum flow capture(struct run *r, const struct nodes *body, const struct node *filter, struct value *text)
{
    struct text t = text_start(r->j), *out = r->out;
    struct scope *scope = r->scope;
    r->out = &t;
    scope_enter(r, scope);
    const enum flow flow = exec_list(r, body);
    r->out = out;
    *text = text_value(&t);
    if (flow == FLOW_NEXT && filter) *text = eval_filter(r, filter, *text);
    r->scope = scope;
    return flow;
}

// ------------------------------------------------------------------------------------------------ assignment

static void check_namespaces(struct run *r, const struct node *target)
{
    struct value v;
    for (int64_t i = 0; target->kind == NODE_TUPLE && i < target->child.n; i++) check_namespaces(r, target->child.at[i]);
    if (target->kind != NODE_NAMESPACE_TARGET) return;
    if (!scope_find(r->scope, target->name, &v) && !dict_get_name(r->j, r->variables, target->name, &v)) v = value_none();
    if (v.type != VALUE_NAMESPACE) jinja_fail(r->j, "cannot assign attribute on non-namespace object");
}

static void assign(struct run *r, const struct node *target, struct value v)
{
    struct value ns;
    switch (target->kind) {
    case NODE_NAME: scope_set(r, r->scope, target->name, v); return;
    case NODE_NAMESPACE_TARGET:
        if (target->constant.string->len && target->constant.string->s[0] == '_')
            jinja_fail(r->j, "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '%.*s'. Please rename the attribute.",
                       (int)target->constant.string->len, target->constant.string->s);
        if (!scope_find(r->scope, target->name, &ns)) dict_get_name(r->j, r->variables, target->name, &ns);
        dict_set(r->j, ns.dict, target->constant, v);
        return;
    default: break;
    }
    if (!value_is_iterable(v)) jinja_fail(r->j, "cannot unpack non-iterable %s object", value_type_name(v));
    struct iterator *it = value_iterate(r->j, v);
    struct list *items = list_create(r->j, target->child.n);
    struct value item;
    while (items->n <= target->child.n && iterator_next(r->j, it, &item)) list_push(r->j, items, item);
    if (items->n > target->child.n) jinja_fail(r->j, "too many values to unpack (expected %lld)", (long long)target->child.n);
    if (items->n < target->child.n) jinja_fail(r->j, "not enough values to unpack (expected %lld, got %lld)", (long long)target->child.n, (long long)items->n);
    for (int64_t i = 0; i < items->n; i++) assign(r, target->child.at[i], items->item[i]);
}

// ------------------------------------------------------------------------------------------------ loops

/* The items of a loop that pass its condition, one at a time: the condition may read what the body has set. */
struct loop_filter {
    const struct node *node;
    struct scope *scope;
    struct iterator *items;
};

static bool next_that_passes(struct jinja *j, struct iterator *it, struct value *out)
{
    struct loop_filter *f = it->state;
    struct run *r = run_of(j);
    while (iterator_next(j, f->items, out)) {
        struct scope *scope = r->scope;
        scope_enter(r, f->scope);
        assign(r, f->node->a, *out);
        const bool passes = value_truth(eval(r, f->node->c));
        r->scope = scope;
        if (passes) return true;
    }
    return false;
}

static enum flow run_loop(struct run *r, const struct node *n, struct value iterable, int64_t depth0, struct scope *outer)
{
    static const struct string loop_name = {.s = "loop", .len = 4, .n = 4};
    struct scope *scope = r->scope;
    if (n->c) {
        struct loop_filter *f = jinja_take(r->j, 1, sizeof *f);
        *f = (struct loop_filter){n, outer, value_iterate(r->j, iterable)};
        iterable = iterator_value(iterator_create(r->j, "generator", next_that_passes, f));
    }
    struct loop *loop = loop_create(r->j, iterable, value_iterate(r->j, iterable), depth0);
    loop->node = n->flag ? n : NULL;
    loop->scope = outer;
    bool finished_one = false; // as in Jinja, a body that breaks or continues every time leaves the else block to run
    enum flow flow = FLOW_NEXT;
    for (struct value item; flow != FLOW_BREAK && loop_next(r->j, loop, &item);) {
        struct scope *inner = scope_enter(r, outer);
        scope_set(r, inner, &loop_name, (struct value){.type = VALUE_LOOP, .loop = loop});
        assign(r, n->a, item);
        flow = exec_list(r, &n->body);
        if (flow == FLOW_NEXT) finished_one = true;
    }
    flow = FLOW_NEXT;
    if (!finished_one && n->otherwise.n) {
        scope_enter(r, outer);
        flow = exec_list(r, &n->otherwise); // a break here is the outer loop's
    }
    r->scope = scope;
    return flow;
}

struct value exec_for(struct run *r, const struct node *n, struct value iterable, int64_t depth0)
{
    struct text t = text_start(r->j), *out = r->out;
    r->out = &t;
    run_loop(r, n, iterable, depth0, r->scope);
    r->out = out;
    return text_value(&t);
}

// ------------------------------------------------------------------------------------------------ macros

static bool take_keyword(struct call *c, const struct string *name, struct value *out)
{
    for (int64_t i = 0; i < c->n_keyword; i++) {
        if (!string_same(c->keyword[i].name, name)) continue;
        *out = c->keyword[i].value;
        memmove(&c->keyword[i], &c->keyword[i + 1], (size_t)(c->n_keyword - i - 1) * sizeof *c->keyword);
        c->n_keyword--;
        return true;
    }
    return false;
}

static void bind_rest(struct run *r, struct scope *s, const struct macro_source *m, const struct string *name, struct call *rest)
{
    static const struct string caller = {.s = "caller", .len = 6, .n = 6}, kwargs = {.s = "kwargs", .len = 6, .n = 6}, varargs = {.s = "varargs", .len = 7, .n = 7};
    struct value v;
    if (m->uses_caller && !m->explicit_caller) scope_set(r, s, &caller, take_keyword(rest, &caller, &v) && v.type != VALUE_NONE ? v : undefined_printf(r->j, "No caller defined"));
    if (m->uses_kwargs) {
        struct dict *d = dict_create(r->j);
        for (int64_t i = 0; i < rest->n_keyword; i++) dict_set(r->j, d, value_string(rest->keyword[i].name), rest->keyword[i].value);
        scope_set(r, s, &kwargs, value_dict(d));
    } else if (rest->n_keyword) {
        if (take_keyword(rest, &caller, &v)) jinja_fail(r->j, "macro '%.*s' was invoked with two values for the special caller argument. This is most likely a bug.", (int)name->len, name->s);
        jinja_fail(r->j, "macro '%.*s' takes no keyword argument '%.*s'", (int)name->len, name->s, (int)rest->keyword[0].name->len, rest->keyword[0].name->s);
    }
    const int64_t extra = rest->n_positional - m->parameter.n;
    if (m->uses_varargs) {
        struct list *l = list_create(r->j, extra > 0 ? extra : 0);
        for (int64_t i = m->parameter.n; i < rest->n_positional; i++) list_push(r->j, l, rest->positional[i]);
        scope_set(r, s, &varargs, value_tuple(l));
    } else if (extra > 0) {
        jinja_fail(r->j, "macro '%.*s' takes not more than %lld argument(s)", (int)name->len, name->s, (long long)m->parameter.n);
    }
}

struct value macro_call(struct run *r, const struct macro *m, const struct call *c)
{
    static const struct string nameless = {.s = "None", .len = 4, .n = 4};
    const struct macro_source *source = m->source;
    const int64_t n = source->parameter.n;
    struct scope *scope = r->scope;
    struct text t = text_start(r->j), *out = r->out;
    jinja_enter(r->j);
    struct call rest = *c;
    rest.keyword = jinja_take(r->j, (size_t)c->n_keyword, sizeof *rest.keyword);
    if (c->n_keyword) memcpy(rest.keyword, c->keyword, (size_t)c->n_keyword * sizeof *rest.keyword);
    struct value *argument = jinja_take(r->j, (size_t)n, sizeof *argument);
    for (int64_t i = 0; i < n; i++) {
        if (i < c->n_positional)
            argument[i] = c->positional[i];
        else
            take_keyword(&rest, source->parameter.at[i]->name, &argument[i]);
    }
    struct scope *s = scope_enter(r, m->scope);
    bind_rest(r, s, source, source->name ? source->name : &nameless, &rest);
    r->out = &t;
    for (int64_t i = 0; i < n; i++) {
        const struct node *p = source->parameter.at[i];
        if (argument[i].type == VALUE_ABSENT) argument[i] = p->a ? eval(r, p->a) : undefined_printf(r->j, "parameter '%.*s' was not provided", (int)p->name->len, p->name->s);
        scope_set(r, s, p->name, argument[i]);
    }
    exec_list(r, &source->body);
    r->scope = scope;
    r->out = out;
    jinja_leave(r->j);
    return text_value(&t);
}

static struct value macro_value(struct run *r, const struct macro_source *source)
{
    struct macro *m = jinja_take(r->j, 1, sizeof *m);
    *m = (struct macro){source, r->scope};
    return (struct value){.type = VALUE_MACRO, .macro = m};
}

static void exec_call_block(struct run *r, const struct node *n)
{
    static const struct string name = {.s = "caller", .len = 6, .n = 6};
    const struct value f = eval(r, n->a->a);
    struct call c = eval_arguments(r, n->a->call);
    struct keyword *k = jinja_take(r->j, (size_t)c.n_keyword + 1, sizeof *k);
    if (c.n_keyword) memcpy(k, c.keyword, (size_t)c.n_keyword * sizeof *k);
    k[c.n_keyword++] = (struct keyword){&name, macro_value(r, n->macro)};
    c.keyword = k;
    write_value(r, value_call(r->j, f, &c));
}

// ------------------------------------------------------------------------------------------------ statements

static enum flow exec_with(struct run *r, const struct node *n)
{
    struct scope *outer = r->scope;
    struct scope *inner = scope_enter(r, outer);
    for (int64_t i = 0; i < n->child.n; i += 2) {
        r->scope = outer;
        const struct value v = eval(r, n->child.at[i + 1]);
        r->scope = inner;
        assign(r, n->child.at[i], v);
    }
    const enum flow flow = exec_list(r, &n->body);
    r->scope = outer;
    return flow;
}

static enum flow exec_block(struct run *r, const struct node *n)
{
    struct scope *scope = r->scope;
    scope_enter(r, n->flag ? scope : r->root);
    exec_list(r, &n->body);
    r->scope = scope;
    return FLOW_NEXT;
}

static enum flow exec_captured(struct run *r, const struct node *n)
{
    struct value v;
    const enum flow flow = capture(r, &n->body, n->b, &v);
    if (flow != FLOW_NEXT) return flow;
    if (n->kind == NODE_SET_BLOCK) {
        check_namespaces(r, n->a);
        assign(r, n->a, v);
    } else {
        write_value(r, v);
    }
    return FLOW_NEXT;
}

static void exec_generation(struct run *r, const struct node *n)
{
    struct value text;
    capture(r, &n->body, NULL, &text);
    if (r->n_generated == r->generated_capacity) {
        const size_t want = 2 * r->generated_capacity + 4;
        struct template_span *more = jinja_take(r->j, want, sizeof *more);
        if (r->n_generated) memcpy(more, r->generated, r->n_generated * sizeof *more);
        r->generated = more;
        r->generated_capacity = want;
    }
    r->generated[r->n_generated++] = (struct template_span){r->output->len, r->output->len + text.string->len};
    write_value(r, text);
}

static enum flow exec(struct run *r, const struct node *n)
{
    switch (n->kind) {
    case NODE_TEXT: write(r, n->constant.string->s, n->constant.string->len); break;
    case NODE_OUTPUT: write_value(r, eval(r, n->a)); break;
    case NODE_IF: return exec_list(r, value_truth(eval(r, n->a)) ? &n->body : &n->otherwise);
    case NODE_FOR: {
        const struct value iterable = eval(r, n->b);
        if (!n->flag) return run_loop(r, n, iterable, 0, r->scope);
        write_value(r, exec_for(r, n, iterable, 0));
        break;
    }
    case NODE_SET:
        check_namespaces(r, n->a);
        assign(r, n->a, eval(r, n->b));
        break;
    case NODE_SET_BLOCK:
    case NODE_FILTER_BLOCK: return exec_captured(r, n);
    case NODE_MACRO: scope_set(r, r->scope, n->name, macro_value(r, n->macro)); break;
    case NODE_CALL_BLOCK: exec_call_block(r, n); break;
    case NODE_GENERATION: exec_generation(r, n); break;
    case NODE_WITH: return exec_with(r, n);
    case NODE_BLOCK: return exec_block(r, n);
    case NODE_AUTOESCAPE:
        if (value_truth(eval(r, n->a))) jinja_fail(r->j, "automatic escaping is not supported");
        return exec_list(r, &n->body);
    case NODE_LOADER: jinja_fail(r->j, "no loader for this environment specified");
    case NODE_BREAK: return FLOW_BREAK;
    case NODE_CONTINUE: return FLOW_CONTINUE;
    default: BUG_ON(true, "statement of kind %d", n->kind);
    }
    return FLOW_NEXT;
}

static enum flow exec_list(struct run *r, const struct nodes *body)
{
    jinja_enter(r->j);
    for (int64_t i = 0; i < body->n; i++) {
        jinja_charge(r->j, 1);
        r->j->line = body->at[i]->line;
        const enum flow flow = exec(r, body->at[i]);
        if (flow != FLOW_NEXT) {
            jinja_leave(r->j);
            return flow;
        }
    }
    jinja_leave(r->j);
    return FLOW_NEXT;
}

void exec_all(struct run *r, const struct nodes *body) { exec_list(r, body); }
