/* The runs of a study, --jobs at a time, each in a process of its own; what is finished is kept, and one study has one driver. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/child.h"
#include "base/err.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "jobs/compare.h"
#include "jobs/jobs.h"

struct work { /* of one process */
    const struct comparison *c;
    struct compare_run *run;
};
struct drive {
    struct comparison *c;
    struct work *work;    /* (jobs) */
    struct child *child;  /* (jobs); pid 0: free */
    struct pollfd *end;   /* (jobs) */
    size_t next, n_before, n_done, n_failed, n_running;
    bool terminal, stopping;
    double started, shown;
    char failed[512]; /* names of runs */
};

/* The judge's models are in memory only while they judge. */
static int one_run(void *context, sail_err *err)
{
    const struct work *w = context;
    struct compare_judge *judge = NULL;
    char *saved = path_join(w->run->folder, "config.yaml");
    w->run->config->resume = path_exists(saved);
    free(saved);
    if (w->c->jobs > 1) {
        log_quiet(true);
        log_name(w->run->name);
    }
    int rc = job_align(w->run->config, err);
    if (!rc) rc = compare_judge_open(&judge, w->c, err);
    if (!rc) rc = compare_judge_run(judge, w->run, err);
    compare_judge_close(judge);
    return rc;
}

static int try_judge(void *context, sail_err *err)
{
    const struct work *w = context;
    struct compare_judge *judge;
    int rc = compare_judge_open(&judge, w->c, err);
    compare_judge_close(judge);
    return rc;
}

/* What is wrong with the judge is said before any run. */
static int check_judge(const struct comparison *c, sail_err *err)
{
    struct work w = {.c = c};
    struct child child;
    int rc = child_start(&child, try_judge, &w, err);
    return rc ? rc : child_join(&child, err);
}

/* Held until the last process of the study has ended, also by those that outlive a killed driver for a moment. */
static int lock_folder(const char *folder, int *out, sail_err *err)
{
    char *path = path_join(folder, "compare.lock");
    int rc = SAIL_OK;
    *out = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*out < 0) rc = err_set(err, SAIL_FAILED, "%s: cannot open: %s", path, strerror(errno));
    for (int i = 0; !rc && flock(*out, LOCK_EX | LOCK_NB); i++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            rc = err_set(err, SAIL_FAILED, "%s: cannot lock: %s", path, strerror(errno));
        else if (i == 40)
            rc = err_set(err, SAIL_FAILED, "%s: another `sail compare` works in this folder: wait for it, or give another --out", folder);
        else
            usleep(50000);
    }
    free(path);
    return rc;
}

static size_t left(const struct drive *d) { return d->c->n_run - d->n_before - d->n_done - d->n_failed; }

/* "finished 12 of 340, running 16 | 1m03s | ETA 2h10m": rewritten in place on a terminal, else a line every 30 s and the last one. */
static void show(struct drive *d)
{
    const double now = clock_seconds();
    const bool last = !d->n_running && (d->stopping || !left(d));
    if (d->c->jobs == 1 || d->c->quiet || (!last && now - d->shown < (d->terminal ? 0.2 : 30))) return;
    char spent[32], eta[32], failed[40] = "", rest[48] = "";
    clock_duration(spent, now - d->started);
    clock_duration(eta, d->n_done ? (now - d->started) / (double)d->n_done * (double)left(d) : 0);
    if (d->n_failed) snprintf(failed, sizeof failed, ", failed %zu", d->n_failed);
    if (d->n_done && left(d) && !d->stopping) snprintf(rest, sizeof rest, " | ETA %s", eta);
    fprintf(stderr, d->terminal ? "\r\033[Kfinished %zu of %zu%s, %s %zu | %s%s%s" : "finished %zu of %zu%s, %s %zu | %s%s%s\n", d->n_before + d->n_done, d->c->n_run, failed,
            d->stopping ? "stopping" : "running", d->n_running, spent, rest, d->terminal && last ? "\n" : "");
    fflush(stderr);
    d->shown = now;
}

static void announce(const struct drive *d, const struct compare_run *run)
{
    char eta[48] = "", duration[32];
    if (d->n_done) snprintf(eta, sizeof eta, ", ETA %s", clock_duration(duration, (clock_seconds() - d->started) / (double)d->n_done * (double)left(d)));
    log_note("run %zu of %zu: %s, seed %lld (%zu finished before, %zu to do%s)", (size_t)(run - d->c->run) + 1, d->c->n_run, run->method->name, (long long)run->seed, d->n_before, left(d), eta);
}

/* Fills the free places with what comes next. */
static int start_runs(struct drive *d, sail_err *err)
{
    int rc = SAIL_OK;
    for (int k = 0; !rc && k < d->c->jobs; k++) {
        if (d->child[k].pid) continue;
        while (d->next < d->c->n_run && compare_finished(&d->c->run[d->next])) d->next++;
        if (d->next == d->c->n_run) return SAIL_OK;
        d->work[k] = (struct work){d->c, &d->c->run[d->next++]};
        if (d->c->jobs == 1) announce(d, d->work[k].run);
        rc = child_start(&d->child[k], one_run, &d->work[k], err);
        d->end[k] = (struct pollfd){.fd = rc ? -1 : d->child[k].report, .events = POLLIN};
        d->n_running += !rc;
    }
    return rc;
}

/* A run that fails leaves the others alone. */
static void end_run(struct drive *d, int k)
{
    sail_err err = {0};
    const char *name = d->work[k].run->name;
    const int rc = child_join(&d->child[k], &err);
    d->end[k].fd = -1;
    d->n_running--;
    if (!rc) {
        d->n_done++;
    } else if (!d->stopping) {
        if (d->terminal && d->c->jobs > 1) fputs("\r\033[K", stderr);
        log_warning("run %s: %s", name, err.message);
        const size_t n = strlen(d->failed);
        snprintf(d->failed + n, sizeof d->failed - n, "%s%s", n ? ", " : "", name);
        d->n_failed++;
    }
}

static void stop_runs(struct drive *d)
{
    if (d->stopping) return;
    d->stopping = true;
    for (int k = 0; k < d->c->jobs; k++)
        if (d->child[k].pid) child_interrupt(&d->child[k]);
}

static int drive(struct drive *d, sail_err *err)
{
    int rc = SAIL_OK;
    do {
        if (rc || interrupt_asked()) stop_runs(d);
        if (!d->stopping) rc = start_runs(d, err);
        show(d);
        if (!d->n_running || poll(d->end, (nfds_t)d->c->jobs, 200) <= 0) continue;
        for (int k = 0; k < d->c->jobs; k++)
            if (d->child[k].pid && d->end[k].revents) end_run(d, k);
    } while (d->n_running || (!d->stopping && left(d)));
    show(d);
    if (rc) return rc;
    if (left(d)) return err_set(err, SAIL_FAILED, "interrupted with %zu of %zu runs finished: the others are saved; the same command goes on from there", d->n_before + d->n_done, d->c->n_run);
    return d->n_failed ? err_set(err, SAIL_FAILED, "%zu of %zu runs failed (%s): no table; the same command tries them again", d->n_failed, d->c->n_run, d->failed) : SAIL_OK;
}

static size_t count_finished(const struct comparison *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_run; i++) n += compare_finished(&c->run[i]);
    return n;
}

int compare_run_all(struct comparison *c, sail_err *err)
{
    struct drive d = {.c = c, .terminal = isatty(2), .shown = -INFINITY};
    int rc = SAIL_OK, lock = -1;
    for (size_t i = 0; !rc && i < c->n_run; i++) rc = compare_check_folder(&c->run[i], err);
    if (!rc && count_finished(c) < c->n_run) rc = check_judge(c, err);
    if (!rc) rc = dir_create(c->out, err);
    if (!rc) rc = lock_folder(c->out, &lock, err);
    if (!rc) rc = mem_alloc(&d.work, (size_t)c->jobs, sizeof *d.work, err);
    if (!rc) rc = mem_alloc(&d.child, (size_t)c->jobs, sizeof *d.child, err);
    if (!rc) rc = mem_alloc(&d.end, (size_t)c->jobs, sizeof *d.end, err);
    for (int k = 0; !rc && k < c->jobs; k++) d.end[k].fd = -1;
    d.started = clock_seconds();
    if (!rc) d.n_before = count_finished(c);
    if (!rc) rc = drive(&d, err);
    free(d.work);
    free(d.child);
    free(d.end);
    if (lock >= 0) close(lock);
    return rc;
}
