#define _GNU_SOURCE
#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

struct task {
    int (*work)(void *context, sail_err *err);
    void *context;
    sail_err err;
    int rc;
};

static void *run_task(void *context)
{
    struct task *t = context;
    t->rc = t->work(t->context, &t->err);
    return NULL;
}

/* The work has a thread of its own: a team of OpenMP threads belongs to the thread that made it, and the team of a parent that computed before
 * is not there after a fork. */
static void child_main(struct task *t, int report)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_task, t))
        t->rc = err_set(&t->err, SAIL_FAILED, "cannot start a thread: %s", strerror(errno));
    else
        pthread_join(thread, NULL);
    fflush(NULL);
    t->err.code = t->rc;
    const bool told = write(report, &t->err, sizeof t->err) == (ssize_t)sizeof t->err; // less than a pipe's buffer: all or nothing
    _exit(told ? 0 : 1);
}

int child_start(struct child *c, int (*work)(void *context, sail_err *err), void *context, sail_err *err)
{
    int report[2];
    if (pipe2(report, O_CLOEXEC)) return err_set(err, SAIL_FAILED, "no pipe for a child process: %s", strerror(errno));
    struct task task = {.work = work, .context = context};
    const pid_t parent = getpid();
    fflush(NULL); // or the child writes it again
    c->pid = fork();
    if (c->pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1); // it ended before it could be tied
        close(report[0]);
        child_main(&task, report[1]);
    }
    const int code = errno;
    close(report[1]);
    c->report = report[0];
    if (c->pid > 0) return SAIL_OK;
    close(report[0]);
    return err_set(err, SAIL_FAILED, "cannot start a child process: %s", strerror(code));
}

void child_interrupt(const struct child *c) { kill(c->pid, SIGTERM); }

int child_join(struct child *c, sail_err *err)
{
    sail_err told = {0};
    size_t n = 0;
    int status = 0;
    for (ssize_t k; n < sizeof told && ((k = read(c->report, (char *)&told + n, sizeof told - n)) > 0 || (k < 0 && errno == EINTR));) n += k > 0 ? (size_t)k : 0;
    close(c->report);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR) {}
    *c = (struct child){0};
    if (n == sizeof told) return told.code ? err_set(err, told.code, "%s", told.message) : SAIL_OK;
    if (WIFSIGNALED(status)) return err_set(err, SAIL_FAILED, "its process was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    return err_set(err, SAIL_FAILED, "its process ended with status %d and no word", WEXITSTATUS(status));
}
