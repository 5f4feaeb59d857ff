/* Running the program from a test: exit status, what it said, files that must be the same. */
#ifndef SAIL_TESTS_CLI_PROGRAM_H
#define SAIL_TESTS_CLI_PROGRAM_H

#include "test.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"

static char folder[1024], model[1024], output[65536];

static int run_sail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Exit status; what the program said is in `output`. */
static int run_sail(const char *fmt, ...)
{
    char arguments[17000], command[20000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(arguments, sizeof arguments, fmt, ap);
    va_end(ap);
    snprintf(command, sizeof command, "%s %s 2>&1", TEST_PROGRAM, arguments);
    FILE *p = popen(command, "r");
    const size_t n = fread(output, 1, sizeof output - 1, p);
    output[n] = '\0';
    const int status = pclose(p);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define assert_run(...)                                             \
    do {                                                            \
        if (run_sail(__VA_ARGS__)) fail_msg("sail failed: %s", output); \
    } while (0)

/* What run_sail returned for these options: so (1: failed, 2: a mistake in the request), in words that say `says`. */
static inline void assert_status(int status, int wanted, const char *options, const char *says)
{
    if (status != wanted || !strstr(output, says)) fail_msg("%s: status %d, said: %s(wanted %d and \"%s\")", options, status, output, wanted, says);
}
static inline void assert_refused(int status, const char *options, const char *says) { assert_status(status, 2, options, says); }

static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *fmt, ...)
{
    char command[8192];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command, sizeof command, fmt, ap);
    va_end(ap);
    if (system(command)) fail_msg("failed: %s", command);
}

static inline void assert_same_file(const char *a, const char *b, const char *name)
{
    char pa[2200], pb[2200], *da, *db;
    size_t na, nb;
    snprintf(pa, sizeof pa, "%s/%s/%s", folder, a, name);
    snprintf(pb, sizeof pb, "%s/%s/%s", folder, b, name);
    assert_ok(file_read(pa, 1 << 28, &da, &na, err));
    assert_ok(file_read(pb, 1 << 28, &db, &nb, err));
    if (na != nb || memcmp(da, db, na)) fail_msg("%s and %s differ", pa, pb);
    free(da);
    free(db);
}

/* A folder, a small model, so many prompts of its kind, and pairs.jsonl of its own answers to them. */
static inline int make_pairs(const char *name, int prompts)
{
    snprintf(folder, sizeof folder, "/tmp/sail-%s-%d", name, (int)getpid());
    mkdir(folder, 0700);
    snprintf(model, sizeof model, "%s", repo_path("examples/demo/stories260K"));
    shell("head -n %d %s > %s/prompts.jsonl", prompts, repo_path("examples/demo/prompts-train.jsonl"), folder);
    if (run_sail("generate --model %s --prompts %s/prompts.jsonl --num-return 4 --max-new-tokens 16 --dtype f32 --seed 1 --out %s/answers.jsonl --quiet", model, folder, folder)) return -1;
    return run_sail("label --model %s --prompts %s/prompts.jsonl --data %s/answers.jsonl --reward-rule %s --out %s/pairs.jsonl --quiet", model, folder, folder, repo_path("examples/demo/happy.yaml"), folder);
}

/* The options, in which DATA at the end stands for a file of the folder; valid until the next call. */
static inline const char *with_data(const char *options, const char *file)
{
    static char text[3400];
    snprintf(text, sizeof text, "%s", options);
    char *at = strstr(text, "DATA");
    if (at) snprintf(at, sizeof text - (size_t)(at - text), "%s/%s", folder, file);
    return text;
}

static inline int remove_folder(void **state)
{
    (void)state;
    return dir_remove(folder, NULL);
}

/* The command, four steps with a checkpoint every two and no --out, once straight and once killed after step 2 and gone on with (`resume`: further options then): the same bytes. */
static inline void assert_resumes(const char *command, const char *resume)
{
    shell("rm -rf %s/straight %s/killed", folder, folder);
    assert_run("%s --out %s/straight", command, folder);
    assert_run("%s --out %s/killed", command, folder);
    shell("rm -r %s/killed/checkpoints/step-4 %s/killed/final", folder, folder);
    assert_run("align --out %s/killed --resume --quiet %s", folder, resume);
    assert_same_file("straight", "killed", "metrics.jsonl");
    assert_same_file("straight", "killed", "checkpoints/step-4/params.safetensors");
    assert_same_file("straight", "killed", "checkpoints/step-4/state.json");
}

/* The first value of a metric in a run's line of a step. */
static inline double run_metric(const char *run, const char *key, int step)
{
    char path[2200], *data, head[40], name[64];
    size_t n;
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", folder, run);
    assert_ok(file_read(path, 1 << 20, &data, &n, err));
    snprintf(head, sizeof head, "{\"step\": %d, ", step);
    snprintf(name, sizeof name, "\"%s\": ", key);
    double value = NAN;
    for (char *line = strtok(data, "\n"); line && isnan(value); line = strtok(NULL, "\n")) {
        char *at = strncmp(line, head, strlen(head)) ? NULL : strstr(line, name);
        if (at) value = atof(at + strlen(name));
    }
    free(data);
    if (isnan(value)) fail_msg("%s has no %s at step %d", run, key, step);
    return value;
}

#endif
