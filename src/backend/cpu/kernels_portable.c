#define LANES 4
#define MR 6
#define TARGET
#include "backend/cpu/kernels_body.h"

const struct kernels kernels_portable = {KERNELS, .mr = MR};
