/* sail bench tokenize: the lines of a text file to ids, again and again, in seconds of one core (what else the machine does is not counted). */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/file.h"
#include "jobs/bench.h"
#include "tok/tokenizer.h"

/* Encodes every line by itself; *tokens: how many ids that were. */
static int encode_lines(const struct tokenizer *t, const char *text, size_t len, struct ids *ids, int64_t *tokens, sail_err *err)
{
    int rc = SAIL_OK;
    *tokens = 0;
    for (size_t at = 0; !rc && at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        const size_t n = end ? (size_t)(end - text) - at : len - at;
        ids->n = 0;
        rc = tokenizer_encode(t, text + at, n, false, ids, err);
        *tokens += (int64_t)ids->n;
        at += n + 1;
    }
    return rc;
}

static double core_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void print_rate(const char *what, double seconds, int64_t tokens, size_t bytes)
{
    printf("  %-12s %10.0f tokens/s   %8.2f MB/s   %9.5f s\n", what, (double)tokens / seconds, (double)bytes / seconds / 1e6, seconds);
}

static void print_result(const sail_config *c, double first, double median, int64_t tokens, size_t bytes)
{
    if (c->json) {
        bench_print_json(json_pack("{s:s, s:s, s:i, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:o}", "what", "tokenize", "model", c->model, "threads", 1, "bytes", (json_int_t)bytes, "tokens", (json_int_t)tokens, "steps",
                                   (json_int_t)c->steps, "first_s", first, "median_s", median, "tokens_per_s", (double)tokens / median, "mb_per_s", (double)bytes / median / 1e6, "peak_rss_mib", mem_peak_mib(),
                                   "machine", bench_machine()));
        return;
    }
    printf("tokenize, one core, %lld tokens of %zu bytes\n", (long long)tokens, bytes);
    bench_print_machine();
    print_rate("first pass", first, tokens, bytes);
    print_rate("median pass", median, tokens, bytes);
    printf("  peak memory MiB  %10.1f\n", mem_peak_mib());
}

static int time_passes(const struct tokenizer *t, const sail_config *c, const char *text, size_t len, sail_err *err)
{
    struct ids ids = {0};
    double *seconds = NULL, first = 0;
    int64_t tokens = 0;
    int rc = mem_alloc(&seconds, (size_t)c->steps, sizeof *seconds, err);
    for (int64_t i = 0; !rc && i <= c->steps; i++) { // the first finds no word that was met before
        const double start = core_seconds();
        rc = encode_lines(t, text, len, &ids, &tokens, err);
        *(i ? &seconds[i - 1] : &first) = core_seconds() - start;
    }
    if (!rc && !tokens) rc = err_set(err, SAIL_FAILED, "%s: no text to encode", c->text_file);
    if (!rc) print_result(c, first, bench_median(seconds, c->steps), tokens, len);
    free(seconds);
    ids_release(&ids);
    return rc;
}

int bench_tokenize(const sail_config *c, sail_err *err)
{
    struct tokenizer *t = NULL;
    char *text = NULL;
    size_t len = 0;
    int rc = config_require(c, OPTION_text_file, err);
    if (!rc) rc = tokenizer_open(&t, c->model, err);
    if (!rc) rc = file_read(c->text_file, (size_t)16 << 30, &text, &len, err);
    if (!rc) rc = time_passes(t, c, text, len, err);
    free(text);
    tokenizer_close(t);
    return rc;
}
