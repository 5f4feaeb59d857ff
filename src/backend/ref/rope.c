#include "backend/ref/ref.h"

static void turn(void *x, enum dtype t, int64_t ld, const int32_t *pos, const float *cosine, const float *sine, int64_t n,
                 int64_t n_head, int64_t d, int64_t rot, double direction)
{
    int64_t half = rot / 2;
    for (int64_t r = 0; r < n; r++)
        for (int64_t h = 0; h < n_head; h++)
            for (int64_t j = 0; j < half; j++) {
                double c = cosine[pos[r] * half + j], s = direction * sine[pos[r] * half + j];
                int64_t at = r * ld + h * d + j;
                double a = element(x, t, at), b = element(x, t, at + half);
                element_set(x, t, at, a * c - b * s);
                element_set(x, t, at + half, b * c + a * s);
            }
}

void ref_rope_fwd(void *x, enum dtype t, int64_t ld, const int32_t *pos, const float *cosine, const float *sine, int64_t n,
                  int64_t n_head, int64_t d, int64_t rot)
{
    turn(x, t, ld, pos, cosine, sine, n, n_head, d, rot, 1);
}

void ref_rope_bwd(void *dx, enum dtype t, int64_t ld, const int32_t *pos, const float *cosine, const float *sine, int64_t n,
                  int64_t n_head, int64_t d, int64_t rot)
{
    turn(dx, t, ld, pos, cosine, sine, n, n_head, d, rot, -1);
}
