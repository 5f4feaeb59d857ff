#include "backend/cpu/kernels.h"

static enum cpu_level most = CPU_AMX;

void cpu_level_limit(enum cpu_level level) { most = level; }

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Tile registers: the processor has them, the operating system saves them, and it lets this process use them when asked. */
static bool tiles_allowed(void)
{
    enum { ASK_PERMISSION = 0x1023, TILE_DATA = 18 }; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    const unsigned bf16 = 1u << 22, tile = 1u << 24, saved = 3u << 17;
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & bf16) == 0 || (d & tile) == 0) return false;
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & saved) == saved && !syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA);
}

static enum cpu_level level_found(void)
{
    unsigned a, b, c, d;
    __builtin_cpu_init(); // knows what the operating system saves, too
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return CPU_PORTABLE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512dq"))
        return CPU_AVX2;
    bool bf16 = __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5);
    if (!bf16) return CPU_AVX512;
    return tiles_allowed() ? CPU_AMX : CPU_AVX512_BF16;
}

enum cpu_level cpu_level(void)
{
    static int found = -1; // a race would store the same value twice
    int level = __atomic_load_n(&found, __ATOMIC_RELAXED);
    if (level < 0) __atomic_store_n(&found, level = (int)level_found(), __ATOMIC_RELAXED);
    return (enum cpu_level)level < most ? (enum cpu_level)level : most;
}

const struct kernels *kernels(void)
{
    static const struct kernels *const table[] = {&kernels_portable, &kernels_avx2, &kernels_avx512, &kernels_avx512_bf16, &kernels_amx};
    return table[cpu_level()];
}

#else

enum cpu_level cpu_level(void) { return CPU_PORTABLE; }
const struct kernels *kernels(void) { return &kernels_portable; }

#endif
