#define _GNU_SOURCE
#include "report/run_writer.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "report/tensorboard.h"

enum { FILE_METRICS, FILE_TIMING, FILE_SAMPLES, FILE_EVENTS, FILE_COUNT };
static const char *const file_name[FILE_EVENTS] = {"metrics.jsonl", "timing.jsonl", "samples.jsonl"};

struct run_writer {
    char *path[FILE_COUNT];
    FILE *file[FILE_COUNT];
    bool progress, terminal, line_open;
    int64_t total;
    double started, shown;
    int64_t first_step;
    struct buf line;
};

/* Keeps the lines whose "step" is at most `last`: what was written after the checkpoint that a run goes on from. */
static int cut_lines(const char *path, int64_t last, sail_err *err)
{
    char *data;
    size_t len, kept = 0;
    if (!path_exists(path)) return SAIL_OK;
    int rc = file_read(path, (size_t)8 << 30, &data, &len, err);
    if (rc) return rc;
    for (size_t at = 0; at < len;) {
        const char *end = memchr(data + at, '\n', len - at);
        long long step;
        if (!end || sscanf(data + at, "{\"step\": %lld", &step) != 1 || step > last) break; // a torn last line goes too
        at = kept = (size_t)(end - data) + 1;
    }
    if (kept < len) rc = file_replace(path, data, kept, err);
    free(data);
    return rc;
}

static double wall_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int put(struct run_writer *w, int which, sail_err *err)
{
    if (w->line.failed) return err_memory(err, w->line.len);
    if (fwrite(w->line.data, 1, w->line.len, w->file[which]) == w->line.len && !fflush(w->file[which])) return SAIL_OK;
    return err_set(err, SAIL_FAILED, "%s: cannot write: %s", w->path[which], strerror(errno));
}

/* Seconds for a new event file's name: later than every older file's, which are read in the order of their names. */
static long events_stamp(const char *folder, double now)
{
    long newest = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        long stamp;
        if (sscanf(e->d_name, "events.out.tfevents.%ld.", &stamp) == 1 && stamp > newest) newest = stamp;
    }
    if (d) closedir(d);
    return (long)now > newest ? (long)now : newest + 1;
}

static int open_events(struct run_writer *w, const char *folder, int64_t resume_step, sail_err *err)
{
    const double now = wall_clock();
    char host[128] = "localhost";
    gethostname(host, sizeof host - 1);
    w->path[FILE_EVENTS] = mem_printf("%s/events.out.tfevents.%010ld.%s.%ld.0", folder, events_stamp(folder, now), host, (long)getpid());
    w->file[FILE_EVENTS] = fopen(w->path[FILE_EVENTS], "wb");
    if (!w->file[FILE_EVENTS]) return err_set(err, SAIL_FAILED, "%s: cannot create: %s", w->path[FILE_EVENTS], strerror(errno));
    buf_clear(&w->line);
    tensorboard_version(&w->line, now);
    if (resume_step != RUN_IS_NEW) tensorboard_start(&w->line, now, resume_step + 1);
    return put(w, FILE_EVENTS, err);
}

int run_writer_open(struct run_writer **out, const char *folder, int64_t resume_step, bool progress, int64_t total_steps, sail_err *err)
{
    struct run_writer *w;
    *out = NULL;
    int rc = mem_alloc(&w, 1, sizeof *w, err);
    if (rc) return rc;
    buf_init(&w->line, 0);
    w->progress = progress;
    w->terminal = isatty(STDERR_FILENO);
    w->total = total_steps;
    w->started = w->shown = clock_seconds();
    w->first_step = resume_step > 0 ? resume_step : 0;
    for (int i = 0; !rc && i < FILE_EVENTS; i++) {
        w->path[i] = path_join(folder, file_name[i]);
        if (resume_step != RUN_IS_NEW) rc = cut_lines(w->path[i], resume_step, err);
        if (!rc && !(w->file[i] = fopen(w->path[i], "ab"))) rc = err_set(err, SAIL_FAILED, "%s: cannot open: %s", w->path[i], strerror(errno));
    }
    if (!rc) rc = open_events(w, folder, resume_step, err);
    if (rc)
        run_writer_close(w, NULL);
    else
        *out = w;
    return rc;
}

int run_writer_sync(struct run_writer *w, sail_err *err)
{
    for (int i = 0; i < FILE_COUNT; i++)
        if (w->file[i] && (fflush(w->file[i]) || fsync(fileno(w->file[i])))) return err_set(err, SAIL_FAILED, "%s: cannot sync: %s", w->path[i], strerror(errno));
    return SAIL_OK;
}

int run_writer_close(struct run_writer *w, sail_err *err)
{
    if (!w) return SAIL_OK;
    int rc = SAIL_OK;
    if (w->line_open) fputc('\n', stderr);
    for (int i = 0; i < FILE_COUNT; i++) {
        if (w->file[i] && fclose(w->file[i]) && !rc) rc = err_set(err, SAIL_FAILED, "%s: cannot write: %s", w->path[i], strerror(errno));
        free(w->path[i]);
    }
    buf_release(&w->line);
    free(w);
    return rc;
}

static void put_line(struct buf *b, int64_t step, const struct metric *m, int n)
{
    buf_clear(b);
    buf_printf(b, "{\"step\": %lld", (long long)step);
    for (int i = 0; i < n; i++) {
        buf_puts(b, ", ");
        buf_json_string(b, m[i].name, strlen(m[i].name));
        buf_puts(b, ": ");
        buf_json_double(b, m[i].value);
    }
    buf_puts(b, "}\n");
}

static int put_scalars(struct run_writer *w, int64_t step, const struct metric *m, int n, sail_err *err)
{
    const double now = wall_clock();
    buf_clear(&w->line);
    for (int i = 0; i < n; i++) tensorboard_scalar(&w->line, now, step, m[i].name, (float)m[i].value);
    return put(w, FILE_EVENTS, err);
}

int run_writer_metrics(struct run_writer *w, int64_t step, const struct metric *m, int n, sail_err *err)
{
    put_line(&w->line, step, m, n);
    int rc = put(w, FILE_METRICS, err);
    return rc ? rc : put_scalars(w, step, m, n, err);
}

int run_writer_timing(struct run_writer *w, int64_t step, const struct metric *m, int n, sail_err *err)
{
    put_line(&w->line, step, m, n);
    return put(w, FILE_TIMING, err);
}

int run_writer_sample(struct run_writer *w, const struct sample_row *r, sail_err *err)
{
    struct buf *b = &w->line;
    buf_clear(b);
    buf_printf(b, "{\"step\": %lld, \"prompt_id\": %lld, \"k\": %lld, \"source\": ", (long long)r->step, (long long)r->prompt_id, (long long)r->k);
    buf_json_string(b, r->source, strlen(r->source));
    buf_puts(b, ", \"prompt\": ");
    buf_json_string(b, r->prompt, strlen(r->prompt));
    buf_puts(b, ", \"completion\": ");
    buf_json_string(b, r->completion, strlen(r->completion));
    buf_puts(b, ", \"reward\": ");
    buf_json_double(b, r->reward);
    buf_puts(b, ", \"logp\": ");
    buf_json_double(b, r->logp);
    buf_puts(b, "}\n");
    return put(w, FILE_SAMPLES, err);
}

static const double *find(const struct metric *m, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(m[i].name, name)) return &m[i].value;
    return NULL;
}

void run_writer_progress(struct run_writer *w, int64_t step, const struct metric *m, int n, double tokens_per_s, const char *phase)
{
    const double now = clock_seconds();
    const bool last = step == w->total && n > 0;
    if (!w->progress || (!last && now - w->shown < (w->terminal ? 0.1 : 30))) return;
    w->shown = now;
    struct buf b;
    buf_init(&b, 0);
    buf_printf(&b, "step %lld/%lld %d%%", (long long)step, (long long)w->total, w->total ? (int)(100 * step / w->total) : 0);
    static const struct {
        const char *name, *label;
    } shown[] = {{"loss", "loss"}, {"rewards/margins", "margin"}, {"objective/scores", "reward"}, {"objective/kl", "kl"}};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        const double *x = find(m, n, shown[i].name);
        if (x) buf_printf(&b, " | %s %.4g", shown[i].label, *x);
    }
    if (n && tokens_per_s > 0) buf_printf(&b, " | %.0f tok/s", tokens_per_s);
    if (!n) buf_printf(&b, " | %s", phase);
    char eta[32];
    if (step > w->first_step && !last) buf_printf(&b, " | ETA %s", clock_duration(eta, (now - w->started) / (double)(step - w->first_step) * (double)(w->total - step)));
    fprintf(stderr, w->terminal ? "\r\033[K%s" : "%s\n", b.data);
    fflush(stderr);
    w->line_open = w->terminal;
    buf_release(&b);
}
