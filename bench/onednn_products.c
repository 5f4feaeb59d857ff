/* The engine's matrix products beside oneDNN's, by turns: the products of a block of SmolLM2-135M and Qwen2.5-0.5B as the engine joins them (q, k, v; gate, up),
 * forward (x W^T) and backward to the activations (dy W), and the head where it is one product (decoding). Both sides have the weights in their own layout before the
 * clock starts. As in a model, weights come from memory: each call takes the next of as many copies as fill COLD_BYTES.
 *   usage: bench-onednn [ROUNDS [SECONDS [WORD ...]]]     seconds of a turn; only cells whose line has every WORD: bench-onednn 5 0.05 Qwen2.5 bf16 "1 thread"
 * Figures mean something on an idle machine only: a waiting thread of either side spins, and takes the time of the one that it waits for. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/log.h"
#include "onednn_matmul.h"

enum { MOST_ROUNDS = 99 };
static const size_t COLD_BYTES = 96u << 20; // beyond the caches of the machines that this has run on

struct product {
    const char *model, *name;
    int64_t n_out, n_in, most_rows;
};
static const struct product products[] = {
    {"SmolLM2-135M", "q, k, v", 960, 576, 1024},    {"SmolLM2-135M", "o", 576, 576, 1024}, {"SmolLM2-135M", "gate, up", 3072, 576, 1024},
    {"SmolLM2-135M", "down", 576, 1536, 1024},      {"SmolLM2-135M", "head", 49152, 576, 128},
    {"Qwen2.5-0.5B", "q, k, v", 1152, 896, 1024},   {"Qwen2.5-0.5B", "o", 896, 896, 1024}, {"Qwen2.5-0.5B", "gate, up", 9728, 896, 1024},
    {"Qwen2.5-0.5B", "down", 896, 4864, 1024},      {"Qwen2.5-0.5B", "head", 151936, 896, 128},
};
static const int64_t rows[] = {1, 8, 32, 128, 512, 1024};

struct cell {
    const struct product *product;
    enum dtype type;
    bool backward;
    int threads, copies;
    int64_t m, n, k; // y (m, n) of x (m, k)
    struct weight *w;
    struct onednn_matmul *other;
    void *source, *x, *y;
};

static void *block(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) {
        fprintf(stderr, "bench-onednn: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}

/* Values about as large as weights and activations are, in no pattern that a kernel could see. */
static void *noise(int64_t n, enum dtype type)
{
    char *data = block((size_t)n * dtype_size(type));
    uint32_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        const float x = ((float)(state >> 8) / 8388608.0f - 1.0f) * 0.25f;
        tensor_convert(data + (size_t)i * dtype_size(type), type, &x, DTYPE_F32, 1);
    }
    return data;
}

static void cell_open(struct cell *c)
{
    const struct product *p = c->product;
    const size_t bytes = (size_t)(p->n_out * p->n_in) * dtype_size(c->type);
    c->n = c->backward ? p->n_in : p->n_out;
    c->k = c->backward ? p->n_out : p->n_in;
    c->copies = (int)((COLD_BYTES + bytes - 1) / bytes);
    backend_threads(c->threads);
    omp_set_num_threads(c->threads); // before anything is made: oneDNN chooses its blocks for so many threads
    c->source = noise(p->n_out * p->n_in, c->type);
    c->x = noise(c->m * c->k, c->type);
    c->y = block((size_t)(c->m * c->n) * dtype_size(c->type));
    c->w = calloc((size_t)c->copies, sizeof *c->w);
    for (int i = 0; i < c->copies; i++) {
        sail_err err;
        c->w[i] = (struct weight){.part = {{.data = c->source, .dtype = c->type, .n_out = p->n_out, .ld = p->n_in}}, .n_part = 1, .n_out = p->n_out, .n_in = p->n_in};
        if (!ops->weight_prepare(&c->w[i], c->type, &err)) continue;
        fprintf(stderr, "bench-onednn: %s\n", err.message);
        exit(1);
    }
    c->other = onednn_matmul_create(c->m, c->n, c->k, c->type, c->source, !c->backward, c->copies);
}

static void cell_close(struct cell *c)
{
    for (int i = 0; i < c->copies; i++) ops->weight_release(&c->w[i]);
    free(c->w);
    onednn_matmul_free(c->other);
    free(c->source);
    free(c->x);
    free(c->y);
}

static void run_sail(struct cell *c, int copy)
{
    if (c->backward)
        ops->linear_bwd_x(c->y, c->type, c->n, c->x, c->type, c->k, &c->w[copy], c->m, 1, false);
    else
        ops->linear_fwd(c->y, c->type, c->n, c->x, c->type, c->k, &c->w[copy], NULL, c->m, 1, false);
}

static void run_onednn(struct cell *c, int copy) { onednn_matmul_run(c->other, copy, c->y, c->x); }

/* What is timed must be the same product: ends the program where the two results are further apart than roundings. */
static void compare(struct cell *c)
{
    const int64_t count = c->m * c->n;
    float *a = block((size_t)count * sizeof *a), *b = block((size_t)count * sizeof *b);
    run_sail(c, 0);
    tensor_convert(a, DTYPE_F32, c->y, c->type, count);
    memset(c->y, 0xff, (size_t)count * dtype_size(c->type));
    run_onednn(c, 0);
    tensor_convert(b, DTYPE_F32, c->y, c->type, count);
    double difference = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    free(a);
    free(b);
    const double off = sqrt(difference / size);
    if (off <= (c->type == DTYPE_BF16 ? 1e-2 : 1e-5)) return;
    fprintf(stderr, "bench-onednn: %s %s, %lld rows: the results differ by %.3g\n", c->product->model, c->product->name, (long long)c->m, off);
    exit(1);
}

/* GFLOP/s of one turn. */
static double turn(struct cell *c, void (*run)(struct cell *, int), double seconds)
{
    const double flops = 2.0 * (double)c->m * (double)c->n * (double)c->k;
    int64_t n = 0;
    double passed;
    run(c, c->copies - 1); // the other side's last words are still in the caches
    const double start = clock_seconds();
    do run(c, (int)(n++ % c->copies));
    while ((passed = clock_seconds() - start) < seconds);
    return flops * (double)n / passed / 1e9;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* What the ratios of one kind of cell come to. */
struct summary {
    double log_ratio;
    int n, faster, slower; // by more than a tenth
};

static void measure(struct cell *c, const char *line, int rounds, double seconds, struct summary *s)
{
    double sail[MOST_ROUNDS], onednn[MOST_ROUNDS], ratio[MOST_ROUNDS];
    cell_open(c);
    compare(c);
    for (int r = 0; r < rounds; r++) {
        sail[r] = turn(c, run_sail, seconds);
        onednn[r] = turn(c, run_onednn, seconds);
        ratio[r] = sail[r] / onednn[r];
    }
    qsort(sail, (size_t)rounds, sizeof *sail, ascending);
    qsort(onednn, (size_t)rounds, sizeof *onednn, ascending);
    qsort(ratio, (size_t)rounds, sizeof *ratio, ascending);
    const double middle = ratio[rounds / 2];
    printf("%s %.1f | %.1f | %.2f (%.2f to %.2f) | %s |\n", line, sail[rounds / 2], onednn[rounds / 2], middle, ratio[0], ratio[rounds - 1], onednn_matmul_kernel(c->other));
    fflush(stdout);
    cell_close(c);
    s->log_ratio += log(middle);
    s->n++;
    s->faster += middle > 1.1;
    s->slower += middle < 1 / 1.1;
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 5;
    const double seconds = argc > 2 ? atof(argv[2]) : 0.05;
    if (rounds < 1 || rounds > MOST_ROUNDS || !(seconds > 0)) {
        fprintf(stderr, "usage: bench-onednn [ROUNDS [SECONDS [WORD ...]]]\n");
        return 2;
    }
    enum { N_PRODUCT = sizeof products / sizeof *products, N_ROWS = sizeof rows / sizeof *rows };
    struct summary summary[2][2][N_ROWS] = {0}; // type, threads, rows
    printf("%s, oneDNN %s; medians of %d turns of %g s each, weights from memory\n\n", backend_describe(), onednn_release(), rounds, seconds);
    printf("| model | product | way | type | threads | rows | sail GFLOP/s | oneDNN GFLOP/s | sail / oneDNN | oneDNN's kernel |\n|---|---|---|---|---|---|---|---|---|---|\n");
    for (int type = 0; type < 2; type++)
        for (int threads = 1; threads <= 2; threads++)
            for (int i = 0; i < N_PRODUCT; i++)
                for (int backward = 0; backward < 2; backward++)
                    for (int m = 0; m < N_ROWS && rows[m] <= products[i].most_rows; m++) {
                        const bool head = !strcmp(products[i].name, "head");
                        struct cell c = {.product = &products[i], .type = type ? DTYPE_F32 : DTYPE_BF16, .backward = backward, .threads = threads, .m = rows[m]};
                        char line[256];
                        snprintf(line, sizeof line, "| %s | %s | %s | %s | %d thread%s | %lld |", c.product->model, c.product->name, backward ? "backward" : "forward", type ? "f32" : "bf16", threads,
                                 threads > 1 ? "s" : "", (long long)rows[m]);
                        bool wanted = !(head && backward);
                        for (int k = 3; k < argc; k++) wanted = wanted && strstr(line, argv[k]);
                        if (wanted) measure(&c, line, rounds, seconds, &summary[type][threads - 1][m]);
                    }
    printf("\n| type | threads | rows | sail / oneDNN, geometric mean | sail faster by more than 10 %% | slower by more than 10 %% | products |\n|---|---|---|---|---|---|---|\n");
    for (int type = 0; type < 2; type++)
        for (int threads = 0; threads < 2; threads++)
            for (int m = 0; m < N_ROWS; m++) {
                const struct summary *s = &summary[type][threads][m];
                if (s->n) printf("| %s | %d | %lld | %.2f | %d | %d | %d |\n", type ? "f32" : "bf16", threads + 1, (long long)rows[m], exp(s->log_ratio / s->n), s->faster, s->slower, s->n);
            }
    return 0;
}
