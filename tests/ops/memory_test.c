/* Weights in the kernels' layouts take little more than their values, also where these are no whole number of huge pages. */
#include "test.h"

#include "backend/backend.h"

static double resident_mib(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_true(f && fscanf(f, "%*s %ld", &pages) == 1);
    fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static void layouts_are_no_larger_than_their_values(void **state)
{
    (void)state;
    enum { N = 16, OUT = 3072, IN = 576 }; // 6.75 MiB each
    static float source[OUT * IN];
    struct weight w[N];
    for (int i = 0; i < OUT * IN; i++) source[i] = (float)(i % 7);
    const double before = resident_mib(), values = (double)N * sizeof source / (1 << 20);
    for (int i = 0; i < N; i++) {
        w[i] = (struct weight){.part = {{.data = source, .dtype = DTYPE_F32, .n_out = OUT, .ld = IN}}, .n_part = 1, .n_out = OUT, .n_in = IN};
        assert_ok(ops->weight_prepare(&w[i], DTYPE_F32, err));
    }
    const double grown = resident_mib() - before;
    if (grown < values || grown > 1.15 * values) fail_msg("%d weights of %.1f MiB together take %.1f MiB", N, values, grown);
    for (int i = 0; i < N; i++) ops->weight_release(&w[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(layouts_are_no_larger_than_their_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
