/* POOL and AVERAGE with vectors. A window of the pool is clipped at the picture's edges, so its frame does not matter. */
#ifdef __aarch64__
#include "requantize.h"

static int32_t rows(const job *j, int32_t phase) { return phase ? 0 : j->o->out.height; }

/* All channels of one window of `height` x `width` pixels. */
INLINE void greatest_of(const int8_t *from, ptrdiff_t row, int32_t lanes, int32_t height, int32_t width, int8_t *to) {
  for (int32_t c = 0; c < lanes; c += LANES) {
    int8x16_t greatest = vdupq_n_s8(-128);
#pragma GCC unroll 3
    for (int32_t y = 0; y < height; y++)
#pragma GCC unroll 3
      for (int32_t x = 0; x < width; x++) greatest = vmaxq_s8(greatest, vld1q_s8(from + y * row + x * lanes + c));
    vst1q_s8(to + c, greatest);
  }
}

static void max_pool(const job *j, int32_t phase, int32_t y, void *scratch) {
  (void)phase, (void)scratch;
  const operation *o = j->o;
  int32_t y0 = max_of(y * o->stride - o->padding, 0), lanes = j->in->lanes;
  int32_t height = min_of(y * o->stride - o->padding + o->kernel_height, j->in->height) - y0;
  for (int32_t x = 0; x < o->out.width; x++) {
    int32_t x0 = max_of(x * o->stride - o->padding, 0);
    int32_t width = min_of(x * o->stride - o->padding + o->kernel_width, j->in->width) - x0;
    const int8_t *from = j->input + pixel_offset(j->in, y0, x0);
    int8_t *to = j->output + pixel_offset(&o->out, y, x);
    if (height == 3 && width == 3) greatest_of(from, j->in->row, lanes, 3, 3, to);
    else greatest_of(from, j->in->row, lanes, height, width, to);
  }
}

static int32_t once(const job *j, int32_t phase) { return (void)j, phase ? 0 : 1; }

static void average(const job *j, int32_t phase, int32_t number, void *scratch) {
  (void)phase, (void)number, (void)scratch;
  int16x8_t zero = vdupq_n_s16((int16_t)j->in->zero);
  for (int32_t c = 0; c < j->in->lanes; c += 8) {
    int32x4_t low = vdupq_n_s32(0), high = low;
    for (int32_t y = 0; y < j->in->height; y++) {
      const int8_t *at = j->input + pixel_offset(j->in, y, 0) + c;
      for (int32_t x = 0; x < j->in->width; x++, at += j->in->lanes) {
        int16x8_t difference = vsubq_s16(vmovl_s8(vld1_s8(at)), zero);
        low = vaddw_s16(low, vget_low_s16(difference)), high = vaddw_high_s16(high, difference);
      }
    }
    float result[8];
    vst1q_f32(result, vmulq_n_f32(vcvtq_f32_s32(low), j->o->factor));
    vst1q_f32(result + 4, vmulq_n_f32(vcvtq_f32_s32(high), j->o->factor));
    for (int32_t i = 0; i < 8 && c + i < j->in->channels; i++) j->features[c + i] = result[i];
  }
}

const method_table pool_method = {.tasks = rows, .task = max_pool};
const method_table average_method = {.tasks = once, .task = average};
#endif
