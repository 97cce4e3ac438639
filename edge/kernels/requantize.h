/* From a 32-bit sum to an int8 value, as trunk.h defines it: each instruction rounds as plain C in float32 does.
 * Saturating to 16 bits on the way changes nothing, because the result is clamped to less. */
#ifndef EDGE_REQUANTIZE_H
#define EDGE_REQUANTIZE_H

#include <arm_neon.h>

#include "methods.h"

#define INLINE static inline __attribute__((always_inline))

typedef struct {
  int8x16_t low;
  int16x8_t zero, residual_zero;
  float32x4_t factor;
} requantizer;

INLINE requantizer requantizer_of(const job *j) {
  requantizer q = {vdupq_n_s8((int8_t)j->o->low), vdupq_n_s16((int16_t)j->o->out.zero),
                   vdupq_n_s16((int16_t)(j->residual_shape ? j->residual_shape->zero : 0)), vdupq_n_f32(j->o->factor)};
  return q;
}

INLINE void add_residual(float32x4_t *a, float32x4_t *b, int16x8_t residual, const requantizer *q) {
  residual = vsubq_s16(residual, q->residual_zero);
  *a = vaddq_f32(*a, vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(residual))), q->factor));
  *b = vaddq_f32(*b, vmulq_f32(vcvtq_f32_s32(vmovl_high_s16(residual)), q->factor));
}

/* Rounds to the nearest, ties to even, and adds the zero point. */
INLINE int16x8_t rounded(float32x4_t a, float32x4_t b, const requantizer *q) {
  return vqaddq_s16(vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(a)), vcvtnq_s32_f32(b)), q->zero);
}

INLINE int8x8_t requantized_8(float32x4_t a, float32x4_t b, const requantizer *q) {
  return vmax_s8(vqmovn_s16(rounded(a, b, q)), vget_low_s8(q->low));
}

INLINE int8x16_t requantized_16(const float32x4_t f[4], const requantizer *q) {
  int8x8_t half = vqmovn_s16(rounded(f[0], f[1], q));
  return vmaxq_s8(vqmovn_high_s16(half, rounded(f[2], f[3], q)), q->low);
}

#endif
