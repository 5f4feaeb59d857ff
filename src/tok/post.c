/* Post-processors: what is put around a text, as a list of ids with a place for the text. */
#include <string.h>

#include "base/err.h"
#include "tok/internal.h"

static int push_id(struct ids *out, json_t *id, const char *what, sail_err *err)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX) return err_set(err, SAIL_FAILED, "tokenizer: post-processor %s: expected an id", what);
    return ids_push(out, (int32_t)json_integer_value(id), err);
}

static int read_template(struct ids *out, json_t *spec, sail_err *err)
{
    json_t *single = json_object_get(spec, "single"), *piece, *id;
    size_t i, k;
    int rc = SAIL_OK;
    if (!json_is_array(single)) return err_set(err, SAIL_FAILED, "tokenizer: post-processor TemplateProcessing: single: expected an array");
    json_array_foreach(single, i, piece)
    {
        json_t *special = json_object_get(piece, "SpecialToken");
        if (rc) break;
        if (!special && !json_object_get(piece, "Sequence")) return err_set(err, SAIL_FAILED, "tokenizer: post-processor TemplateProcessing: single[%zu]: expected SpecialToken or Sequence", i);
        if (!special) {
            rc = ids_push(out, POST_TEXT, err);
            continue;
        }
        const char *name = json_string_value(json_object_get(special, "id"));
        json_t *ids = json_object_get(json_object_get(json_object_get(spec, "special_tokens"), name ? name : ""), "ids");
        if (!json_is_array(ids)) return err_set(err, SAIL_FAILED, "tokenizer: post-processor TemplateProcessing: special token '%.60s' has no ids", name ? name : "?");
        json_array_foreach(ids, k, id) if (!rc) rc = push_id(out, id, "TemplateProcessing", err);
    }
    return rc;
}

static int read_pair(struct ids *out, json_t *spec, const char *type, sail_err *err)
{
    int rc = push_id(out, json_array_get(json_object_get(spec, "cls"), 1), type, err);
    if (!rc) rc = ids_push(out, POST_TEXT, err);
    return rc ? rc : push_id(out, json_array_get(json_object_get(spec, "sep"), 1), type, err);
}

static int push_around(struct ids *out, int32_t id, sail_err *err)
{
    enum { MOST = 4096 }; // a list that holds the text twice doubles with every nesting
    return out->n < MOST ? ids_push(out, id, err) : err_set(err, SAIL_FAILED, "tokenizer: post-processor: more than %d ids around a text", MOST);
}

/* Puts `inner` where `outer` has its text. */
static int nest(struct ids *out, const struct ids *outer, const struct ids *inner, sail_err *err)
{
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < outer->n; i++) {
        if (outer->id[i] != POST_TEXT) rc = push_around(out, outer->id[i], err);
        for (size_t k = 0; !rc && outer->id[i] == POST_TEXT && k < inner->n; k++) rc = push_around(out, inner->id[k], err);
    }
    return rc;
}

static int read_sequence(struct ids *out, json_t *list, sail_err *err)
{
    size_t i;
    json_t *one;
    int rc = ids_push(out, POST_TEXT, err);
    json_array_foreach(list, i, one)
    {
        struct ids outer = {0}, nested = {0};
        if (!rc) rc = post_read(&outer, one, err);
        if (!rc) rc = nest(&nested, &outer, out, err);
        ids_release(&outer);
        if (rc) {
            ids_release(&nested);
            break;
        }
        ids_release(out);
        *out = nested;
    }
    return rc;
}

int post_read(struct ids *out, json_t *spec, sail_err *err)
{
    if (!spec || json_is_null(spec)) return ids_push(out, POST_TEXT, err);
    const char *type;
    json_t *list;
    int rc = member_type(spec, "processors", &type, &list, "tokenizer: post-processor", err);
    if (rc) return rc;
    if (list) return read_sequence(out, list, err);
    if (!strcmp(type, "ByteLevel")) return ids_push(out, POST_TEXT, err); // it only moves offsets
    if (!strcmp(type, "TemplateProcessing")) return read_template(out, spec, err);
    if (!strcmp(type, "BertProcessing") || !strcmp(type, "RobertaProcessing")) return read_pair(out, spec, type, err);
    return err_set(err, SAIL_FAILED, "tokenizer: post-processor '%.60s' is not supported", type);
}
