#include "backend/cpu/cpu.h"

/* What is not here stays with the reference. */
void cpu_fill(struct backend_ops *table)
{
    table->weight_prepare = cpu_weight_prepare;
    table->weight_refresh = cpu_weight_refresh;
    table->weight_release = cpu_weight_release;
    table->linear_fwd = cpu_linear_fwd;
    table->linear_bwd_x = cpu_linear_bwd_x;
    table->linear_bwd_w = cpu_linear_bwd_w;
    table->head_fwd = cpu_head_fwd;
    table->head_bwd = cpu_head_bwd;
    table->attn_fwd = cpu_attn_fwd;
    table->attn_bwd = cpu_attn_bwd;
    table->attn_decode = cpu_attn_decode;
    table->rmsnorm_fwd = cpu_rmsnorm_fwd;
    table->rmsnorm_bwd_acc = cpu_rmsnorm_bwd_acc;
    table->rope_fwd = cpu_rope_fwd;
    table->rope_bwd = cpu_rope_bwd;
    table->glu_fwd = cpu_glu_fwd;
    table->glu_bwd = cpu_glu_bwd;
    table->convert = cpu_convert;
    table->gather_fwd = cpu_gather_fwd;
    table->embed_fwd = cpu_embed_fwd;
}
