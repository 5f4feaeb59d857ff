/* Options: one row of options.def each gives the parser, the YAML key, --help, the range check, docs/options.md and the
 * resolved config of a run. Fields are read directly: config->beta. */
#ifndef SAIL_CONFIG_CONFIG_H
#define SAIL_CONFIG_CONFIG_H

#include "base/mem.h"
#include "sail.h"

enum command {
    CMD_SCORE = 1 << 0,
    CMD_GRAD = 1 << 1,
    CMD_GENERATE = 1 << 2,
    CMD_TOKENIZE = 1 << 3,
    CMD_ALIGN = 1 << 4,
    CMD_SFT = 1 << 5,
    CMD_EVAL = 1 << 6,
    CMD_LABEL = 1 << 7,
    CMD_METHODS = 1 << 8,
    CMD_BENCH = 1 << 9,
    CMD_REPORT = 1 << 10,
    CMD_TEMPLATE = 1 << 11,
    CMD_CONVERT = 1 << 12,
    CMD_REWARD = 1 << 13,
    CMD_COMPARE = 1 << 14,
    CMD_INSPECT = 1 << 15,
};

/* Types of options.def: STR (char *, NULL when absent), INT (int64_t), F64 (double), BOOL. */
typedef char *option_STR;
typedef int64_t option_INT;
typedef double option_F64;
typedef bool option_BOOL;

enum option_id {
#define OPT(type, name, def, low, high, commands, choices, help) OPTION_##name,
#include "config/options.def"
#undef OPT
    OPTION_COUNT
};

struct sail_config {
    enum command command;
    const char *command_name;
    bool wants_help;
    char *action; /* the positional word: bench train|score|generate|tokenize, inspect MODEL, report DIR; NULL: none */
    unsigned char is_set[OPTION_COUNT]; /* the user said it (file or flag) */
#define OPT(type, name, def, low, high, commands, choices, help) option_##type name;
#include "config/options.def"
#undef OPT
};

/* Answers are drawn over the whole vocabulary; and at temperature 1: from the policy itself. */
static inline bool config_whole_vocabulary(const sail_config *c) { return c->top_k == 0 && c->top_p >= 1; }
static inline bool config_draws_policy(const sail_config *c) { return c->temperature == 1 && config_whole_vocabulary(c); }

#define CONFIG_SET(config, name) ((config)->is_set[OPTION_##name] != 0)

/* A preset's default: like sail_config_set, but only where the user said nothing. */
int config_default(sail_config *config, const char *key, const char *value, sail_err *err);
bool config_said(const sail_config *config, const char *key); /* the user set it; key with underscores */
void config_reset(sail_config *config, enum option_id id); /* its default, as if nobody had said anything */
void config_take(sail_config *to, const sail_config *from, enum option_id id); /* an option that both commands have, said or not */
/* An option of the run that is gone on with: as if the user had said it, but only where they said nothing. */
int config_saved(sail_config *config, const char *key, const char *value, sail_err *err);
/* The resolved options of the command as YAML, in the table's order. */
void config_write_yaml(const sail_config *config, struct buf *out);
/* Refuses with "--NAME is needed: HELP" unless set. */
int config_require(const sail_config *config, enum option_id id, sail_err *err);
sail_config *config_copy(const sail_config *config); /* NULL: out of memory */

#endif
