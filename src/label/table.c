/* A gold table: JSON lines {"prompt", "completion", "reward"}; a pair that is not in it has no verdict. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "label/internal.h"

struct table {
    struct labeler head;
    json_t *reward; /* "prompt\x1fcompletion" -> number */
};

static char *key_of(const char *prompt, const char *completion) { return mem_printf("%s\x1f%s", prompt, completion); }

static int ask(struct labeler *l, const struct label_request *q, struct label_answer *a, sail_err *err)
{
    struct table *t = (struct table *)l;
    (void)err;
    for (int i = 0; i < q->n; i++) {
        char *key = key_of(q->prompt, q->completions[i]);
        json_t *v = json_object_get(t->reward, key);
        if (v)
            a->reward[i] = json_number_value(v);
        else
            l->bad++;
        free(key);
    }
    return SAIL_OK;
}

static void close_table(struct labeler *l)
{
    json_decref(((struct table *)l)->reward);
    free(l);
}

static int read_line(struct table *t, const char *path, const char *line, size_t n, int64_t number, sail_err *err)
{
    json_error_t why;
    const char *prompt, *completion;
    double reward;
    json_t *j = json_loadb(line, n, JSON_REJECT_DUPLICATES, &why);
    int rc = SAIL_OK;
    if (!j || json_unpack(j, "{ss ss sF}", "prompt", &prompt, "completion", &completion, "reward", &reward))
        rc = err_set(err, SAIL_FAILED, "%s:%lld: expected {\"prompt\", \"completion\", \"reward\"}", path, (long long)number);
    if (!rc) {
        char *key = key_of(prompt, completion);
        json_object_set_new(t->reward, key, json_real(reward));
        free(key);
    }
    json_decref(j);
    return rc;
}

int labeler_table_open(struct labeler **out, const char *path, sail_err *err)
{
    struct table *t;
    char *data = NULL;
    size_t len;
    *out = NULL;
    int rc = mem_alloc(&t, 1, sizeof *t, err);
    if (rc) return rc;
    t->head = (struct labeler){.name = "gold table", .ask = ask, .close = close_table};
    t->reward = json_object();
    rc = file_read_gz(path, (size_t)4 << 30, &data, &len, err);
    int64_t number = 0;
    for (size_t at = 0; !rc && at < len;) {
        const char *end = memchr(data + at, '\n', len - at);
        const size_t n = end ? (size_t)(end - data) - at : len - at;
        number++;
        if (n) rc = read_line(t, path, data + at, n, number, err);
        at += n + 1;
    }
    free(data);
    if (rc)
        close_table(&t->head);
    else
        *out = &t->head;
    return rc;
}
