/* study.yaml of `sail compare`: options common to all runs, methods with their own, seeds, and how the final policies are judged.
 * Every value keeps the line that it stands on, so that a mistake is named by file and line before any work. */
#ifndef SAIL_CONFIG_STUDY_H
#define SAIL_CONFIG_STUDY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sail.h"

enum { STUDY_AGAINST = 4 };

struct study_option {
    char *key, *value; /* a list of values joined by commas */
    int line;
};
struct study_options {
    struct study_option *item;
    size_t n, capacity;
    int line; /* of the section; 0: absent */
};
struct study_seeds {
    int64_t *item;
    size_t n, capacity;
};
struct study_method {
    char *name;
    int line;
    struct study_seeds seeds; /* some of the study's; none: all of them */
    struct study_options options;
};
struct study {
    char *path, *out; /* out: NULL when the file names none */
    struct study_seeds seeds;
    struct study_options base, eval;
    char **against; /* methods that the others are compared with; the first one where the file names none */
    size_t n_against, against_capacity;
    int against_line;
    double reach; /* a reward: what did it take each method to get there? NaN: the file names none */
    struct study_method *method;
    size_t n_method, method_capacity;
};

int study_open(struct study **out, const char *path, sail_err *err);
void study_free(struct study *s);
/* "1,2,3" instead of the file's seeds. what names the place in errors. */
int study_set_seeds(struct study *s, const char *list, const char *what, sail_err *err);
bool study_has_seed(const struct study_seeds *seeds, int64_t seed);

#endif
