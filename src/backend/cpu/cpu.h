/* The fast kernels: OpenMP over rows, tiles or heads, and the widest vectors that this processor has, chosen at run time. */
#ifndef SAIL_BACKEND_CPU_H
#define SAIL_BACKEND_CPU_H

#include "backend/backend.h"
#include "base/err.h"

enum cpu_level { CPU_PORTABLE, CPU_AVX2, CPU_AVX512, CPU_AVX512_BF16 };
enum cpu_level cpu_level(void);
bool cpu_has_amx(void);

#endif
