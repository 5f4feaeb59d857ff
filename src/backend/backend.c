#include "backend/backend.h"

#include <omp.h>

#include "backend/cpu/cpu.h"
#include "base/err.h"

static struct backend_ops active;
const struct backend_ops *ops = &active;

static int thread_count;

static void table_check(const struct backend_ops *table, const char *name)
{
    (void)table, (void)name;
#define OP(type, op, args) BUG_ON(!table->op, "backend %s lacks the operation " #op, name);
#include "backend/ops.def"
#undef OP
}

int backend_select(const char *name, sail_err *err)
{
    struct backend_ops table = {0};
    bool cpu = strcmp(name, "cpu") == 0;
    if (!cpu && strcmp(name, "ref") != 0) return err_set(err, SAIL_USAGE, "backend: expected cpu or ref, got \"%s\"", name);
    ref_fill(&table);
    if (cpu) cpu_fill(&table);
    table_check(&table, name);
    active = table;
    return SAIL_OK;
}

/* The table is complete before main: nobody has to remember to start the backend. */
__attribute__((constructor)) static void backend_start(void) { backend_select("cpu", NULL); }

void backend_threads(int n) { thread_count = n > 0 ? n : 0; }

int backend_thread_count(void)
{
    if (thread_count) return thread_count;
    int n = omp_get_num_procs(), limit = omp_get_max_threads();
    return n < limit ? n : limit; // OMP_NUM_THREADS may ask for fewer
}

bool backend_bf16_fast(void) { return cpu_level() >= CPU_AVX512_BF16; }

enum dtype backend_compute(const char *name)
{
    const bool half = name ? !strcmp(name, "bf16") : backend_bf16_fast();
    return half ? DTYPE_BF16 : DTYPE_F32;
}

bool backend_break_in(struct backend_ops *table, const char *op);
bool backend_break(const char *op) { return backend_break_in(&active, op); }
