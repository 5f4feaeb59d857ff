#include "label/yaml_json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/err.h"

enum { MAX_DEPTH = 32 };

static json_t *scalar(const yaml_node_t *node)
{
    const char *s = (const char *)node->data.scalar.value;
    const size_t n = node->data.scalar.length;
    if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return json_stringn(s, n);
    if (!strcmp(s, "true") || !strcmp(s, "yes")) return json_true();
    if (!strcmp(s, "false") || !strcmp(s, "no")) return json_false();
    if (!strcmp(s, "null") || !strcmp(s, "~") || !n) return json_null();
    char *end;
    const double x = strtod(s, &end);
    return !*end && isfinite(x) ? json_real(x) : json_stringn(s, n);
}

static json_t *convert(yaml_document_t *d, const yaml_node_t *node, int depth)
{
    if (!node || depth > MAX_DEPTH) return NULL;
    json_t *out = node->type == YAML_SCALAR_NODE ? scalar(node) : node->type == YAML_SEQUENCE_NODE ? json_array() : json_object();
    bool good = true;
    if (node->type == YAML_SEQUENCE_NODE)
        for (yaml_node_item_t *i = node->data.sequence.items.start; good && i < node->data.sequence.items.top; i++)
            good = !json_array_append_new(out, convert(d, yaml_document_get_node(d, *i), depth + 1));
    if (node->type == YAML_MAPPING_NODE)
        for (yaml_node_pair_t *p = node->data.mapping.pairs.start; good && p < node->data.mapping.pairs.top; p++) {
            const yaml_node_t *key = yaml_document_get_node(d, p->key);
            good = key && key->type == YAML_SCALAR_NODE &&
                   !json_object_set_new(out, (const char *)key->data.scalar.value, convert(d, yaml_document_get_node(d, p->value), depth + 1));
        }
    if (good) return out;
    json_decref(out);
    return NULL;
}

int yaml_json_read(const char *path, json_t **out, sail_err *err)
{
    *out = NULL;
    FILE *f = fopen(path, "rb");
    if (!f) return err_set(err, SAIL_USAGE, "%s: %s", path, strerror(errno));
    yaml_parser_t parser;
    yaml_document_t document;
    int rc = SAIL_OK;
    if (!yaml_parser_initialize(&parser)) {
        fclose(f);
        return err_memory(err, sizeof parser);
    }
    yaml_parser_set_input_file(&parser, f);
    if (!yaml_parser_load(&parser, &document)) {
        rc = err_set(err, SAIL_USAGE, "%s:%zu: not YAML: %s", path, parser.problem_mark.line + 1, parser.problem ? parser.problem : "unreadable");
    } else {
        *out = convert(&document, yaml_document_get_root_node(&document), 0);
        if (!*out) rc = err_set(err, SAIL_USAGE, "%s: expected mappings, lists and plain values, at most %d deep", path, MAX_DEPTH);
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
    fclose(f);
    return rc;
}
