#include "onednn_matmul.h"

#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_COPIES = 512 };

struct onednn_matmul {
    dnnl_primitive_t primitive;
    dnnl_memory_t x, y, w[MOST_COPIES];
    int copies;
    char kernel[64];
};

static dnnl_engine_t engine;
static dnnl_stream_t stream;

static void check(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success) return;
    fprintf(stderr, "oneDNN: %s: status %d\n", what, (int)status);
    exit(1);
}
#define CHECK(call) check(call, #call)

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t shape_pointer;
#define SHAPE(d) (d)
#define SHAPE_CREATE(d, ...) CHECK(dnnl_memory_desc_create_with_tag(d, __VA_ARGS__))
#define SHAPE_FREE(d) dnnl_memory_desc_destroy(d)
#else
typedef const dnnl_memory_desc_t *shape_pointer;
#define SHAPE(d) (&(d))
#define SHAPE_CREATE(d, ...) CHECK(dnnl_memory_desc_init_by_tag(d, __VA_ARGS__))
#define SHAPE_FREE(d) ((void)(d))
#endif

static dnnl_memory_desc_t shape(int64_t rows, int64_t columns, enum dtype type, dnnl_format_tag_t tag)
{
    const dnnl_dims_t size = {rows, columns};
    dnnl_memory_desc_t d;
    SHAPE_CREATE(&d, 2, size, type == DTYPE_BF16 ? dnnl_bf16 : dnnl_f32, tag);
    return d;
}

static dnnl_primitive_desc_t describe(const dnnl_memory_desc_t *x, const dnnl_memory_desc_t *w, const dnnl_memory_desc_t *y)
{
    dnnl_primitive_desc_t d;
#if DNNL_VERSION_MAJOR >= 3
    CHECK(dnnl_matmul_primitive_desc_create(&d, engine, *x, *w, NULL, *y, NULL));
#else
    dnnl_matmul_desc_t operation;
    CHECK(dnnl_matmul_desc_init(&operation, x, w, NULL, y));
    CHECK(dnnl_primitive_desc_create(&d, &operation, NULL, engine, NULL));
#endif
    return d;
}

static dnnl_memory_t reordered(dnnl_memory_t from, shape_pointer from_shape, shape_pointer to_shape)
{
    dnnl_memory_t to;
    dnnl_primitive_desc_t d;
    dnnl_primitive_t reorder;
    CHECK(dnnl_memory_create(&to, to_shape, engine, DNNL_MEMORY_ALLOCATE));
    CHECK(dnnl_reorder_primitive_desc_create(&d, from_shape, engine, to_shape, engine, NULL));
    CHECK(dnnl_primitive_create(&reorder, d));
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    CHECK(dnnl_primitive_execute(reorder, stream, 2, arguments));
    CHECK(dnnl_stream_wait(stream));
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(d);
    return to;
}

struct onednn_matmul *onednn_matmul_create(int64_t m, int64_t n, int64_t k, enum dtype type, const void *w, bool transposed, int copies)
{
    struct onednn_matmul *p = calloc(1, sizeof *p);
    if (!p || copies > MOST_COPIES) abort();
    if (!engine) {
        CHECK(dnnl_engine_create(&engine, dnnl_cpu, 0));
        CHECK(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    }
    dnnl_memory_desc_t x = shape(m, k, type, dnnl_ab), y = shape(m, n, type, dnnl_ab), any = shape(k, n, type, dnnl_format_tag_any), plain = shape(k, n, type, transposed ? dnnl_ba : dnnl_ab);
    dnnl_primitive_desc_t d = describe(&x, &any, &y);
    const char *kernel = "";
    CHECK(dnnl_primitive_desc_query(d, dnnl_query_impl_info_str, 0, &kernel));
    snprintf(p->kernel, sizeof p->kernel, "%s", kernel);
    CHECK(dnnl_primitive_create(&p->primitive, d));
    CHECK(dnnl_memory_create(&p->x, SHAPE(x), engine, DNNL_MEMORY_NONE));
    CHECK(dnnl_memory_create(&p->y, SHAPE(y), engine, DNNL_MEMORY_NONE));
    dnnl_memory_t source;
    CHECK(dnnl_memory_create(&source, SHAPE(plain), engine, (void *)w));
    for (p->copies = 0; p->copies < copies; p->copies++) p->w[p->copies] = reordered(source, SHAPE(plain), dnnl_primitive_desc_query_md(d, dnnl_query_weights_md, 0));
    dnnl_memory_destroy(source);
    dnnl_primitive_desc_destroy(d);
    SHAPE_FREE(x);
    SHAPE_FREE(y);
    SHAPE_FREE(any);
    SHAPE_FREE(plain);
    return p;
}

void onednn_matmul_run(struct onednn_matmul *p, int copy, void *y, const void *x)
{
    CHECK(dnnl_memory_set_data_handle(p->x, (void *)x));
    CHECK(dnnl_memory_set_data_handle(p->y, y));
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, p->x}, {DNNL_ARG_WEIGHTS, p->w[copy]}, {DNNL_ARG_DST, p->y}};
    CHECK(dnnl_primitive_execute(p->primitive, stream, 3, arguments));
    CHECK(dnnl_stream_wait(stream));
}

void onednn_matmul_free(struct onednn_matmul *p)
{
    if (!p) return;
    for (int i = 0; i < p->copies; i++) dnnl_memory_destroy(p->w[i]);
    dnnl_memory_destroy(p->x);
    dnnl_memory_destroy(p->y);
    dnnl_primitive_destroy(p->primitive);
    free(p);
}

const char *onednn_matmul_kernel(const struct onednn_matmul *p) { return p->kernel; }

const char *onednn_release(void)
{
    static char text[32];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}
