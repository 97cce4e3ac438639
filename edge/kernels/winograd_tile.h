/* Winograd of one tile with vectors: winograd_weights.c has the matrices. Constant arguments choose the code. */
#ifndef EDGE_WINOGRAD_TILE_H
#define EDGE_WINOGRAD_TILE_H

#include "requantize.h"
#include "winograd.h"

static const int32_t NINTH = 954437177; /* 9 * NINTH = 1 modulo 2^32 */

/* Input, B' d, of one axis. `count` is 6 for a tile of 4, 5 for one of 3, whose result 4 is not set. */
INLINE void transform_axis(const int count, const int16x8_t *d, int16x8_t *r) {
  int16x8_t e = vsubq_s16(d[3], d[1]);
  if (count == 6) {
    int16x8_t a = vsubq_s16(d[4], vshlq_n_s16(d[2], 2)), b = vsubq_s16(d[3], vshlq_n_s16(d[1], 2));
    int16x8_t c = vsubq_s16(d[4], d[2]), f = vshlq_n_s16(e, 1);
    r[0] = vaddq_s16(vshlq_n_s16(vsubq_s16(d[0], d[2]), 2), c);
    r[1] = vaddq_s16(a, b), r[2] = vsubq_s16(a, b);
    r[3] = vaddq_s16(c, f), r[4] = vsubq_s16(c, f);
    r[5] = vsubq_s16(vsubq_s16(d[5], d[3]), vshlq_n_s16(e, 2));
  } else {
    int16x8_t a = vsubq_s16(d[1], d[2]), f = vshlq_n_s16(e, 1);
    r[0] = vaddq_s16(e, vshlq_n_s16(vsubq_s16(d[0], d[2]), 1));
    r[1] = vsubq_s16(vsubq_s16(e, d[1]), d[2]);
    r[2] = vaddq_s16(vaddq_s16(e, a), vshlq_n_s16(a, 1));
    r[3] = e;
    r[5] = vsubq_s16(vsubq_s16(d[4], d[2]), f);
  }
}

/* Weights transformed when the trunk was created, or in use; or the first convolution, whose tiles have 3 rows and columns
 * and all six points. */
typedef enum { LOADED, IN_USE, STEM_TILE } kind;

INLINE int lacks(const int count, const kind kind, int point) { return count == 3 && kind != STEM_TILE && point == LACKING; }

/* Products back to outputs, A' m, of one axis. */
INLINE void back_axis(const int count, const kind kind, const int32x4_t *m, int32x4_t *r) {
  if (count == 4 || kind == STEM_TILE) {
    int32x4_t a = vaddq_s32(m[1], m[2]), b = vsubq_s32(m[1], m[2]), c = vaddq_s32(m[3], m[4]), d = vsubq_s32(m[3], m[4]);
    r[0] = vaddq_s32(vaddq_s32(m[0], a), c);
    r[1] = vaddq_s32(b, vshlq_n_s32(d, 1));
    if (kind == STEM_TILE) {
      r[2] = vaddq_s32(a, vshlq_n_s32(vaddq_s32(c, m[5]), 2));
      return;
    }
    r[2] = vaddq_s32(a, vshlq_n_s32(c, 2));
    r[3] = vaddq_s32(b, vshlq_n_s32(vaddq_s32(vshlq_n_s32(d, 1), m[5]), 2));
  } else {
    int32x4_t three = vaddq_s32(m[1], vshlq_n_s32(m[1], 1)), four = vshlq_n_s32(m[3], 2);
    int32x4_t a = vaddq_s32(three, m[2]), b = vsubq_s32(three, m[2]);
    r[0] = vaddq_s32(vaddq_s32(vshlq_n_s32(m[0], 1), a), four);
    r[1] = vaddq_s32(b, vshlq_n_s32(four, 1));
    r[2] = vaddq_s32(a, vshlq_n_s32(vaddq_s32(four, m[5]), 2));
  }
}

typedef struct {
  int8_t *output;
  const int8_t *residual;
  ptrdiff_t output_row, output_pixel, residual_row, residual_pixel;
  int32_t height, width; /* how much of the tile is inside the picture */
  int32_t done;          /* its first rows that another task computes */
} place;

/* Products whose weights were transformed in use lack the factors of G. */
INLINE int32x4_t product(const kind kind, const int32_t *m, int i, int j) {
  static const int32_t factor[POINTS] = {6, -4, -4, 1, 1, 6};
  int32x4_t v = vld1q_s32(m);
  return kind == IN_USE ? vmulq_n_s32(v, factor[i] * factor[j]) : v;
}

/* 8 channels of one tile. */
INLINE void finish_tile(const int rows, const int columns, const kind kind, const int32_t *m, ptrdiff_t step, place p,
                        const operation *o, int32_t channel, const requantizer *q) {
  int32x4_t half[4][POINTS][2];
#pragma GCC unroll 6
  for (int j = 0; j < POINTS; j++) {
    if (lacks(columns, kind, j)) continue;
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
      int32x4_t column[POINTS], r[4];
#pragma GCC unroll 6
      for (int i = 0; i < POINTS; i++)
        if (!lacks(rows, kind, i)) column[i] = product(kind, m + (i * POINTS + j) * step + 4 * h, i, j);
      back_axis(rows, kind, column, r);
#pragma GCC unroll 4
      for (int y = 0; y < rows; y++) half[y][j][h] = r[y];
    }
  }
  int32x4_t ninth = vdupq_n_s32(NINTH), bias[2] = {vld1q_s32(o->bias + channel), vld1q_s32(o->bias + channel + 4)};
  float32x4_t scale[2] = {vld1q_f32(o->scale + channel), vld1q_f32(o->scale + channel + 4)};
#pragma GCC unroll 4
  for (int y = 0; y < rows; y++) {
    if (y >= p.height) break;
    if (y < p.done) continue;
    int32x4_t r[2][4];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
      int32x4_t row[POINTS];
#pragma GCC unroll 6
      for (int j = 0; j < POINTS; j++) row[j] = half[y][lacks(columns, kind, j) ? 0 : j][h];
      back_axis(columns, kind, row, r[h]);
    }
#pragma GCC unroll 4
    for (int x = 0; x < columns; x++) {
      if (x >= p.width) break;
      float32x4_t a = vmulq_f32(vcvtq_f32_s32(vmlaq_s32(bias[0], r[0][x], ninth)), scale[0]);
      float32x4_t b = vmulq_f32(vcvtq_f32_s32(vmlaq_s32(bias[1], r[1][x], ninth)), scale[1]);
      if (p.residual) add_residual(&a, &b, vmovl_s8(vld1_s8(p.residual + y * p.residual_row + x * p.residual_pixel)), q);
      vst1_s8(p.output + y * p.output_row + x * p.output_pixel, requantized_8(a, b, q));
    }
  }
}

#endif
