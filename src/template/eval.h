/* Running a tree: scopes, calls, the tables of filters, tests, methods and functions. */
#ifndef SAIL_TEMPLATE_EVAL_H
#define SAIL_TEMPLATE_EVAL_H

#include <time.h>

#include "template/ast.h"
#include "template/template.h"
#include "template/unicode.h"
#include "template/value.h"

struct keyword {
    const struct string *name;
    struct value value;
};
struct call {
    struct value *positional;
    int64_t n_positional;
    struct keyword *keyword;
    int64_t n_keyword;
};

/* A name is looked up from the inner scope to the outer one, then in the render's variables. */
struct binding {
    const struct string *name;
    struct value value;
    struct binding *next;
};
struct scope {
    struct scope *outer;
    struct binding *first;
};

struct run {
    struct jinja *j;
    const struct dict *variables;
    struct text *out;       /* where text goes: the render's output or a capture */
    const struct text *output;     /* the render's */
    struct template_span *generated; /* by generation blocks */
    size_t n_generated, generated_capacity;
    struct scope *scope;
    struct scope *root;     /* blocks see this one only */
    struct value captured;  /* the text of the block that a filter is applied to */
    time_t now;
};

static inline struct run *run_of(struct jinja *j) { return j->run; }

/* A function of the table. `self` is the filtered or tested value or the method's object; a[i] are the arguments in the order of the
 * signature, VALUE_ABSENT where not given. A signature is "name,name?,/,name?": '?' optional, '/' ends what can't be named, and
 * NULL takes any arguments (read them from c). */
struct builtin {
    const char *name, *signature;
    struct value (*run)(struct jinja *j, struct value self, struct value *a, const struct call *c);
};
enum { MAX_ARGUMENTS = 6 };
extern const struct builtin filters[], tests[], globals[]; /* end with a NULL name */
extern const struct builtin string_methods[], dict_methods[], list_methods[], view_methods[], range_methods[], float_methods[], loop_methods[], cycler_methods[];
const struct builtin *builtin_find(const struct builtin *table, const struct string *name);
struct value builtin_call(struct jinja *j, const struct builtin *b, struct value self, const struct call *c);

struct function {
    const struct builtin *builtin;
    struct value self;
};
struct value function_value(struct jinja *j, const struct builtin *b, struct value self);
/* The built-in attributes of a value (methods, loop.index, group.list ...). false: it has none of that name. */
bool builtin_attribute(struct jinja *j, struct value v, const struct string *name, struct value *out);

struct macro {
    const struct macro_source *source;
    struct scope *scope; /* where it was defined */
};

/* eval.c */
struct value eval(struct run *r, const struct node *n);
struct value eval_filter(struct run *r, const struct node *filter, struct value captured);
struct value value_getattr(struct jinja *j, struct value v, const struct string *name); /* v.name */
struct value value_getitem(struct jinja *j, struct value v, struct value key);          /* v[key] */
struct value value_call(struct jinja *j, struct value f, const struct call *c);
struct value value_binary(struct jinja *j, enum operation op, struct value a, struct value b);
struct call eval_arguments(struct run *r, const struct argument_list *a);
bool scope_find(const struct scope *s, const struct string *name, struct value *out);

/* statement.c */
void exec_all(struct run *r, const struct nodes *body);
struct value macro_call(struct run *r, const struct macro *m, const struct call *c);
struct scope *scope_enter(struct run *r, struct scope *outer);
void scope_set(struct run *r, struct scope *s, const struct string *name, struct value v);

/* loop.c: the `loop` variable. */
struct loop {
    struct value iterable;
    struct iterator *it;
    int64_t index0, length; /* length -1: not asked for yet */
    bool has_after, at_end; /* the next item was looked at */
    struct value after, current, before;
    struct value changed; /* arguments of the last loop.changed() */
    int64_t depth0;
    const struct node *node; /* of a recursive loop */
    struct scope *scope;     /* around it */
};
struct loop *loop_create(struct jinja *j, struct value iterable, struct iterator *it, int64_t depth0);
bool loop_next(struct jinja *j, struct loop *l, struct value *out);
struct iterator *loop_iterator(struct jinja *j, struct loop *l);
bool loop_attribute(struct jinja *j, struct loop *l, const struct string *name, struct value *out);
struct value loop_call(struct run *r, struct loop *l, const struct call *c);
struct value exec_for(struct run *r, const struct node *n, struct value iterable, int64_t depth0); /* the rendered text of a recursive loop */

/* format.c: printf-style (string % values) and str.format. */
const struct string *format_percent(struct jinja *j, const struct string *format, struct value arguments);
const struct string *format_braces(struct jinja *j, const struct string *format, const struct call *c);

/* number.c: Python's conversions. */
bool parse_int(struct jinja *j, const struct string *s, int64_t base, int64_t *out);
bool parse_float(const struct string *s, double *out);
int64_t float_to_int(struct jinja *j, double f); /* int(f): fails on NaN, infinities and what does not fit */
double float_round(double f, int64_t digits);

/* What filters share. */
const struct string *soft_string(struct jinja *j, struct value v); /* a string as it is (Markup stays Markup), else str(v) */
const struct string *escape_string(struct jinja *j, const struct string *s); /* HTML, as Markup */
const struct string *require_string(struct jinja *j, struct value v, const char *what);
int64_t require_int(struct jinja *j, struct value v);
int64_t optional_int(struct jinja *j, struct value v, int64_t absent); /* None and absent give the default */
double require_number(struct jinja *j, struct value v);
size_t string_map_at(struct text *t, const struct string *s, size_t at, enum unicode_case to); /* one code point; gives its bytes in s */
const struct string *string_case(struct jinja *j, const struct string *s, bool upper);
const struct string *string_strip(struct jinja *j, const struct string *s, struct value characters, bool left, bool right);
const struct string *string_replace(struct jinja *j, const struct string *s, const struct string *old, const struct string *by, int64_t count);
const struct string *string_capitalize(struct jinja *j, const struct string *s);
struct list *string_lines(struct jinja *j, const struct string *s, bool keep_ends);
struct dict *dict_from_call(struct jinja *j, const struct call *c, const char *what); /* dict(mapping or pairs, **keywords) */

#endif
