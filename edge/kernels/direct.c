/* DIRECT: convolution without dot product, 4 pixels x 4 channels at a time (direct.S), then their requantization.
 *
 * The larger one of input and weights is read from memory once: either a task is a row of pixels, which goes through all
 * channels, or it is 16 channels, which go through all pixels. */
#ifdef __aarch64__
#include "requantize.h"
#include "windows.h"

#include <string.h>

enum { TILE = 4 };

void edge_direct_4x4(const int8_t *const x[4], const int8_t *weights, int32_t *sums, long chunks, long runs, long step);

static int pack(operation *o, const filters *f) { return pack_windows(o, f, TILE, 16, 16); }

static int by_channels(const job *j) {
  return (size_t)j->o->run * (size_t)j->o->runs * (size_t)j->o->out.lanes > bytes_of(j->in);
}

static int32_t tasks(const job *j, int32_t phase) {
  if (phase) return 0;
  if (!j->in) return (j->o->out.height + WINDOW_ROWS - 1) / WINDOW_ROWS;
  return by_channels(j) ? j->o->out.lanes / LANES : j->o->out.height;
}

/* sums: 4 channels of each of 4 pixels. */
INLINE void finish(const int32_t *sums, const operation *o, const requantizer *q, int32_t channel, int8_t *const y[TILE],
                   const int8_t *const residual[TILE]) {
  int32x4_t bias = vld1q_s32(o->bias + channel);
  float32x4_t scale = vld1q_f32(o->scale + channel), f[TILE];
#pragma GCC unroll 4
  for (int i = 0; i < TILE; i++) f[i] = vmulq_f32(vcvtq_f32_s32(vaddq_s32(vld1q_s32(sums + 4 * i), bias)), scale);
  if (residual) {
    int32_t word[TILE];
#pragma GCC unroll 4
    for (int i = 0; i < TILE; i++) memcpy(&word[i], residual[i] + channel, 4);
    int8x16_t r = vreinterpretq_s8_s32(vld1q_s32(word));
    add_residual(&f[0], &f[1], vmovl_s8(vget_low_s8(r)), q);
    add_residual(&f[2], &f[3], vmovl_high_s8(r), q);
  }
  int32x4_t result = vreinterpretq_s32_s8(requantized_16(f, q));
  vst1q_lane_s32((int32_t *)(void *)(y[0] + channel), result, 0);
  vst1q_lane_s32((int32_t *)(void *)(y[1] + channel), result, 1);
  vst1q_lane_s32((int32_t *)(void *)(y[2] + channel), result, 2);
  vst1q_lane_s32((int32_t *)(void *)(y[3] + channel), result, 3);
}

/* Pixels first..last of `w`, channels from..to. The last tile repeats its last pixel. */
static void convolve(const job *j, const windows *w, int32_t first, int32_t last, int32_t from, int32_t to) {
  const operation *o = j->o;
  requantizer q = requantizer_of(j);
  const int8_t *x[TILE], *residual[TILE] = {0};
  int8_t *y[TILE];
  int32_t sums[TILE * TILE];
  ptrdiff_t window = (ptrdiff_t)o->run * o->runs;
  for (int32_t p = first; p < last; p += TILE) {
    for (int32_t i = 0; i < TILE; i++) {
      int32_t pixel = min_of(p + i, last - 1), row = pixel / w->width, column = pixel % w->width;
      x[i] = w->input + row * w->input_row + column * w->input_step;
      y[i] = w->output + row * w->output_row + column * w->output_step;
      if (w->residual) residual[i] = w->residual + row * w->residual_row + column * w->residual_step;
    }
    for (int32_t k = from; k < to; k += TILE) {
      edge_direct_4x4(x, (const int8_t *)o->weights + k * window, sums, o->run / 16, o->runs, w->run_step);
      if (w->residual) finish(sums, o, &q, k, y, residual);
      else finish(sums, o, &q, k, y, NULL);
    }
  }
}

static void task(const job *j, int32_t phase, int32_t number, void *scratch) {
  (void)phase;
  int32_t lanes = j->o->out.lanes;
  if (!j->in) {
    windows w = windows_of_pixels(j, number * WINDOW_ROWS, scratch);
    convolve(j, &w, 0, w.pixels, 0, lanes);
    return;
  }
  windows w = windows_of(j);
  if (by_channels(j)) convolve(j, &w, 0, w.pixels, number * LANES, (number + 1) * LANES);
  else convolve(j, &w, number * w.width, (number + 1) * w.width, 0, lanes);
}

static void workspace(const operation *o, const value *in, size_t *shared, size_t *scratch) {
  (void)in, (void)shared;
  if (windows_scratch(o) > *scratch) *scratch = windows_scratch(o);
}

const method_table direct_method = {.pack = pack, .tasks = tasks, .task = task, .workspace = workspace};
#endif
