/* sail sft --assistant-only-loss: the loss of a step is the mean over the tokens that sail template marks, scored by sail score. */
#include "cli/program.h"

#include <jansson.h>

#include "base/mem.h"

static const char chat[] = "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %} {{ m.content }}\n{% endgeneration %}{% else %}U: {{ m.content }}\n{% endif %}{% endfor %}";
static const char rows[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"Tell me a story\"}, {\"role\": \"assistant\", \"content\": \"Once upon a time\"}, {\"role\": \"user\", \"content\": \"More\"}, "
                           "{\"role\": \"assistant\", \"content\": \"there was a little girl\"}]}\n"
                           "{\"messages\": [{\"role\": \"user\", \"content\": \"Who?\"}, {\"role\": \"assistant\", \"content\": \"Lily\"}]}\n";

static void put(const char *name, const char *text)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(file_replace(path, text, strlen(text), err));
}

static json_t *lines_of(char *text, int n)
{
    json_t *all = json_array();
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) json_array_append_new(all, json_loads(line, 0, NULL));
    assert_int_equal(json_array_size(all), n);
    return all;
}

/* The rendered rows as ids, with the end that training appends; the marks stay in `rendered`. */
static void put_id_rows(json_t *rendered)
{
    struct buf b;
    size_t i, k;
    json_t *row, *id;
    buf_init(&b, 0);
    json_array_foreach(rendered, i, row)
    {
        json_array_append_new(json_object_get(row, "ids"), json_integer(2));
        json_array_append_new(json_object_get(row, "assistant_masks"), json_integer(1));
        buf_puts(&b, "{\"prompt_ids\": [");
        json_array_foreach(json_object_get(row, "ids"), k, id) buf_printf(&b, k == 0 ? "%d], \"completion_ids\": [" : k == 1 ? "%d" : ", %d", (int)json_integer_value(id));
        buf_puts(&b, "]}\n");
    }
    put("ids.jsonl", b.data);
    buf_release(&b);
}

static double mean_of_marked(json_t *rendered, json_t *scored)
{
    size_t i, k;
    json_t *row, *logp;
    double sum = 0, n = 0;
    json_array_foreach(scored, i, row)
    {
        json_t *mask = json_object_get(json_array_get(rendered, i), "assistant_masks");
        json_array_foreach(json_object_get(row, "token_logps"), k, logp)
        {
            if (!json_integer_value(json_array_get(mask, k + 1))) continue;
            sum += json_number_value(logp);
            n++;
        }
    }
    assert_true(n > 8);
    return sum / n;
}

static void loss_counts_the_marked_tokens(void **state)
{
    (void)state;
    char path[1200], *data;
    size_t n;
    assert_run("template --model %s --messages %s/rows.jsonl --assistant-masks", model, folder);
    json_t *rendered = lines_of(output, 2);
    put_id_rows(rendered);
    assert_run("score --model %s --data %s/ids.jsonl --tokens --dtype f32 --out %s/scores.jsonl --quiet", model, folder, folder);
    snprintf(path, sizeof path, "%s/scores.jsonl", folder);
    assert_ok(file_read(path, 1 << 20, &data, &n, err));
    json_t *scored = lines_of(data, 2);
    const double want = -mean_of_marked(rendered, scored);
    free(data);
    static const char *const cuts[] = {"", "--micro-batch 1"};
    for (int k = 0; k < 2; k++) {
        assert_run("sft --model %s --data %s/rows.jsonl --eval-data %s/rows.jsonl --assistant-only-loss --batch 2 --max-steps 1 --lr 0 --dtype f32 --lora-r 2 --quiet --out %s/run%d %s", model, folder, folder, folder, k, cuts[k]);
        snprintf(path, sizeof path, "%s/run%d/metrics.jsonl", folder, k);
        assert_ok(file_read(path, 1 << 20, &data, &n, err));
        const char *loss = strstr(data, "\"loss\": "), *eval = strstr(data, "\"eval_loss\": ");
        assert_true(loss && eval);
        assert_near(atof(loss + 8), want, 1e-6, 1e-6);
        assert_near(atof(eval + 13), want, 1e-6, 1e-6);
        free(data);
    }
    json_decref(rendered);
    json_decref(scored);
}

static void rows_without_answers_are_refused(void **state)
{
    (void)state;
    put("plain.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    assert_int_equal(run_sail("sft --model %s --data %s/plain.jsonl --assistant-only-loss --out %s/never --quiet", model, folder, folder), 1);
    assert_non_null(strstr(output, "plain.jsonl:1: only the assistant's turns shall count: expected rows of messages"));
    put("chat/chat_template.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
    assert_int_equal(run_sail("sft --model %s --data %s/rows.jsonl --assistant-only-loss --out %s/never --quiet", model, folder, folder), 1);
    assert_non_null(strstr(output, "{% generation %}"));
}

static int prepare(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sail-cli-assistant-%d", (int)getpid());
    snprintf(model, sizeof model, "%.900s/chat", folder);
    mkdir(folder, 0700);
    shell("cp -r %s %s && chmod -R u+w %s", repo_path("examples/demo/stories260K"), model, model);
    put("chat/chat_template.jinja", chat);
    put("rows.jsonl", rows);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(loss_counts_the_marked_tokens), cmocka_unit_test(rows_without_answers_are_refused)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
