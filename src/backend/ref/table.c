#include "backend/ref/ref.h"

void ref_fill(struct backend_ops *table)
{
#define OP(type, name, args) table->name = ref_##name;
#include "backend/ops.def"
#undef OP
}
