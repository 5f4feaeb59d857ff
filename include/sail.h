/* sail: online alignment of language models. The only public header.
 *
 * Conventions. Every fallible function returns 0 (SAIL_OK) or a status and fills *err once (err may be NULL).
 * create/open give an object that the caller frees with free/close; free(NULL) is fine. Log-probs are natural
 * logarithms at temperature 1 over the full vocabulary, summed over completion tokens only (EOS included).
 * A library object is used by one thread at a time; work inside is spread over the configured threads. */
#ifndef SAIL_H
#define SAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SAIL_API __attribute__((visibility("default")))

enum sail_status {
    SAIL_OK = 0,
    SAIL_FAILED = 1, /* the environment or the data: files, shapes, numbers */
    SAIL_USAGE = 2,  /* the request itself: unknown option, contradiction */
};

typedef struct sail_err {
    int code;           /* enum sail_status */
    char message[1024]; /* one line: what, where, expected, got */
} sail_err;

SAIL_API const char *sail_version(void);

/* ---------------------------------------------------------------- commands and their options
 * A configuration belongs to one command ("score", "align", ...) and holds typed options with defaults. Precedence:
 * default < preset of the method < YAML file < flag. */

typedef struct sail_config sail_config;

SAIL_API int sail_config_create(sail_config **out, const char *command, sail_err *err);
SAIL_API void sail_config_free(sail_config *config);
/* key as in YAML ("max_steps"; dashes are accepted), value as text. Unknown keys name the nearest one. */
SAIL_API int sail_config_set(sail_config *config, const char *key, const char *value, sail_err *err);
SAIL_API int sail_config_load(sail_config *config, const char *yaml_path, sail_err *err);
/* argv without the program's and the command's name; --config files are loaded first. */
SAIL_API int sail_config_parse(sail_config *config, int argc, char **argv, sail_err *err);
SAIL_API void sail_config_help(const char *command, FILE *out); /* NULL: the list of commands */
SAIL_API bool sail_config_wants_help(const sail_config *config);

/* Runs the configuration's command; what it prints goes to stdout and to the files that the options name. */
SAIL_API int sail_run(const sail_config *config, sail_err *err);

/* Asks a running command to finish its step, save and return (async-signal-safe). */
SAIL_API void sail_interrupt(void);

/* The process's exit status for a finished sail_run: 0 ok, 1 failed, 2 usage. */
static inline int sail_exit_code(int status) { return status == SAIL_OK ? 0 : status == SAIL_USAGE ? 2 : 1; }

#ifdef __cplusplus
}
#endif
#endif
