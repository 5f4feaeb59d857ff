/* A chat template, and after "\n%%\n" a row for it. */
#include "fuzz.h"

#include "template/template.h"

static json_t *row_of(const uint8_t *text, size_t n)
{
    json_t *row = text ? json_loadb((const char *)text, n, 0, NULL) : NULL;
    if (json_is_object(row)) return row;
    json_decref(row);
    return json_pack("{s[{ssss}{ssss}{ssss}] s{s[i{ss}n]} sf}", "messages", "role", "system", "content", "Be brief.", "role", "user", "content", " Hi\n", "role", "assistant", "content", "Héllo 世界",
                     "d", "list", 7, "k", "v", "x", 2.5);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *rest;
    size_t n_rest;
    const size_t n = fuzz_part(data, size, &rest, &n_rest);
    char *source = calloc(n + 1, 1);
    if (n) memcpy(source, data, n);
    struct chat_template *t;
    sail_err err = {0};
    int rc = template_parse(&t, source, NULL, &err);
    fuzz_check_refusal(rc, &err);
    free(source);
    if (rc) return 0;
    json_t *row = row_of(rest, n_rest);
    for (int k = 0; k < 2; k++) {
        const struct template_options o = {.add_generation_prompt = !k, .continue_final_message = k, .now = 1700000000};
        struct buf out;
        buf_init(&out, 0);
        template_render(t, row, &o, &out, &err);
        buf_release(&out);
    }
    json_decref(row);
    template_close(t);
    return 0;
}
