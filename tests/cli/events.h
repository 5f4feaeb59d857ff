/* The TensorBoard events of a run, read as TensorBoard reads them: files in the order of their names, checksums, and a session's start drops what older files say of
 * its step and later ones. */
#ifndef SAIL_TESTS_CLI_EVENTS_H
#define SAIL_TESTS_CLI_EVENTS_H

#include <glob.h>

#include "cli/program.h"
#include "report/tensorboard.h"

struct scalar {
    int64_t step;
    char tag[64];
    float value;
};
struct scalars {
    struct scalar at[4096];
    int n;
};

static inline uint64_t little(const unsigned char *p, int bytes)
{
    uint64_t x = 0;
    for (int i = 0; i < bytes; i++) x |= (uint64_t)p[i] << (8 * i);
    return x;
}

static inline uint64_t varint(const unsigned char **p)
{
    uint64_t x = 0;
    for (int shift = 0;; shift += 7) {
        x |= (uint64_t)(**p & 0x7f) << shift;
        if (!(*(*p)++ & 0x80)) return x;
    }
}

/* Fields of a message one after the other: *data and *n of one with a length, *n the value of others. */
static inline int field(const unsigned char **p, const unsigned char *end, const unsigned char **data, uint64_t *n)
{
    if (*p == end) return 0;
    const uint64_t key = varint(p);
    *data = *p;
    if ((key & 7) == 0) {
        *n = varint(p);
    } else if ((key & 7) == 2) {
        *n = varint(p);
        *data = *p;
        *p += *n;
    } else {
        const int bytes = (key & 7) == 1 ? 8 : 4;
        *n = little(*p, bytes);
        *p += bytes;
    }
    assert_true(*p <= end);
    return (int)(key >> 3);
}

static inline void take_event(struct scalars *s, const unsigned char *p, const unsigned char *end)
{
    struct scalar x = {0};
    const unsigned char *data, *inner = NULL;
    uint64_t n;
    bool start = false, summary = false;
    for (int f; (f = field(&p, end, &data, &n));) {
        if (f == 2) x.step = (int64_t)n;
        if (f == 7) start = n == 2 && data[0] == 8 && data[1] == 1;
        if (f != 5) continue;
        const unsigned char *q = data;
        assert_int_equal(field(&q, data + n, &inner, &n), 1); // value
        summary = true;
        q = inner;
        for (const unsigned char *stop = inner + n; (f = field(&q, stop, &inner, &n));) {
            if (f == 1) snprintf(x.tag, sizeof x.tag, "%.*s", (int)n, (const char *)inner);
            if (f == 2) memcpy(&x.value, inner, 4);
        }
    }
    int kept = 0;
    for (int i = 0; start && i < s->n; i++)
        if (s->at[i].step < x.step) s->at[kept++] = s->at[i];
    if (start) s->n = kept;
    if (!summary) return;
    assert_true(s->n < (int)(sizeof s->at / sizeof *s->at));
    s->at[s->n++] = x;
}

static inline uint32_t masked_crc(const unsigned char *p, size_t n)
{
    const uint32_t c = crc32c(p, n);
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

static inline void read_events(struct scalars *s, const char *run)
{
    char pattern[2200];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/%s/events.out.tfevents.*", folder, run);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    s->n = 0;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char *file;
        size_t size;
        assert_ok(file_read(found.gl_pathv[i], 1 << 24, &file, &size, err));
        const unsigned char *p = (const unsigned char *)file, *end = p + size;
        while (p < end) {
            const uint64_t n = little(p, 8);
            assert_true(n < (uint64_t)(end - p));
            assert_true(masked_crc(p, 8) == little(p + 8, 4) && masked_crc(p + 12, n) == little(p + 12 + n, 4));
            take_event(s, p + 12, p + 12 + n);
            p += 16 + n;
        }
        free(file);
    }
    globfree(&found);
}

static inline bool has_event(const struct scalars *s, int64_t step, const char *tag, double value)
{
    for (int i = 0; i < s->n; i++)
        if (s->at[i].step == step && !strcmp(s->at[i].tag, tag)) return fabs((double)s->at[i].value - value) <= 1e-6 * fabs(value);
    return false;
}

/* Every number of metrics.jsonl is there, once, and nothing else. */
static inline void assert_events_are_metrics(const char *run)
{
    static struct scalars s;
    char path[2200], *data, *save = NULL;
    size_t n;
    int numbers = 0;
    read_events(&s, run);
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", folder, run);
    assert_ok(file_read(path, 1 << 20, &data, &n, err));
    for (char *line = strtok_r(data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        int64_t step = atoll(line + strlen("{\"step\": "));
        for (char *at = strstr(line, ", \""); at; at = strstr(at + 1, ", \"")) {
            char tag[64], *colon = strstr(at, "\": ");
            snprintf(tag, sizeof tag, "%.*s", (int)(colon - at - 3), at + 3);
            if (strncmp(colon + 3, "null", 4) && !has_event(&s, step, tag, atof(colon + 3))) fail_msg("%s: %s of step %lld is not in its events", run, tag, (long long)step);
            numbers += strncmp(colon + 3, "null", 4) != 0;
        }
    }
    free(data);
    assert_int_equal(s.n, numbers);
}

#endif
