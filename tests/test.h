/* What every test includes: cmocka, a float comparison that prints both values, and the optional shared data. */
#ifndef SAIL_TESTS_TEST_H
#define SAIL_TESTS_TEST_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "sail.h"

/* |got - want| <= absolute + relative * |want| */
#define assert_near(got, want, absolute, relative)                                                              \
    do {                                                                                                        \
        double g_ = (got), w_ = (want), t_ = (absolute) + (relative) * fabs(w_);                                \
        if (!(fabs(g_ - w_) <= t_)) fail_msg("%s = %.17g, wanted %.17g within %.3g", #got, g_, w_, t_);         \
    } while (0)

#define assert_ok(call)                                                        \
    do {                                                                       \
        sail_err e_ = {0};                                                     \
        sail_err *err = &e_;                                                   \
        if ((call) != SAIL_OK) fail_msg("%s failed: %s", #call, e_.message);   \
        (void)err;                                                             \
    } while (0)

/* Path below the repository (golden files). A static buffer: use it at once. */
static inline const char *repo_path(const char *relative)
{
    static char path[4][4096];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", TEST_SOURCE_DIR, relative);
    return path[turn];
}

/* Path in ../shared beside the repository (or $SAIL_TEST_SHARED), or NULL when it is not there. */
static inline const char *shared_path(const char *relative)
{
    static char path[4][4096];
    static int turn;
    const char *root = getenv("SAIL_TEST_SHARED");
    turn = (turn + 1) % 4;
    if (root)
        snprintf(path[turn], sizeof path[turn], "%s/%s", root, relative);
    else
        snprintf(path[turn], sizeof path[turn], "%s/../shared/%s", TEST_SOURCE_DIR, relative);
    return access(path[turn], R_OK) == 0 ? path[turn] : NULL;
}

/* In a test: skips aloud without the shared data. */
#define NEED_SHARED(variable, relative)                          \
    const char *variable = shared_path(relative);                \
    if (!variable) {                                             \
        print_message("SKIP: no shared data (%s)\n", relative);  \
        skip();                                                  \
    }

#endif
