/* The program: parse, run, print the error. It includes nothing but the public header. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sail.h"

/* The first signal asks for a clean stop, a second one ends the program; what comes within half a second is the same request told twice, as by
 * timeout(1), which signals its child and then the child's group. */
static void on_signal(int number)
{
    static volatile sig_atomic_t asked;
    static struct timespec first;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (asked && (double)(now.tv_sec - first.tv_sec) + 1e-9 * (double)(now.tv_nsec - first.tv_nsec) > 0.5) _exit(128 + number);
    if (!asked) first = now;
    asked = 1;
    sail_interrupt();
}

/* A thread of GNU OpenMP's team spins at a barrier, by default without end in sight: when anything else runs on the cores, a waiting thread takes
 * the time of the one that it waits for, and a step costs five times as much. The bound is read once, before main, so the program starts itself
 * again with it; whoever set either variable knows better. */
static void bound_spinning(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0 || setenv("GOMP_SPINCOUNT", "5000", 1)) return;
    path[n] = '\0';
    execv(path, argv); // where that fails the program is slower under load, and right
}

static int complain(const sail_err *err)
{
    fprintf(stderr, "sail: error: %s\n", err->message);
    return sail_exit_code(err->code);
}

int main(int argc, char **argv)
{
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        sail_config_help(argc > 2 ? argv[2] : NULL, argc < 2 ? stderr : stdout);
        return argc < 2 ? SAIL_USAGE : SAIL_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("sail %s\n", sail_version());
        return 0;
    }
    bound_spinning(argv);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); // a limit on the size of files shows as a failed write, as a full disk does

    sail_err err = {0};
    sail_config *config = NULL;
    int rc = sail_config_create(&config, argv[1], &err);
    if (!rc) rc = sail_config_parse(config, argc - 2, argv + 2, &err);
    if (!rc && sail_config_wants_help(config))
        sail_config_help(argv[1], stdout);
    else if (!rc)
        rc = sail_run(config, &err);
    sail_config_free(config);
    if (!rc && (fflush(stdout) || ferror(stdout))) {
        fprintf(stderr, "sail: error: standard output: write failed\n");
        return SAIL_FAILED;
    }
    return rc ? complain(&err) : 0;
}
