/* DOTS: convolution with dot product, 6 or 5 pixels x 16 channels at a time (dots.S), then their requantization.
 *
 * Pixels are cut into tiles of 6 and, so that nothing is computed twice, at the end a few of 5: each number from 20 on is
 * a sum of sixes and at most five fives. A task is 16 channels, whose weights stay in the nearest cache, times a band of tiles. */
#ifdef __aarch64__
#include "requantize.h"
#include "windows.h"

enum { WIDE = 6, NARROW = 5, BAND = 128 };

void edge_dots_6x16(const int8_t *const x[WIDE], const int8_t *weights, int32_t *sums, long chunks, long runs, long step,
                    const int32_t *bias, long tail);
void edge_dots_5x16(const int8_t *const x[WIDE], const int8_t *weights, int32_t *sums, long chunks, long runs, long step,
                    const int32_t *bias, long tail);

typedef struct {
  int32_t wide, narrow; /* how many tiles */
} cut;

static cut cut_of(int32_t pixels) {
  cut c = {.narrow = (WIDE - pixels % WIDE) % WIDE};
  c.wide = (pixels - c.narrow * NARROW) / WIDE;
  if (pixels < c.narrow * NARROW) c.wide = 0, c.narrow = (pixels + NARROW - 1) / NARROW; /* the last one is not full */
  return c;
}

static int pack(operation *o, const filters *f) { return pack_windows(o, f, LANES, 4, 4); }

static int32_t bands_of(int32_t pixels) {
  cut c = cut_of(pixels);
  return (c.wide + c.narrow + BAND - 1) / BAND;
}

static int32_t tasks(const job *j, int32_t phase) {
  if (phase) return 0;
  if (!j->in) return (j->o->out.height + WINDOW_ROWS - 1) / WINDOW_ROWS;
  return j->o->out.lanes / LANES * bands_of(j->o->out.height * j->o->out.width);
}

INLINE void finish(const int32_t *sums, const float32x4_t scale[4], const requantizer *q, int8_t *y, const int8_t *residual) {
  float32x4_t f[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) f[i] = vmulq_f32(vcvtq_f32_s32(vld1q_s32(sums + 4 * i)), scale[i]);
  if (residual) {
    int8x16_t r = vld1q_s8(residual);
    add_residual(&f[0], &f[1], vmovl_s8(vget_low_s8(r)), q);
    add_residual(&f[2], &f[3], vmovl_high_s8(r), q);
  }
  vst1q_s8(y, requantized_16(f, q));
}

/* Where the pixels of a tile are: in one row of the picture, mostly. The last tile repeats its last pixel. */
INLINE void place_pixels(const int count, const windows *w, int32_t first, const int8_t **x, int8_t **y, const int8_t **residual) {
  int32_t row = first / w->width, column = first - row * w->width;
  if (column + count <= w->width) {
    const int8_t *from = w->input + row * w->input_row + column * w->input_step;
    int8_t *to = w->output + row * w->output_row + column * w->output_step;
#pragma GCC unroll 6
    for (int i = 0; i < count; i++, from += w->input_step, to += w->output_step) x[i] = from, y[i] = to;
    if (w->residual) {
      const int8_t *other = w->residual + row * w->residual_row + column * w->residual_step;
#pragma GCC unroll 6
      for (int i = 0; i < count; i++, other += w->residual_step) residual[i] = other;
    }
    return;
  }
  for (int i = 0; i < count; i++) {
    x[i] = w->input + row * w->input_row + column * w->input_step;
    y[i] = w->output + row * w->output_row + column * w->output_step;
    if (w->residual) residual[i] = w->residual + row * w->residual_row + column * w->residual_step;
    if (first + i + 1 < w->pixels && ++column == w->width) column = 0, row++;
  }
}

/* One tile, from pixel `first` on, 16 channels from `channel` on. */
INLINE void tile(const int count, const job *j, const windows *w, const requantizer *q, int32_t first, int32_t channel) {
  const operation *o = j->o;
  const int8_t *x[WIDE], *residual[WIDE];
  int8_t *y[WIDE];
  int32_t sums[WIDE * LANES];
  place_pixels(count, w, first, x, y, residual);
  const int8_t *weights = (const int8_t *)o->weights + (ptrdiff_t)channel * o->run * o->runs;
  (count == WIDE ? edge_dots_6x16 : edge_dots_5x16)(x, weights, sums, o->run / 16, o->runs, w->run_step, o->bias + channel,
                                                    o->run % 16 / 4);
  float32x4_t scale[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) scale[i] = vld1q_f32(o->scale + channel + 4 * i);
  if (w->residual) {
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) finish(sums + LANES * i, scale, q, y[i] + channel, residual[i] + channel);
  } else {
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) finish(sums + LANES * i, scale, q, y[i] + channel, NULL);
  }
}

/* Tiles first..last of `w`, 16 channels from `channel` on. */
static void convolve(const job *j, const windows *w, int32_t first, int32_t last, int32_t channel) {
  requantizer q = requantizer_of(j);
  int32_t wide = cut_of(w->pixels).wide;
  for (int32_t t = first; t < last; t++)
    if (t < wide) tile(WIDE, j, w, &q, t * WIDE, channel);
    else tile(NARROW, j, w, &q, wide * WIDE + (t - wide) * NARROW, channel);
}

static void task(const job *j, int32_t phase, int32_t number, void *scratch) {
  (void)phase;
  windows w = j->in ? windows_of(j) : windows_of_pixels(j, number * WINDOW_ROWS, scratch);
  cut c = cut_of(w.pixels);
  int32_t tiles = c.wide + c.narrow;
  if (!j->in) {
    for (int32_t channel = 0; channel < j->o->out.lanes; channel += LANES) convolve(j, &w, 0, tiles, channel);
    return;
  }
  int32_t bands = bands_of(w.pixels), band = number % bands * BAND;
  convolve(j, &w, band, min_of(band + BAND, tiles), number / bands * LANES);
}

static void workspace(const operation *o, const value *in, size_t *shared, size_t *scratch) {
  (void)in, (void)shared;
  if (windows_scratch(o) > *scratch) *scratch = windows_scratch(o);
}

const method_table dots_method = {.pack = pack, .tasks = tasks, .task = task, .workspace = workspace};
#endif
