#include "backend/cpu/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>

enum cpu_level cpu_level(void)
{
    static int level = -1; // every thread would compute the same value
    if (level >= 0) return level;
    __builtin_cpu_init();
    int found = CPU_PORTABLE;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found = CPU_AVX2;
    if (found == CPU_AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        found = CPU_AVX512;
    unsigned a, b, c, d;
    if (found == CPU_AVX512 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1 << 5)) found = CPU_AVX512_BF16;
    return level = found;
}

bool cpu_has_amx(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & 1 << 22) && (d & 1 << 24); // AMX-BF16, AMX-TILE
}

#else

enum cpu_level cpu_level(void) { return CPU_PORTABLE; }
bool cpu_has_amx(void) { return false; }

#endif
