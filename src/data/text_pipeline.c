#include "data/text_pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* What ends a turn of the assistant: the first special token that the template writes after the answer's text. -1: none. */
static int32_t find_turn_end(const struct text_pipeline *t)
{
    static const char marker[] = "qzmarkerqz";
    json_t *row = json_pack("{s[{ssss}{ssss}]}", "messages", "role", "user", "content", "hello", "role", "assistant", "content", marker);
    struct buf text;
    buf_init(&text, 0);
    struct ids ids = {0};
    int32_t found = -1;
    const struct template_options o = {.add_generation_prompt = false};
    if (row && !template_render(t->template, row, &o, &text, NULL)) {
        const char *at = text.data ? strstr(text.data, marker) : NULL;
        if (at && !tokenizer_encode(t->tokenizer, at + strlen(marker), strlen(at) - strlen(marker), false, &ids, NULL) && ids.n) {
            const char *piece = tokenizer_token(t->tokenizer, ids.id[0]);
            if (piece && strlen(piece) > 2 && !strncmp(at + strlen(marker), piece, strlen(piece))) found = ids.id[0];
        }
    }
    ids_release(&ids);
    buf_release(&text);
    json_decref(row);
    return found;
}

int text_pipeline_open(struct text_pipeline *t, const char *path, const int32_t *eos, int n_eos, const sail_config *config, sail_err *err)
{
    *t = (struct text_pipeline){.options = {.eos = n_eos ? eos[0] : -1, .turn_end = -1}};
    int rc = tokenizer_exists(path) ? tokenizer_open(&t->tokenizer, path, err) : SAIL_OK;
    if (!rc && t->tokenizer && template_exists(path)) rc = template_open(&t->template, path, err);
    if (rc) {
        text_pipeline_close(t);
        return rc;
    }
    t->options.tokenizer = t->tokenizer;
    t->options.template = t->template;
    columns_read(&t->options.columns, config);
    if (t->tokenizer && tokenizer_eos(t->tokenizer) >= 0) t->options.eos = tokenizer_eos(t->tokenizer);
    if (t->template) t->options.turn_end = find_turn_end(t);
    return SAIL_OK;
}

void text_pipeline_close(struct text_pipeline *t)
{
    tokenizer_close(t->tokenizer);
    template_close(t->template);
    *t = (struct text_pipeline){0};
}

bool text_pipeline_same_tokenizer(const char *a, const char *b)
{
    char *pa = path_join(a, "tokenizer.json"), *pb = path_join(b, "tokenizer.json"), *da = NULL, *db = NULL;
    size_t na = 0, nb = 0;
    const size_t most = (size_t)1 << 28;
    bool same = !file_read(pa, most, &da, &na, NULL) && !file_read(pb, most, &db, &nb, NULL) && na == nb && !memcmp(da, db, na);
    free(da);
    free(db);
    free(pa);
    free(pb);
    return same;
}
