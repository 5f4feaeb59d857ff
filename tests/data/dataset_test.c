/* Data sets: files, folders and splits; columns under other names; every shape of a row; the same rows from every kind of file. */
#include "test.h"

#include <sys/stat.h>

#include "base/file.h"
#include "data/text_pipeline.h"

static char folder[256];
static struct text_pipeline text;
static sail_config *config;

static const char *in_folder(const char *name)
{
    static char path[4][5000];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

/* Writes a file below the folder, with the folders above it. */
static void put(const char *name, const char *content)
{
    char above[5000];
    snprintf(above, sizeof above, "%s", in_folder(name));
    *strrchr(above, '/') = '\0';
    assert_ok(dir_create(above, err));
    assert_ok(file_replace(in_folder(name), content, strlen(content), err));
}

static void start_again(void) { assert_ok(dir_remove(folder, err)); }

static int open_with(struct dataset **d, const char *name, const struct dataset_options *o, sail_err *why)
{
    *why = (sail_err){0};
    return dataset_open(d, *name == '/' ? name : in_folder(name), o, why);
}

/* The prompts of the rows, as "1 2 3": every row's prompt is one id. */
static void assert_prompts(const char *name, const char *want)
{
    struct dataset *d;
    sail_err why;
    char got[256] = "";
    const struct dataset_options o = {.eos = -1, .turn_end = -1};
    if (open_with(&d, name, &o, &why)) fail_msg("%s: %s", name, why.message);
    for (int64_t i = 0; i < d->n; i++) snprintf(got + strlen(got), sizeof got - strlen(got), i ? " %d" : "%d", (int)dataset_ids(d, d->example[i].prompt)[0]);
    dataset_free(d);
    assert_string_equal(got, want);
}

static void assert_refused(const char *name, const struct dataset_options *o, const char *says)
{
    struct dataset *d;
    sail_err why;
    const int rc = open_with(&d, name, o, &why);
    if (!rc) dataset_free(d);
    if (!rc || !strstr(why.message, says)) fail_msg("%s: status %d, '%s', wanted '%s'", name, rc, why.message, says);
}

static const struct dataset_options ids_only = {.eos = -1, .turn_end = -1};

/* ---------------------------------------------------------------- files */

static void files_and_folders(void **state)
{
    (void)state;
    start_again();
    put("one/b.jsonl", "{\"prompt_ids\": [2]}\n\n{\"prompt_ids\": [3]}\n");
    put("one/a.json", " [{\"prompt_ids\": [1]}]");
    put("one/c.jsonl", "{\"prompt_ids\": [4]}");
    put("one/dataset_infos.json", "{}");
    put("one/README.md", "words");
    put("one/.hidden.jsonl", "nonsense");
    assert_prompts("one", "1 2 3 4");
    assert_prompts("one/", "1 2 3 4");
    assert_prompts("one/a.json", "1");
    if (system(NULL)) {
        char command[5100];
        snprintf(command, sizeof command, "gzip %s", in_folder("one/b.jsonl"));
        if (!system(command)) assert_prompts("one", "1 2 3 4");
    }
    put("empty/README.md", "words");
    put("arrow/data-00000-of-00001.arrow", "ARROW1");
    put("nothing.jsonl", "");
    assert_prompts("nothing.jsonl", "");
    assert_refused("empty", &ids_only, "the folder holds no data files: expected *.jsonl, *.json or *.parquet");
    assert_refused("arrow", &ids_only, ".arrow files are not read");
    assert_refused("absent.jsonl", &ids_only, "No such file");
    put("one/d.jsonl", "{\"prompt_ids\": [5]}\n{\"prompt_ids\": [-6]}\n");
    assert_refused("one", &ids_only, "one/d.jsonl:2: 'prompt_ids'");
    put("cut.parquet", "PAR1 and no more of it");
    assert_refused("cut.parquet", &ids_only, "it is cut short");
    put("none.parquet", "");
    assert_refused("none.parquet", &ids_only, "0 bytes: expected a Parquet file");
}

static void splits(void **state)
{
    (void)state;
    start_again();
    put("hub/data/train-00001-of-00002.jsonl", "{\"prompt_ids\": [2]}");
    put("hub/data/train-00000-of-00002.jsonl", "{\"prompt_ids\": [1]}");
    put("hub/data/test-00000-of-00001.jsonl", "{\"prompt_ids\": [9]}");
    put("hub/README.md", "words");
    assert_prompts("hub:train", "1 2");
    assert_prompts("hub:test", "9");
    assert_prompts("hub/data:test", "9");
    assert_prompts("hub/data/test-00000-of-00001.jsonl", "9");
    assert_refused("hub", &ids_only, "the folder holds more than one split (test, train): say which");
    assert_refused("hub:dev", &ids_only, "there is no split 'dev'");
    assert_refused("hub/README.md:dev", &ids_only, "is a file: only a folder has splits");
    put("words/train_1.jsonl", "{\"prompt_ids\": [1]}");
    put("words/train_2.jsonl", "{\"prompt_ids\": [2]}");
    assert_prompts("words", "1 2");
    put("words/validation.jsonl", "{\"prompt_ids\": [3]}");
    assert_prompts("words:train", "1 2");
    assert_refused("words", &ids_only, "(train, validation)");
    put("folders/test/0000.jsonl", "{\"prompt_ids\": [8]}");
    put("folders/train/0001.jsonl", "{\"prompt_ids\": [7]}");
    put("folders/train/0000.jsonl", "{\"prompt_ids\": [6]}");
    assert_prompts("folders:train", "6 7");
    assert_refused("folders", &ids_only, "DIR:split where the splits are folders");
    put("gap/train-00000-of-00003.jsonl", "{\"prompt_ids\": [1]}");
    put("gap/train-00002-of-00003.jsonl", "{\"prompt_ids\": [3]}");
    assert_refused("gap", &ids_only, "train-00002-of-00003.jsonl: expected shard 1 of 3 here");
    put("gap/train-00001-of-00003.jsonl", "{\"prompt_ids\": [2]}");
    assert_prompts("gap", "1 2 3");
    assert_int_equal(unlink(in_folder("gap/train-00002-of-00003.jsonl")), 0);
    assert_refused("gap", &ids_only, "shards 2 to 2 of 3 are missing after train-00001-of-00003.jsonl");
}

/* ---------------------------------------------------------------- the same rows from every kind of file */

static void assert_same(const struct dataset *a, const struct dataset *b, const char *name)
{
    if (a->kind != b->kind || a->n != b->n) fail_msg("%s: kind %d with %lld rows, wanted %d with %lld", name, (int)a->kind, (long long)a->n, (int)b->kind, (long long)b->n);
    for (int64_t i = 0; i < a->n; i++) {
        const struct example *x = &a->example[i], *y = &b->example[i];
        const struct span of_x[4] = {x->prompt, x->completion, x->chosen, x->rejected}, of_y[4] = {y->prompt, y->completion, y->chosen, y->rejected};
        for (int k = 0; k < 4; k++)
            if (of_x[k].n != of_y[k].n || memcmp(dataset_ids(a, of_x[k]), dataset_ids(b, of_y[k]), (size_t)of_x[k].n * sizeof *a->ids))
                fail_msg("%s: row %lld, span %d differs", name, (long long)i, k);
        assert_true(x->margin == y->margin && x->label == y->label && x->p == y->p);
        if (x->text >= 0) assert_string_equal(a->text + x->text, b->text + y->text);
    }
}

static void parquet_and_json_are_the_same_data(void **state)
{
    (void)state;
    struct dataset *want, *got;
    sail_err why;
    char path[4096];
    snprintf(path, sizeof path, "%s", repo_path("tests/golden/parquet/rows.jsonl"));
    if (open_with(&want, path, &text.options, &why)) fail_msg("%s", why.message);
    assert_int_equal(want->kind, DATA_PREFERENCE);
    assert_true(want->conversational && want->n == 45);
    static const char *const files[] = {"zstd-dictionary-v2", "gzip-plain-v2", "snappy-groups-pages-v1", "older-lists"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/tests/golden/parquet/%s.parquet", TEST_SOURCE_DIR, files[i]);
        if (open_with(&got, path, &text.options, &why)) fail_msg("%s", why.message);
        assert_same(got, want, files[i]);
        dataset_free(got);
    }
    dataset_free(want);
}

static void real_parquet(void **state)
{
    (void)state;
    NEED_SHARED(rows, "data/math/test.jsonl");
    struct dataset *want, *got;
    sail_err why;
    struct dataset_options o = text.options;
    char path[4096];
    snprintf(path, sizeof path, "%s", rows);
    o.max_rows = 100;
    o.columns.field[COLUMN_prompt] = "question";
    o.columns.field[COLUMN_completion] = "answer";
    if (open_with(&want, path, &o, &why)) fail_msg("%s", why.message);
    o.columns.field[COLUMN_prompt] = "extra_info.question";
    o.columns.field[COLUMN_completion] = "extra_info.answer";
    snprintf(path, sizeof path, "%s", shared_path("data/math/verl-gsm8k-test.parquet"));
    if (open_with(&got, path, &o, &why)) fail_msg("%s", why.message);
    assert_true(want->kind == DATA_COMPLETION && want->n == 100);
    assert_same(got, want, "gsm8k");
    dataset_free(want);
    dataset_free(got);
}

/* ---------------------------------------------------------------- shapes of rows */

/* A row as people keep it, and the same in the shape of the table in docs/data.md. field: "prompt=question,label=tag", names of columns. */
static const struct {
    const char *field, *row, *same;
    enum data_kind kind;
} shapes[] = {
    {"", "{\"prompt\": \"Hi\"}", "{\"prompt\": \"Hi\", \"completion\": null}", DATA_PROMPTS},
    {"prompt=question,completion=answer", "{\"question\": \"Hi\", \"answer\": \"Yo\", \"prompt\": 7}", "{\"prompt\": \"Hi\", \"completion\": \"Yo\"}", DATA_COMPLETION},
    {"prompt=question", "{\"question\": \"Hi\", \"prompt\": \"other\", \"prompt_ids\": [5]}", "{\"prompt\": \"Hi\"}", DATA_PROMPTS},
    {"prompt=x.y.q", "{\"x\": {\"y\": {\"q\": \"Hi\"}}}", "{\"prompt\": \"Hi\"}", DATA_PROMPTS},
    {"prompt=x.y", "{\"x.y\": \"Hi\", \"x\": {\"y\": \"no\"}}", "{\"prompt\": \"Hi\"}", DATA_PROMPTS},
    {"prompt_ids=ids", "{\"ids\": [5, 6]}", "{\"prompt_ids\": [5, 6]}", DATA_PROMPTS},
    {"", "{\"prompt\": \"Hi\", \"tools\": \"hammer\", \"chat_template_kwargs\": \"no\"}", "{\"prompt\": \"Hi\"}", DATA_PROMPTS},
    {"text=story", "{\"story\": \"Once\"}", "{\"text\": \"Once\"}", DATA_COMPLETION},
    {"label=tag,completion=said", "{\"prompt\": \"Hi\", \"said\": \"Yo\", \"tag\": 1}", "{\"prompt\": \"Hi\", \"completion\": \"Yo\", \"label\": true}", DATA_UNPAIRED},
    {"label=tag", "{\"prompt\": \"Hi\", \"completion\": \"Yo\", \"tag\": false}", "{\"prompt\": \"Hi\", \"completion\": \"Yo\", \"label\": false}", DATA_UNPAIRED},
    {"", "{\"prompt\": \"Hi\", \"completion\": \"Yo\", \"label\": \"poems\"}", "{\"prompt\": \"Hi\", \"completion\": \"Yo\", \"label\": null}", DATA_COMPLETION},
    {"", "{\"chosen\": \"Hi there you\", \"rejected\": \"Hi there no\", \"prompt\": null}",
     "{\"prompt\": \"Hi there\", \"chosen\": \" you\", \"rejected\": \" no\"}", DATA_PREFERENCE},
    {"", "{\"chosen\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Yo\"}],"
     " \"rejected\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"No\"}]}",
     "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"chosen\": [{\"role\": \"assistant\", \"content\": \"Yo\"}],"
     " \"rejected\": [{\"role\": \"assistant\", \"content\": \"No\"}]}", DATA_PREFERENCE},
    {"", "{\"prompt\": \"Hi\", \"chosen\": \"Yo\", \"rejected\": \"No\", \"score_chosen\": 8.5, \"score_rejected\": 7}",
     "{\"prompt\": \"Hi\", \"chosen\": \"Yo\", \"rejected\": \"No\", \"margin\": 1.5}", DATA_PREFERENCE},
    {"p=prob,margin=gap", "{\"prompt\": \"Hi\", \"chosen\": \"Yo\", \"rejected\": \"No\", \"prob\": 0.75, \"gap\": 2}",
     "{\"prompt\": \"Hi\", \"chosen\": \"Yo\", \"rejected\": \"No\", \"margin\": 2, \"p\": 0.75}", DATA_PREFERENCE},
    {"margin=gap", "{\"prompt\": \"Hi\", \"chosen\": \"Yo\", \"rejected\": \"No\", \"gap\": null}",
     "{\"prompt\": \"Hi\", \"chosen\": \"Yo\", \"rejected\": \"No\"}", DATA_PREFERENCE},
    {"", "{\"conversations\": [{\"from\": \"system\", \"value\": \"Be\"}, {\"from\": \"human\", \"value\": \"Hi\"}, {\"from\": \"gpt\", \"value\": \"Yo\"}]}",
     "{\"messages\": [{\"role\": \"system\", \"content\": \"Be\"}, {\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Yo\"}]}", DATA_COMPLETION},
    {"messages=chat", "{\"chat\": [{\"role\": \"user\", \"content\": \"Hi\", \"name\": null}, {\"role\": \"assistant\", \"content\": \"Yo\"}], \"label\": true}",
     "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"completion\": [{\"role\": \"assistant\", \"content\": \"Yo\"}], \"label\": true}", DATA_UNPAIRED},
    {"", "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"tools\": \"[{\\\"name\\\": \\\"f\\\"}]\", \"chat_template_kwargs\": {\"loud\": true}}",
     "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"tools\": [{\"name\": \"f\"}], \"loud\": true}", DATA_PROMPTS},
    {"", "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"tools\": []}", "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi\"}]}", DATA_PROMPTS},
};

static const char *const column_names[] = {
#define COLUMN(name) #name,
    COLUMNS(COLUMN)
#undef COLUMN
};

/* "prompt=question,label=tag" through the options, as a user gives them. */
static sail_config *configured(const char *field)
{
    sail_config *c;
    assert_ok(sail_config_create(&c, "align", err));
    char list[200], *save = NULL;
    snprintf(list, sizeof list, "%s", field);
    for (char *part = strtok_r(list, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
        char key[64];
        char *value = strchr(part, '=');
        snprintf(key, sizeof key, "%.*s_field", (int)(value - part), part);
        assert_ok(sail_config_set(c, key, value + 1, err));
    }
    return c;
}

static void every_column_has_its_option(void **state)
{
    (void)state;
    for (int i = 0; i < COLUMN_COUNT; i++) {
        char field[100];
        snprintf(field, sizeof field, "%s=some", column_names[i]);
        sail_config *c = configured(field);
        struct columns columns;
        columns_read(&columns, c);
        for (int k = 0; k < COLUMN_COUNT; k++) assert_true((columns.field[k] != NULL) == (k == i));
        sail_config_free(c);
    }
}

static void shapes_of_rows(void **state)
{
    (void)state;
    start_again();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct dataset *got, *want;
        struct dataset_options o = text.options;
        sail_err why;
        put("rows/got.jsonl", shapes[i].row);
        put("rows/want.jsonl", shapes[i].same);
        sail_config *c = configured(shapes[i].field);
        columns_read(&o.columns, c);
        if (open_with(&got, "rows/got.jsonl", &o, &why)) fail_msg("shape %zu: %s", i, why.message);
        if (open_with(&want, "rows/want.jsonl", &text.options, &why)) fail_msg("shape %zu: %s", i, why.message);
        assert_int_equal(want->n, 1);
        assert_int_equal(got->kind, shapes[i].kind);
        assert_true(got->example[0].prompt.n + got->example[0].completion.n > 0);
        assert_same(got, want, shapes[i].row);
        dataset_free(got);
        dataset_free(want);
        sail_config_free(c);
    }
}

static void tools_and_arguments_reach_the_template(void **state)
{
    (void)state;
    struct dataset *d;
    sail_err why;
    put("rows/tools.jsonl", shapes[sizeof shapes / sizeof *shapes - 2].row);
    if (open_with(&d, "rows/tools.jsonl", &text.options, &why)) fail_msg("%s", why.message);
    assert_string_equal(d->text + d->example[0].text, "[f]!<user> Hi</s><assistant> ");
    dataset_free(d);
}

static void shapes_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *field, *rows, *says;
    } cases[] = {
        {"prompt=qestion", "{\"question\": \"Hi\", \"answer\": \"Yo\"}", "bad.jsonl:1: --prompt-field qestion: the row has no such column; it has: question, answer"},
        {"prompt=x.z", "{\"x\": {\"y\": \"Hi\"}}", "--prompt-field x.z: the row has no such column; it has: x"},
        {"score_chosen=rating_of_it", "{\"prompt\": \"Hi\"}", "--score-chosen-field rating_of_it"},
        {"label=tag", "{\"prompt\": \"Hi\", \"completion\": \"Yo\", \"tag\": \"good\"}", "--label-field tag: expected true or false, 1 or 0"},
        {"", "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": true}\n{\"prompt\": \"a\", \"completion\": \"b\"}", "bad.jsonl:2: 'label': expected true or false"},
        {"", "{\"prompt\": 7}", "'prompt': expected a string or a list of messages, got an integer"},
        {"", "{\"prompt\": []}", "'prompt': expected a string or a list of messages, got an empty list"},
        {"", "{\"prompt\": \"a\", \"completion\": {\"role\": \"assistant\"}}", "'completion': expected a string or a list of messages, got an object"},
        {"", "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi\"}, \"Yo\"]}", "'prompt[1]': expected a message {\"role\", \"content\"}, got a string"},
        {"", "{\"messages\": [{\"content\": \"Hi\"}]}", "'messages[0].role': expected a role (user, assistant, ...), got nothing"},
        {"", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": 3, \"content\": \"Yo\"}]}", "'messages[1].role': expected a role (user, assistant, ...), got an integer"},
        {"", "{\"prompt\": \"a\", \"chosen\": [{\"role\": \"assistant\", \"content\": 1.5}], \"rejected\": \"b\"}", "'chosen[0].content': expected a string or a list of parts, got a number"},
        {"", "{\"prompt\": \"a\", \"chosen\": [{\"role\": \"assistant\"}], \"rejected\": \"b\"}", "'chosen[0].content': expected a string or a list of parts, got nothing"},
        {"", "{\"chosen\": \"a\", \"rejected\": true}", "'rejected': expected a string or a list of messages, got true"},
        {"", "{\"chosen\": \"ab\", \"rejected\": \"ba\"}", "no common beginning"},
        {"", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"label\": true}", "'messages': expected an answer of the assistant at the end"},
        {"", "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"tools\": \"{}\"}", "'tools': expected a list of tools, or one as JSON text, got a string"},
        {"", "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"chat_template_kwargs\": 3}", "'chat_template_kwargs': expected an object, got an integer"},
        {"", "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\", \"p\": 1.5}", "'p': expected a probability from 0 to 1"},
        {"", "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\", \"score_chosen\": \"9\", \"score_rejected\": 1}", "'score_chosen': expected a number, got a string"},
        {"", "{\"question\": \"a\"}", "the row has: question"},
        {"", "{\"prompt\": \"a\"}\n[1]\n", "bad.jsonl:2: not a JSON object"},
        {"", "{\"prompt\": \"a\"}\n{\"prompt\": \"\xff\"}", "bad.jsonl:2: not a JSON object: "},
        {"", "[{\"prompt\": \"a\"}, 4]", "bad.jsonl:2: expected an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset_options o = text.options;
        put("rows/bad.jsonl", cases[i].rows);
        sail_config *c = configured(cases[i].field);
        columns_read(&o.columns, c);
        assert_refused("rows/bad.jsonl", &o, cases[i].says);
        sail_config_free(c);
    }
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/sail-dataset-%ld", (long)getpid());
    char model[300], command[1200];
    snprintf(model, sizeof model, "%s-model", folder);
    snprintf(command, sizeof command, "mkdir -p %s && cp %s/tokenizer*.json %s/", model, repo_path("examples/demo/stories260K"), model);
    if (system(command)) return 1;
    snprintf(command, sizeof command, "%s/chat_template.jinja", model);
    static const char template[] = "{% for t in tools or [] %}[{{ t.name }}]{% endfor %}{% if loud %}!{% endif %}"
                                   "{% for m in messages %}<{{ m.role }}> {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}";
    sail_err err = {0};
    if (file_replace(command, template, sizeof template - 1, &err) || sail_config_create(&config, "score", &err) || text_pipeline_open(&text, model, NULL, 0, config, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(files_and_folders), cmocka_unit_test(splits), cmocka_unit_test(parquet_and_json_are_the_same_data),
                                       cmocka_unit_test(real_parquet), cmocka_unit_test(every_column_has_its_option), cmocka_unit_test(shapes_of_rows), cmocka_unit_test(tools_and_arguments_reach_the_template),
                                       cmocka_unit_test(shapes_that_are_refused)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    text_pipeline_close(&text);
    sail_config_free(config);
    dir_remove(model, NULL);
    dir_remove(folder, NULL);
    return failed;
}
