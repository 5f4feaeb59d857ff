/* An external program as labeler: started once, asked over pipes, one JSON line each way. Whatever is wrong with an answer leaves its row
 * without a verdict; a program that dies is started again, and given up after three deaths in a row. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "label/internal.h"

enum { MAX_WORDS = 64, MAX_ANSWER = 1 << 20, MAX_DEATHS = 3 };

struct command {
    struct labeler head;
    char *text, *word[MAX_WORDS + 1];
    double deadline;
    pid_t pid;
    int in, out; /* the program's standard input and output */
    char chunk[4096]; /* read and not yet looked at: [chunk_at, chunk_n) */
    size_t chunk_at, chunk_n;
    struct buf line;
    int deaths;
};

/* Words are separated by spaces; single or double quotes keep spaces. */
static int split_words(struct command *c, const char *text, sail_err *err)
{
    c->text = mem_strdup(text);
    int n = 0;
    char *to = c->text, *from = c->text;
    while (*from) {
        while (*from == ' ') from++;
        if (!*from) break;
        if (n == MAX_WORDS) return err_set(err, SAIL_USAGE, "--labeler-command: more than %d words", MAX_WORDS);
        c->word[n++] = to;
        char quote = 0;
        for (; *from && (quote || *from != ' '); from++) {
            if (quote ? *from == quote : *from == '\'' || *from == '"')
                quote = quote ? 0 : *from;
            else
                *to++ = *from;
        }
        if (quote) return err_set(err, SAIL_USAGE, "--labeler-command: a quote is not closed");
        if (*from) from++;
        *to++ = '\0';
    }
    return n ? SAIL_OK : err_set(err, SAIL_USAGE, "--labeler-command: expected a program and its arguments");
}

static void stop(struct command *c)
{
    if (c->pid <= 0) return;
    close(c->in);
    close(c->out);
    kill(c->pid, SIGTERM);
    for (int i = 0; i < 50 && waitpid(c->pid, NULL, WNOHANG) == 0; i++) usleep(20000);
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, WNOHANG);
    c->pid = 0;
    buf_clear(&c->line);
    c->chunk_at = c->chunk_n = 0;
}

/* The child reports a failed exec through a pipe that a good exec closes. */
static int start(struct command *c, sail_err *err)
{
    int in[2], out[2], report[2], code = 0;
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(report, O_CLOEXEC)) return err_set(err, SAIL_FAILED, "--labeler-command: no pipe: %s", strerror(errno));
    c->pid = fork();
    if (c->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        signal(SIGPIPE, SIG_DFL);
        signal(SIGINT, SIG_IGN); // Ctrl-C ends the run, which then ends the program
        execvp(c->word[0], c->word);
        code = errno;
        if (write(report[1], &code, sizeof code) < 0) _exit(126);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    close(report[1]);
    c->in = in[1];
    c->out = out[0];
    const bool failed = c->pid < 0 || read(report[0], &code, sizeof code) == (ssize_t)sizeof code;
    close(report[0]);
    if (failed) {
        if (c->pid > 0) waitpid(c->pid, NULL, 0);
        close(c->in);
        close(c->out);
        c->pid = 0;
        return err_set(err, SAIL_FAILED, "--labeler-command: cannot start '%s': %s", c->word[0], strerror(code ? code : errno));
    }
    fcntl(c->in, F_SETFL, O_NONBLOCK);
    fcntl(c->out, F_SETFL, O_NONBLOCK);
    return SAIL_OK;
}

/* Waits for the descriptor until `end`; false: too late, or the other side is gone. */
static bool wait_for(int fd, short events, double end)
{
    for (;;) {
        const double left = end - clock_seconds();
        if (left <= 0) return false;
        struct pollfd p = {.fd = fd, .events = events};
        const int n = poll(&p, 1, (int)(left * 1000) + 1);
        if (n > 0) return (p.revents & (events | POLLHUP)) != 0;
        if (n < 0 && errno != EINTR) return false;
    }
}

static bool send_line(struct command *c, const char *data, size_t n, double end)
{
    while (n) {
        const ssize_t k = write(c->in, data, n);
        if (k > 0) {
            data += k;
            n -= (size_t)k;
        } else if (k < 0 && errno == EINTR) {
            continue;
        } else if (k < 0 && errno != EAGAIN) {
            return false;
        } else if (!wait_for(c->in, POLLOUT, end)) {
            return false;
        }
    }
    return true;
}

/* More of the program's output; a program that writes without an end is late too. *dead: it closed its output. */
static bool receive(struct command *c, double end, bool *dead)
{
    while (wait_for(c->out, POLLIN, end)) {
        const ssize_t k = read(c->out, c->chunk, sizeof c->chunk);
        c->chunk_at = 0;
        c->chunk_n = k > 0 ? (size_t)k : 0;
        if (k > 0) return true;
        if (k < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        *dead = true;
        return false;
    }
    return false;
}

/* One line into c->line without its end. */
static bool receive_line(struct command *c, double end, bool *dead)
{
    buf_clear(&c->line);
    for (;;) {
        if (c->chunk_at == c->chunk_n && !receive(c, end, dead)) return false;
        const char *from = c->chunk + c->chunk_at, *stop = memchr(from, '\n', c->chunk_n - c->chunk_at);
        const size_t n = stop ? (size_t)(stop - from) : c->chunk_n - c->chunk_at;
        buf_append(&c->line, from, n); // past the maximum the rest of the line is read and dropped
        c->chunk_at += n + (stop != NULL);
        if (stop) return !c->line.failed;
    }
}

static bool number_in(const json_t *v, double low, double high, double *out)
{
    if (!json_is_number(v)) return false;
    *out = json_number_value(v);
    return isfinite(*out) && *out >= low && *out <= high;
}

/* A reward, or null: no verdict on this one. */
static bool reward_in(const json_t *v, double *out)
{
    if (!json_is_null(v)) return number_in(v, -HUGE_VAL, HUGE_VAL, out);
    *out = NAN;
    return true;
}

/* The verdicts of an answer, all that it has or none. */
static bool take_answer(const struct command *c, const struct label_request *q, struct label_answer *a)
{
    json_t *j = json_loadb(c->line.data ? c->line.data : "", c->line.len, JSON_REJECT_DUPLICATES, NULL);
    const char *id = json_string_value(json_object_get(j, "id"));
    json_t *rewards = json_object_get(j, "rewards"), *p = json_object_get(j, "p");
    bool good = id && !strcmp(id, q->id);
    double value[64];
    if (good && rewards) {
        good = json_is_array(rewards) && json_array_size(rewards) == (size_t)q->n && q->n <= 64;
        for (int i = 0; good && i < q->n; i++) good = reward_in(json_array_get(rewards, (size_t)i), &value[i]);
        for (int i = 0; good && i < q->n; i++) a->reward[i] = value[i];
    } else if (good) { // P(first beats second), a list of one or a number
        good = q->n == 2 && number_in(json_is_array(p) ? json_array_get(p, 0) : p, 0, 1, &value[0]);
        if (good) a->p = value[0];
    }
    json_decref(j);
    return good;
}

static bool write_request(const struct label_request *q, struct buf *b)
{
    buf_puts(b, "{\"id\": ");
    buf_json_string(b, q->id, strlen(q->id));
    buf_puts(b, ", \"prompt\": ");
    buf_json_string(b, q->prompt, strlen(q->prompt));
    buf_puts(b, ", \"completions\": [");
    for (int i = 0; i < q->n; i++) {
        if (i) buf_puts(b, ", ");
        buf_json_string(b, q->completions[i], strlen(q->completions[i]));
    }
    return buf_puts(b, "]}\n");
}

static int ask(struct labeler *l, const struct label_request *q, struct label_answer *a, sail_err *err)
{
    struct command *c = (struct command *)l;
    if (!c->pid) {
        int rc = start(c, err);
        if (rc) return rc;
    }
    struct buf request;
    buf_init(&request, (size_t)64 << 20);
    const double end = clock_seconds() + c->deadline;
    bool dead = false;
    const bool sent = write_request(q, &request) && send_line(c, request.data, request.len, end), got = sent && receive_line(c, end, &dead);
    buf_release(&request);
    if (got && take_answer(c, q, a)) {
        c->deaths = 0;
        return SAIL_OK;
    }
    l->bad++;
    if (got) return SAIL_OK; // an answer, but no verdict
    // Late or dead: what may still come belongs to no question, so the program is started anew for the next one.
    log_warning("labeler '%s': %s; this row stays unlabelled", c->word[0], dead ? "the program ended" : "no answer in time");
    stop(c);
    if (dead && ++c->deaths >= MAX_DEATHS) return err_set(err, SAIL_FAILED, "--labeler-command: '%s' ended %d times in a row", c->word[0], c->deaths);
    return SAIL_OK;
}

static void close_command(struct labeler *l)
{
    struct command *c = (struct command *)l;
    stop(c);
    buf_release(&c->line);
    free(c->text);
    free(c);
}

int labeler_command_open(struct labeler **out, const char *text, double deadline_s, sail_err *err)
{
    struct command *c;
    *out = NULL;
    int rc = mem_alloc(&c, 1, sizeof *c, err);
    if (rc) return rc;
    c->head = (struct labeler){.name = "program", .ask = ask, .close = close_command};
    c->deadline = deadline_s;
    buf_init(&c->line, MAX_ANSWER);
    signal(SIGPIPE, SIG_IGN); // a dead program shows as a failed write
    rc = split_words(c, text, err);
    if (!rc) rc = start(c, err);
    if (rc)
        close_command(&c->head);
    else
        *out = &c->head;
    return rc;
}
