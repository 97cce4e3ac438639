/* Windows of the direct methods: geometry, copies of the first convolution's windows, and packed weights. */
#include "windows.h"

#include <stdlib.h>
#include <string.h>

static windows results_of(const job *j) {
  const value *out = &j->o->out, *other = j->residual_shape;
  windows w = {.output = j->output, .output_step = out->lanes, .output_row = out->row, .width = out->width,
               .pixels = out->width * out->height};
  if (other) w.residual = j->residual, w.residual_step = other->lanes, w.residual_row = other->row;
  return w;
}

windows windows_of(const job *j) {
  windows w = results_of(j);
  const operation *o = j->o;
  w.input = j->input + pixel_offset(j->in, -o->padding, -o->padding);
  w.input_step = (ptrdiff_t)o->stride * j->in->lanes, w.input_row = o->stride * j->in->row;
  w.run_step = o->runs > 1 ? j->in->row - o->run : 0;
  return w;
}

/* Rows of windows, `row` bytes each, are copied in eights; what is too much is overwritten by the next row, and behind the
 * last row it meets weights of zero. */
static inline void copy_window(int8_t *to, const int8_t *from, ptrdiff_t line, int32_t rows, int32_t row, size_t eights) {
  for (int32_t y = 0; y < rows; y++, to += row, from += line) memcpy(to, from, 8 * eights);
}

windows windows_of_pixels(const job *j, int32_t first_row, int8_t *scratch) {
  windows w = results_of(j);
  const operation *o = j->o;
  ptrdiff_t line = (ptrdiff_t)j->side * 3;
  int32_t height = o->kernel_height, row = o->kernel_width * 3, rows = min_of(WINDOW_ROWS, o->out.height - first_row);
  int8_t *to = scratch;
  for (int32_t y = first_row; y < first_row + rows; y++) {
    const int8_t *from = j->flipped + y * o->stride * line;
    for (int32_t x = 0; x < w.width; x++, to += WINDOW_BYTES, from += o->stride * 3) {
      if (row <= 8) copy_window(to, from, line, height, row, 1);
      else if (row <= 16) copy_window(to, from, line, height, row, 2);
      else copy_window(to, from, line, height, row, 3);
    }
  }
  w.input = scratch, w.input_step = WINDOW_BYTES, w.input_row = (ptrdiff_t)WINDOW_BYTES * w.width;
  w.output += first_row * w.output_row;
  if (w.residual) w.residual += first_row * w.residual_row;
  w.pixels = rows * w.width;
  return w;
}

size_t windows_scratch(const operation *o) {
  return o->input == PIXELS ? (size_t)WINDOW_ROWS * WINDOW_BYTES * (size_t)o->out.width : 0;
}

/* One channel's weights as the kernels meet them: a window of `runs` runs, filled up with zeros. */
static void lay_window(int8_t *to, const operation *o, const filters *f, const int8_t *weights) {
  size_t channels = (size_t)f->in_channels, taps = (size_t)o->kernel_height * (size_t)o->kernel_width;
  memset(to, 0, (size_t)o->run * (size_t)o->runs);
  for (size_t t = 0; t < taps; t++) memcpy(to + t * (size_t)f->in_lanes, weights + t * channels, channels);
}

int pack_windows(operation *o, const filters *f, int32_t group, int32_t piece, int32_t multiple) {
  int pixels = o->input == PIXELS;
  o->runs = pixels ? 1 : o->kernel_height;
  o->run = pixels ? round_up(o->kernel_height * o->kernel_width * 3, multiple) : o->kernel_width * f->in_lanes;
  size_t bytes = (size_t)o->run * (size_t)o->runs, taps = (size_t)o->kernel_height * (size_t)o->kernel_width;
  int8_t *window = malloc(bytes), *packed = o->weights = allocate(bytes * (size_t)o->out.lanes);
  if (!window || !packed) return free(window), 0;
  memset(packed, 0, bytes * (size_t)o->out.lanes);
  for (int32_t c = 0; c < o->out.channels; c++) {
    int32_t sum = 0;
    lay_window(window, o, f, f->weights + (size_t)c * taps * (size_t)f->in_channels);
    for (size_t i = 0; i < bytes; i++) sum += window[i];
    o->bias[c] = (int32_t)((uint32_t)o->bias[c] - (uint32_t)f->in_zero * (uint32_t)sum); /* modulo 2^32, as the sums are */
    int8_t *to = packed + (size_t)(c / group * group) * bytes + (size_t)(c % group * piece);
    for (size_t at = 0; at < bytes; at += (size_t)piece, to += group * piece) memcpy(to, window + at, (size_t)piece);
  }
  free(window);
  return 1;
}
