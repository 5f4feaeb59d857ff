#include "data/shapes.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char *type_name(const json_t *v)
{
    static const char *const name[] = {[JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list", [JSON_STRING] = "a string", [JSON_INTEGER] = "an integer", [JSON_REAL] = "a number",
                                       [JSON_TRUE] = "true", [JSON_FALSE] = "false", [JSON_NULL] = "null"};
    return v ? name[json_typeof(v)] : "nothing";
}

static char *fault(const char *where, const char *expected, const json_t *got) { return mem_printf("'%s': expected %s, got %s", where, expected, type_name(got)); }

/* ---------------------------------------------------------------- messages */

/* ShareGPT's {"from", "value"} as {"role", "content"}, with the roles' usual names. Fields that are null are as if they were not there. */
static json_t *normal_message(json_t *message)
{
    json_t *from = json_object_get(message, "from"), *value = json_object_get(message, "value"), *out = json_copy(message), *v;
    const char *role = json_string_value(from), *key;
    void *next;
    if (role && value && !json_object_get(message, "role")) {
        json_object_del(out, "from");
        json_object_del(out, "value");
        json_object_set_new(out, "role", json_string(!strcmp(role, "human") ? "user" : !strcmp(role, "gpt") ? "assistant" : role));
        json_object_set(out, "content", value);
    }
    json_object_foreach_safe(out, next, key, v)
    {
        if (json_is_null(v)) json_object_del(out, key);
    }
    return out;
}

static void normalize_messages(json_t *row, const char *from, const char *to)
{
    json_t *list = json_object_get(row, from), *message;
    if (!json_is_object(json_array_get(list, 0))) return;
    json_t *out = json_array();
    size_t i;
    json_array_foreach(list, i, message) json_array_append_new(out, json_is_object(message) ? normal_message(message) : json_incref(message));
    if (from != to) json_object_del(row, from);
    json_object_set_new(row, to, out);
}

static char *check_message(const char *key, size_t i, const json_t *m)
{
    char where[100];
    const json_t *role = json_object_get(m, "role"), *content = json_object_get(m, "content");
    snprintf(where, sizeof where, "%s[%zu]", key, i);
    if (!json_is_object(m)) return fault(where, "a message {\"role\", \"content\"}", m);
    const size_t n = strlen(where);
    snprintf(where + n, sizeof where - n, ".role");
    if (!json_is_string(role) || !json_string_length(role)) return fault(where, "a role (user, assistant, ...)", role);
    snprintf(where + n, sizeof where - n, ".content");
    const bool fits = content ? json_is_string(content) || json_is_array(content) : json_object_size(m) > 1; // tool_calls may stand for it
    return fits ? NULL : fault(where, "a string or a list of parts", content);
}

static char *check_messages(const char *key, const json_t *list)
{
    if (!json_array_size(list)) return mem_printf("'%s': expected a string or a list of messages, got an empty list", key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char *why = check_message(key, i, json_array_get(list, i));
        if (why) return why;
    }
    return NULL;
}

/* Text or messages; where the row has ids for it, they are read instead. */
static char *check_field(json_t *row, const char *key)
{
    char ids[64];
    const json_t *v = json_object_get(row, key);
    snprintf(ids, sizeof ids, "%s_ids", key);
    if (!v || json_object_get(row, ids) || json_is_string(v)) return NULL;
    return json_is_array(v) ? check_messages(key, v) : fault(key, "a string or a list of messages", v);
}

/* ---------------------------------------------------------------- rows */

/* A labelled conversation: its last answer is what the label is about. */
static char *split_labelled(json_t *row)
{
    json_t *messages = json_object_get(row, "messages"), *last, *prompt, *completion;
    const size_t n = json_array_size(messages);
    if (!json_is_boolean(json_object_get(row, "label")) || !n) return NULL;
    if (json_object_get(row, "prompt") || json_object_get(row, "completion") || json_object_get(row, "chosen")) return NULL;
    char *why = check_messages("messages", messages);
    if (why) return why;
    last = json_array_get(messages, n - 1);
    if (n < 2 || strcmp(json_string_value(json_object_get(last, "role")), "assistant"))
        return mem_printf("'messages': expected an answer of the assistant at the end, which 'label' is about, got %zu messages that end with '%s'", n,
                          json_string_value(json_object_get(last, "role")));
    prompt = json_copy(messages);
    json_array_remove(prompt, n - 1);
    completion = json_array();
    json_array_append(completion, last);
    json_object_set_new(row, "prompt", prompt);
    json_object_set_new(row, "completion", completion);
    return NULL;
}

/* Templates tell no tools from an empty list; data sets keep tools as JSON text where their columns are typed. */
static char *shape_tools(json_t *row)
{
    json_t *tools = json_object_get(row, "tools"), *kwargs = json_object_get(row, "chat_template_kwargs");
    if (json_is_string(tools)) {
        json_t *list = json_loads(json_string_value(tools), JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_array(list) && json_string_length(tools)) {
            json_decref(list);
            return fault("tools", "a list of tools, or one as JSON text", tools);
        }
        json_object_set_new(row, "tools", list ? list : json_array());
        tools = json_object_get(row, "tools");
    }
    if (tools && !json_is_array(tools)) return fault("tools", "a list of tools, or one as JSON text", tools);
    if (tools && !json_array_size(tools)) json_object_del(row, "tools");
    if (kwargs && !json_is_object(kwargs)) return fault("chat_template_kwargs", "an object", kwargs);
    if (kwargs) json_object_update_missing(row, kwargs);
    return NULL;
}

/* Scores of both answers say the margin where no column does. */
static char *shape_scores(json_t *row)
{
    static const char *const name[2] = {"score_chosen", "score_rejected"};
    const json_t *score[2] = {json_object_get(row, name[0]), json_object_get(row, name[1])};
    if (json_object_get(row, "margin") || !score[0] || !score[1]) return NULL;
    for (int i = 0; i < 2; i++)
        if (!json_is_number(score[i])) return fault(name[i], "a number", score[i]);
    json_object_set_new(row, "margin", json_real(json_number_value(score[0]) - json_number_value(score[1])));
    return NULL;
}

char *shape_row(json_t *row, bool prompts_only)
{
    static const char *const of_pairs[] = {"prompt", "chosen", "rejected", NULL}, *const of_completions[] = {"prompt", "completion", NULL}, *const whole[] = {"messages", NULL};
    static const char *const fields[] = {"prompt", "completion", "chosen", "rejected", "messages"};
    if (!json_object_get(row, "messages")) normalize_messages(row, "conversations", "messages");
    bool has_turns = false; // only a template reads tools and arguments
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        normalize_messages(row, fields[i], fields[i]);
        has_turns |= json_is_array(json_object_get(row, fields[i]));
    }
    char *why = has_turns ? shape_tools(row) : NULL;
    if (!why && !prompts_only) why = shape_scores(row);
    if (!why && !prompts_only) why = split_labelled(row);
    const bool has_prompt = json_object_get(row, "prompt") || json_object_get(row, "prompt_ids");
    const bool pairs = json_object_get(row, "chosen") && json_object_get(row, "rejected"), completions = json_object_get(row, "completion");
    const char *const *read = prompts_only && has_prompt ? of_completions : pairs ? of_pairs : completions || has_prompt ? of_completions : whole;
    for (int i = 0; !why && read[i] && !(prompts_only && has_prompt && i); i++) why = check_field(row, read[i]);
    return why;
}
