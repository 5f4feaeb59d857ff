/* Typed access to the keys of a config.json. The first error stays in rc; what is read after it is without meaning. */
#ifndef SAIL_MODEL_CONFIG_READER_H
#define SAIL_MODEL_CONFIG_READER_H

#include "model/internal.h"

struct reader {
    json_t *j;
    const char *path;
    sail_err *err;
    int rc;
};

/* null counts as absent everywhere. */
json_t *config_key(const struct reader *r, const char *name);
/* fallback < low: the key is needed. */
int64_t config_integer(struct reader *r, const char *name, int64_t fallback, int64_t low, int64_t high);
double config_number(struct reader *r, json_t *object, const char *name, double fallback);
double config_positive(struct reader *r, json_t *object, const char *name, double fallback);
bool config_flag(struct reader *r, const char *name, bool fallback);
/* "path: " and the message. */
void config_refuse(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* config_rope.c: rotary tables of the layers whose kinds are known. */
void config_read_rope(struct reader *r, struct model_config *c);

#endif
