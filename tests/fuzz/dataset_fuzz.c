/* Rows of a data set: without a tokenizer, and with one and a chat template. Every span of ids lies in the pool. */
#include "fuzz.h"

#include "data/dataset.h"

static struct tokenizer *tokenizer;
static struct chat_template *template;

static void open_once(void)
{
    static const char chatml[] = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    sail_err err = {0};
    if (tokenizer) return;
    BUG_ON(tokenizer_open(&tokenizer, FUZZ_SOURCE_DIR "/examples/demo/stories260K", &err), "%s", err.message);
    BUG_ON(template_parse(&template, chatml, NULL, &err), "%s", err.message);
}

static void check_span(const struct dataset *d, struct span s, int64_t limit)
{
    BUG_ON(s.n < 0 || s.start < 0 || (limit && s.n > limit), "span %lld, %d", (long long)s.start, (int)s.n);
    if (s.n) fuzz_touch(dataset_ids(d, s), (size_t)s.n * sizeof(int32_t));
    if (s.n && d->counted) fuzz_touch(dataset_counted(d, s), (size_t)s.n);
}

static void read_rows(const char *path, const struct dataset_options *o)
{
    struct dataset *d;
    sail_err err = {0};
    int rc = dataset_open(&d, path, o, &err);
    fuzz_check_refusal(rc, &err);
    if (rc) return;
    for (int64_t i = 0; i < d->n; i++) {
        const struct example *e = &d->example[i];
        check_span(d, e->prompt, o->max_length);
        check_span(d, e->completion, o->max_length);
        check_span(d, e->chosen, o->max_length);
        check_span(d, e->rejected, o->max_length);
        BUG_ON(e->text >= 0 && strlen(d->text + e->text) > (size_t)1 << 24, "a long text");
    }
    dataset_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    open_once();
    const char *path = fuzz_file("rows.jsonl", data, size);
    read_rows(path, &(struct dataset_options){.eos = -1, .turn_end = -1, .max_length = 7, .max_prompt_length = 3});
    read_rows(path, &(struct dataset_options){.tokenizer = tokenizer, .template = template, .eos = 2, .turn_end = -1, .max_length = 64});
    read_rows(path, &(struct dataset_options){.tokenizer = tokenizer, .template = template, .eos = 2, .turn_end = 1, .want_prompts_only = true});
    read_rows(path, &(struct dataset_options){.tokenizer = tokenizer, .template = template, .eos = 2, .turn_end = 1, .assistant_only = true, .max_length = 40});
    return 0;
}
