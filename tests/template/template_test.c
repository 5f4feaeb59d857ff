/* Chat templates: Jinja's rules one by one, real templates byte for byte, hostile ones stopped. */
#include "test.h"

#include "template/template.h"

static struct buf out;

/* The rendering, or the error with "!" in front. */
static const char *render(const char *source, const char *row)
{
    struct chat_template *t;
    sail_err why = {0};
    const struct template_options o = {.now = 1752148800}; // 2025-07-10T12:00:00Z
    buf_clear(&out);
    buf_puts(&out, "");
    json_t *j = json_loads(row, 0, NULL);
    assert_non_null(j);
    int rc = template_parse(&t, source, NULL, &why);
    if (!rc) rc = template_render(t, j, &o, &out, &why);
    if (rc) {
        buf_clear(&out);
        buf_puts(&out, "!");
        buf_puts(&out, why.message);
    }
    template_close(rc && !t ? NULL : t);
    json_decref(j);
    return out.data;
}

static void rules_of_jinja(void **state)
{
    (void)state;
    static const char row[] = "{\"messages\": [{\"role\": \"user\", \"content\": \" hi \"}, {\"role\": \"assistant\", \"content\": \"yo\"}], \"n\": 3, \"d\": {\"b\": 1, \"a\": [true, null]}}";
    static const char *const cases[][2] = {
        {"{% for m in messages %}{{ m.role }}:{{ m['content'] | trim }};{% endfor %}", "user:hi;assistant:yo;"},
        {"{% for m in messages %}{{ loop.index }}{{ loop.first }}{{ loop.last }} {% endfor %}", "1TrueFalse 2FalseTrue "},
        {"  {% if n > 2 %}\na\n  {% endif %}\nb", "a\nb"},
        {"x {%- if n %} y {%- endif %} z", "x y z"},
        {"{{ n // 2 }} {{ n / 2 }} {{ -n % 2 }} {{ n ~ 'a' }} {{ 2 ** n }}", "1 1.5 1 3a 8"},
        {"{{ d }} {{ d | tojson }}", "{'b': 1, 'a': [True, None]} {\"b\": 1, \"a\": [true, null]}"},
        {"{{ messages[::-1][0].content }}{{ messages[-1]['role'][1:3] }}", "yoss"},
        {"{% set ns = namespace(x=0) %}{% for i in range(4) %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "6"},
        {"{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}", "1"},
        {"{% macro f(a, b='!') %}{{ a }}{{ b }}{% endmacro %}{{ f('x') }}{{ f('y', b='?') }}", "x!y?"},
        {"{% for i in range(9) if i is odd %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% else %}none{% endfor %}", "13"},
        {"{{ 'a' if missing is defined else 'b' }}{{ missing }}{{ missing | default('c') }}", "bc"},
        {"{{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "user, assistant 1"},
        {"{% set t %}  q {% endset %}[{{ t }}]", "[  q ]"},
        {"{{ 'a,b'.split(',') }} {{ 'abc'.upper().startswith('AB') }} {{ 'x' not in 'yz' }}", "['a', 'b'] True True"},
        {"{# gone #}{% raw %}{{ kept }}{% endraw %}", "{{ kept }}"},
        {"{% generation %}g{% endgeneration %}{{ strftime_now('%d %b %Y') }}", "g10 Jul 2025"},
        {"{{ raise_exception('no ' + messages[0].role) }}", "!no user"},
        {"{{ missing.x }}", "!line 1: 'missing' is undefined"},
        {"{{ messages.append(1) }}", "!line 1: access to attribute 'append' of 'list' object is unsafe."},
        {"{{ 1 + 'a' }}", "!line 1: unsupported operand type(s) for +: 'int' and 'str'"},
        {"{% if x %}", "!chat template: line 1: Unexpected end of template. Jinja was looking for the following tags: 'elif'."},
        {"{{ (1 }}", "!chat template: line 1: unexpected '}', expected ')'"},
        {"{% for i in range(3000) %}{% for j in range(3000) %}{{ i }}{% endfor %}{% endfor %}", "!line 1: the template needs too much memory: more than 512 MiB"},
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "!line 1: maximum recursion depth exceeded"},
        {"{{ ('<!--' * 100000 ~ '<' * 1000000)|striptags|length }}", "1400000"}, // linear
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *got = render(cases[i][0], row);
        if (strcmp(got, cases[i][1])) fail_msg("%s\n  gives  %s\n  wanted %s", cases[i][0], got, cases[i][1]);
    }
}

static void real_templates(void **state)
{
    (void)state;
    NEED_SHARED(path, "data/templates/hf_jinja_e2e_half.json");
    json_t *all = json_load_file(path, 0, NULL), *one;
    static const char *const groups[] = {"default", "custom"};
    const char *name;
    int n = 0;
    assert_non_null(all);
    for (int g = 0; g < 2; g++)
        json_object_foreach(json_object_get(all, groups[g]), name, one)
        {
            char *row = json_dumps(json_object_get(one, "data"), 0);
            const char *got = render(json_string_value(json_object_get(one, "chat_template")), row), *want = json_string_value(json_object_get(one, "target"));
            if (strcmp(got, want)) fail_msg("%s renders otherwise:\n%s", name, got);
            free(row);
            n++;
        }
    print_message("%d templates\n", n);
    assert_true(n == 30);
    json_decref(all);
}

int main(void)
{
    buf_init(&out, 0);
    const struct CMUnitTest tests[] = {cmocka_unit_test(rules_of_jinja), cmocka_unit_test(real_templates)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    buf_release(&out);
    return failed;
}
