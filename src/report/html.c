/* report.html: self-contained, inline SVG, made from the run directories alone. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "report/run_writer.h"

enum { WIDTH = 560, HEIGHT = 240, LEFT = 58, BOTTOM = 34, TOP = 12, RIGHT = 12 };

struct run_files {
    const char *label;
    size_t n_method; /* bytes of the label that name the method: what comes before "-seed3" */
    int line;        /* colour and dashes: runs of one method look alike */
    json_t *metrics, *samples; /* arrays of objects */
};

struct series {
    const char *label;
    size_t n_label;
    double *x, *y;
    int n, line;
};

static void put_bytes(struct buf *b, const char *s, size_t n)
{
    for (; n--; s++) {
        const char *e = *s == '<' ? "&lt;" : *s == '>' ? "&gt;" : *s == '&' ? "&amp;" : *s == '"' ? "&quot;" : NULL;
        if (e)
            buf_puts(b, e);
        else
            buf_putc(b, *s);
    }
}

static void put_text(struct buf *b, const char *s) { put_bytes(b, s, strlen(s)); }

/* Opens a line of points: eight colours, then the same with dashes, then the same again. */
static void put_line(struct buf *b, int line) { buf_printf(b, "<polyline class='c%d d%d' points='", line % 8, line / 8 % 3); }

/* Bytes of "sail-pr" in "sail-pr-seed3"; all of a label of another kind. */
static size_t method_length(const char *label)
{
    const char *end = label + strlen(label), *digits = end;
    while (digits > label && digits[-1] >= '0' && digits[-1] <= '9') digits--;
    const bool seed = digits < end && digits - label > 5 && !memcmp(digits - 5, "-seed", 5);
    return (size_t)((seed ? digits - 5 : end) - label);
}

static void choose_lines(struct run_files *run, int n)
{
    int next = 0;
    for (int k = 0; k < n; k++) {
        run[k].n_method = method_length(run[k].label);
        run[k].line = -1;
        for (int i = 0; i < k && run[k].line < 0; i++)
            if (run[i].n_method == run[k].n_method && !memcmp(run[i].label, run[k].label, run[k].n_method)) run[k].line = run[i].line;
        if (run[k].line < 0) run[k].line = next++;
    }
}

static json_t *read_lines(const char *folder, const char *name, sail_err *err)
{
    char *path = path_join(folder, name), *data;
    size_t len;
    json_t *all = json_array();
    if (path_exists(path)) {
        if (file_read(path, (size_t)2 << 30, &data, &len, err)) {
            json_decref(all);
            all = NULL;
        } else {
            for (size_t at = 0; at < len;) {
                const char *end = memchr(data + at, '\n', len - at);
                const size_t n = end ? (size_t)(end - data) - at : len - at;
                json_t *row = n ? json_loadb(data + at, n, 0, NULL) : NULL;
                if (row) json_array_append_new(all, row); // a torn last line is not a row
                at += n + 1;
            }
            free(data);
        }
    }
    free(path);
    return all;
}

/* Points of a metric over another (or over the step); NaN and absent ones are left out. */
static struct series make_series(const struct run_files *run, const char *x, const char *y)
{
    struct series s = {.label = run->label, .n_label = run->n_method, .line = run->line};
    const size_t n = json_array_size(run->metrics);
    s.x = calloc(n + 1, sizeof *s.x);
    s.y = calloc(n + 1, sizeof *s.y);
    size_t i;
    json_t *row;
    json_array_foreach(run->metrics, i, row)
    {
        json_t *vx = json_object_get(row, x), *vy = json_object_get(row, y);
        if (!s.x || !s.y || !json_is_number(vx) || !json_is_number(vy)) continue;
        s.x[s.n] = json_number_value(vx);
        s.y[s.n++] = json_number_value(vy);
    }
    return s;
}

static void free_series(struct series *s)
{
    free(s->x);
    free(s->y);
}

/* One more seed: sums, over the points that all seeds have. */
static void add_series(struct series *sum, struct series more)
{
    if (more.n < sum->n) sum->n = more.n;
    for (int i = 0; i < sum->n; i++) {
        sum->x[i] += more.x[i];
        sum->y[i] += more.y[i];
    }
    free_series(&more);
}

/* The mean over the seeds of the method that has this line. */
static struct series mean_series(const struct run_files *run, int n, int line, const char *x, const char *y)
{
    struct series mean = {0};
    int n_seed = 0;
    for (int k = 0; k < n; k++) {
        if (run[k].line != line) continue;
        struct series one = make_series(&run[k], x, y);
        if (n_seed++)
            add_series(&mean, one);
        else
            mean = one;
    }
    for (int i = 0; i < mean.n; i++) {
        mean.x[i] /= n_seed;
        mean.y[i] /= n_seed;
    }
    return mean;
}

static double nice_step(double range)
{
    const double raw = range / 4, power = pow(10, floor(log10(raw))), unit = raw / power;
    return power * (unit < 1.5 ? 1 : unit < 3.5 ? 2 : unit < 7.5 ? 5 : 10);
}

static void put_axis(struct buf *b, double low, double high, bool vertical)
{
    const double step = nice_step(high - low), span = vertical ? HEIGHT - TOP - BOTTOM : WIDTH - LEFT - RIGHT;
    for (double v = ceil(low / step) * step; v <= high + step * 1e-9; v += step) {
        const double at = (v - low) / (high - low) * span;
        if (vertical)
            buf_printf(b, "<line class=g x1=%d x2=%d y1=%.1f y2=%.1f /><text x=%d y=%.1f text-anchor=end>%.4g</text>", LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM - at, HEIGHT - BOTTOM - at, LEFT - 6,
                       HEIGHT - BOTTOM - at + 4, fabs(v) < step * 1e-6 ? 0 : v);
        else
            buf_printf(b, "<text x=%.1f y=%d text-anchor=middle>%.4g</text>", LEFT + at, HEIGHT - BOTTOM + 16, fabs(v) < step * 1e-6 ? 0 : v);
    }
}

/* Where values lie on a chart. */
struct frame {
    double x0, x1, y0, y1;
};

static double at_x(const struct frame *f, double x) { return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT); }
static double at_y(const struct frame *f, double y) { return HEIGHT - BOTTOM - (y - f->y0) / (f->y1 - f->y0) * (HEIGHT - TOP - BOTTOM); }

static const struct frame no_frame = {INFINITY, -INFINITY, INFINITY, -INFINITY};

static void widen(struct frame *f, double x, double y)
{
    f->x0 = fmin(f->x0, x);
    f->x1 = fmax(f->x1, x);
    f->y0 = fmin(f->y0, y);
    f->y1 = fmax(f->y1, y);
}

/* Opens a figure with its axes; false: nothing was measured. */
static bool open_chart(struct buf *b, const char *title, struct frame *f)
{
    if (!(f->x1 >= f->x0)) return false;
    if (f->x1 == f->x0) f->x1 = f->x0 + 1;
    const double least = 1e-9 * fmax(fabs(f->y0), fabs(f->y1)), pad = f->y1 - f->y0 > least ? (f->y1 - f->y0) * 0.05 : fmax(0.5, least); // what differs by rounding is one value
    f->y0 -= pad;
    f->y1 += pad;
    buf_puts(b, "<figure><figcaption>");
    put_text(b, title);
    buf_printf(b, "</figcaption><svg viewBox='0 0 %d %d' role=img>", WIDTH, HEIGHT);
    put_axis(b, f->y0, f->y1, true);
    put_axis(b, f->x0, f->x1, false);
    return true;
}

static void close_chart(struct buf *b, const char *x_label)
{
    buf_printf(b, "<text x=%d y=%d text-anchor=middle>", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 2);
    put_text(b, x_label);
    buf_puts(b, "</text></svg></figure>");
}

static void put_chart(struct buf *b, const char *title, const char *x_label, const struct series *s, int n)
{
    struct frame f = no_frame;
    for (int k = 0; k < n; k++)
        for (int i = 0; i < s[k].n; i++) widen(&f, s[k].x[i], s[k].y[i]);
    if (!open_chart(b, title, &f)) return;
    for (int k = 0; k < n; k++) {
        if (!s[k].n) continue;
        put_line(b, s[k].line);
        for (int i = 0; i < s[k].n; i++) buf_printf(b, "%.1f,%.1f ", at_x(&f, s[k].x[i]), at_y(&f, s[k].y[i]));
        buf_puts(b, "'><title>");
        put_bytes(b, s[k].label, s[k].n_label);
        buf_puts(b, "</title></polyline>");
    }
    close_chart(b, x_label);
}

static void put_legend(struct buf *b, const struct run_files *run, int n)
{
    if (n < 2) return;
    buf_puts(b, "<p class=legend>");
    int shown = 0;
    for (int k = 0; k < n; k++) {
        if (run[k].line < shown) continue; // a seed more of a method that is there
        shown++;
        buf_puts(b, "<span><svg class=key viewBox='0 0 24 8'>");
        put_line(b, run[k].line);
        buf_puts(b, "0,4 24,4'/></svg>");
        put_bytes(b, run[k].label, run[k].n_method);
        buf_puts(b, "</span> ");
    }
    buf_puts(b, "</p>");
}

/* A curve for each method: the mean over its seeds. */
static void put_charts(struct buf *b, const struct run_files *run, int n)
{
    static const struct {
        const char *title, *x, *y, *x_label;
    } charts[] = {
        {"loss", "step", "loss", "step"},
        {"reward of sampled answers", "step", "objective/scores", "step"},
        {"reward on held-out prompts", "step", "eval_reward", "step"},
        {"reward against KL (held-out prompts)", "eval_kl", "eval_reward", "KL(policy || reference), nats per answer"},
        {"KL of sampled answers", "step", "objective/kl", "step"},
        {"margin (beta h)", "step", "rewards/margins", "step"},
        {"accuracy", "step", "rewards/accuracies", "step"},
        {"held-out loss", "step", "eval_loss", "step"},
        {"length of sampled answers", "step", "completions/mean_length", "step"},
        {"gradient norm", "step", "grad_norm", "step"},
    };
    int n_line = 0;
    for (int k = 0; k < n; k++) n_line = run[k].line >= n_line ? run[k].line + 1 : n_line;
    struct series *s = calloc((size_t)n_line + 1, sizeof *s);
    if (!s) b->failed = true;
    buf_puts(b, "<div class=charts>");
    for (size_t c = 0; s && c < sizeof charts / sizeof *charts; c++) {
        for (int k = 0; k < n_line; k++) s[k] = mean_series(run, n, k, charts[c].x, charts[c].y);
        put_chart(b, charts[c].title, charts[c].x_label, s, n_line);
        for (int k = 0; k < n_line; k++) free_series(&s[k]);
    }
    free(s);
    buf_puts(b, "</div>");
}

/* The answers to one prompt at the first and the last written step. */
static void put_sample(struct buf *b, json_t *row, const char *label)
{
    const char *text = json_string_value(json_object_get(row, "completion"));
    json_t *reward = json_object_get(row, "reward");
    buf_puts(b, "<td><small>");
    put_text(b, label);
    buf_printf(b, ", step %lld", (long long)json_integer_value(json_object_get(row, "step")));
    if (json_is_number(reward)) buf_printf(b, ", reward %.3g", json_number_value(reward));
    buf_puts(b, "</small><br>");
    put_text(b, text ? text : "");
    buf_puts(b, "</td>");
}

static void put_samples(struct buf *b, const struct run_files *run, int n)
{
    json_t *first = json_object(), *order = json_array();
    size_t i;
    json_t *row;
    json_array_foreach(run[0].samples, i, row)
    {
        char key[32];
        snprintf(key, sizeof key, "%lld", (long long)json_integer_value(json_object_get(row, "prompt_id")));
        if (json_object_get(first, key)) continue;
        json_object_set(first, key, row);
        json_array_append_new(order, json_string(key));
    }
    if (json_array_size(order)) buf_puts(b, "<h2>Answers side by side</h2>");
    json_t *key;
    json_array_foreach(order, i, key)
    {
        json_t *start = json_object_get(first, json_string_value(key));
        const char *prompt = json_string_value(json_object_get(start, "prompt"));
        buf_puts(b, "<div class=scroll><table class=samples><caption>");
        put_text(b, prompt ? prompt : "");
        buf_puts(b, "</caption><tr>");
        put_sample(b, start, "start");
        for (int k = 0, shown = 0; k < n; k++) {
            json_t *last = NULL;
            size_t j;
            if (run[k].line < shown) continue; // of a method's seeds the first
            shown++;
            json_array_foreach(run[k].samples, j, row)
            {
                if (json_integer_value(json_object_get(row, "prompt_id")) == json_integer_value(json_object_get(start, "prompt_id"))) last = row;
            }
            if (last) put_sample(b, last, run[k].label);
        }
        buf_puts(b, "</tr></table></div>");
    }
    json_decref(first);
    json_decref(order);
}

static void put_table(struct buf *b, const struct report_table *t)
{
    buf_puts(b, "<h2>");
    put_text(b, t->title);
    buf_puts(b, "</h2><div class=scroll><table><tr><th></th>");
    for (int c = 0; c < t->n_column; c++) {
        buf_puts(b, "<th>");
        put_text(b, t->column[c]);
        buf_puts(b, "</th>");
    }
    buf_puts(b, "</tr>");
    for (int r = 0; r < t->n_row; r++) {
        buf_puts(b, "<tr><th>");
        put_text(b, t->row[r]);
        buf_puts(b, "</th>");
        for (int c = 0; c < t->n_column; c++) {
            const struct report_cell *x = &t->cell[r * t->n_column + c];
            buf_puts(b, "<td>");
            if (x->text)
                put_text(b, x->text);
            else if (isfinite(x->value))
                buf_printf(b, "%.4g", x->value);
            if (!x->text && isfinite(x->low) && isfinite(x->high)) buf_printf(b, " <small>[%.3g, %.3g]</small>", x->low, x->high);
            buf_puts(b, "</td>");
        }
        buf_puts(b, "</tr>");
    }
    buf_puts(b, "</table></div><p>");
    if (t->note) put_text(b, t->note);
    buf_puts(b, "</p>");
}

/* A named point for each row: the final policies. */
static void put_points(struct buf *b, const struct report_table *t)
{
    if (t->chart_x == t->chart_y) return;
    struct frame f = no_frame;
    for (int r = 0; r < t->n_row; r++) {
        const struct report_cell *row = t->cell + r * t->n_column;
        if (isfinite(row[t->chart_x].value) && isfinite(row[t->chart_y].value)) widen(&f, row[t->chart_x].value, row[t->chart_y].value);
    }
    char *title = mem_printf("%s against %s", t->column[t->chart_y], t->column[t->chart_x]);
    if (open_chart(b, title, &f)) {
        for (int r = 0; r < t->n_row; r++) {
            const struct report_cell *row = t->cell + r * t->n_column;
            if (!isfinite(row[t->chart_x].value) || !isfinite(row[t->chart_y].value)) continue;
            const double x = at_x(&f, row[t->chart_x].value), y = at_y(&f, row[t->chart_y].value);
            buf_printf(b, "<circle class=p cx=%.1f cy=%.1f r=2.5 /><text x=%.1f y=%.1f class=n>", x, y, x + 4, y - 3);
            put_text(b, t->row[r]);
            buf_puts(b, "</text>");
        }
        close_chart(b, t->column[t->chart_x]);
    }
    free(title);
}

static const char style[] =
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2rem auto;padding:0 1rem;background:#fff;color:#1c2330}"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:1rem}"
    "figure{margin:0;padding:.6rem;border:1px solid #d9dee7;border-radius:8px}figcaption{font-weight:600;font-size:.9rem}"
    "svg{width:100%;height:auto}svg text{font-size:11px;fill:#5b6577}.g{stroke:#e5e9f0}polyline{fill:none;stroke-width:1.8;stroke-linejoin:round}"
    ".c0{stroke:#2563eb}.c1{stroke:#dc2626}.c2{stroke:#059669}.c3{stroke:#d97706}.c4{stroke:#7c3aed}.c5{stroke:#0891b2}.c6{stroke:#be185d}.c7{stroke:#65a30d}"
    ".legend span{margin-right:1.2rem}.p{fill:#2563eb}svg text.n{font-size:8px}"
    ".d1{stroke-dasharray:7 3}.d2{stroke-dasharray:2 3}.key{width:24px;height:8px;margin-right:4px}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;margin:.5rem 0;min-width:50%}th,td{border:1px solid #d9dee7;padding:.35rem .6rem;text-align:left;vertical-align:top}"
    "caption{text-align:left;font-style:italic;white-space:pre-wrap}.samples td{min-width:220px;white-space:pre-wrap}small{color:#5b6577}"
    "@media(prefers-color-scheme:dark){body{background:#12161f;color:#e3e8f1}figure,th,td{border-color:#2c3444}.g{stroke:#242b39}svg text,small{fill:#98a3b8;color:#98a3b8}}";

static int write_page(const char *path, const char *title, const char *introduction, const struct run_files *run, int n, const struct report_table *table, int n_table, sail_err *err)
{
    struct buf b;
    buf_init(&b, 0);
    buf_puts(&b, "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'><title>");
    put_text(&b, title);
    buf_printf(&b, "</title><style>%s</style></head><body><h1>", style);
    put_text(&b, title);
    buf_puts(&b, "</h1><p>");
    put_text(&b, introduction);
    buf_puts(&b, "</p>");
    for (int i = 0; i < n_table; i++) {
        put_table(&b, &table[i]);
        put_points(&b, &table[i]);
    }
    put_legend(&b, run, n);
    put_charts(&b, run, n);
    if (n) put_samples(&b, run, n);
    buf_puts(&b, "</body></html>\n");
    int rc = b.failed ? err_memory(err, b.len) : file_replace(path, b.data, b.len, err);
    buf_release(&b);
    return rc;
}

int report_compare_write(const char *path, const char *title, const char *introduction, const struct report_run *run, int n_run, const struct report_table *table, int n_table, sail_err *err)
{
    struct run_files *files;
    int rc = mem_alloc(&files, (size_t)n_run, sizeof *files, err);
    if (rc) return rc;
    for (int i = 0; !rc && i < n_run; i++) {
        files[i] = (struct run_files){.label = run[i].label, .metrics = read_lines(run[i].folder, "metrics.jsonl", err), .samples = read_lines(run[i].folder, "samples.jsonl", err)};
        if (!files[i].metrics || !files[i].samples) rc = SAIL_FAILED;
    }
    if (!rc) choose_lines(files, n_run);
    if (!rc) rc = write_page(path, title, introduction, files, n_run, table, n_table, err);
    for (int i = 0; i < n_run; i++) {
        json_decref(files[i].metrics);
        json_decref(files[i].samples);
    }
    free(files);
    return rc;
}

int report_write(const char *folder, sail_err *err)
{
    char *path = path_join(folder, "report.html"), *title = mem_printf("sail: %s", folder);
    const struct report_run run = {folder, folder};
    int rc = report_compare_write(path, title, "", &run, 1, NULL, 0, err);
    free(path);
    free(title);
    return rc;
}
