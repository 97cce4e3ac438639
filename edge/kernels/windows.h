/* DIRECT and DOTS: where the windows of an operation's output pixels are, and where their results go. */
#ifndef EDGE_WINDOWS_H
#define EDGE_WINDOWS_H

#include "methods.h"

/* The first convolution has 3 channels, so the rows of its window are too short for the kernels. The windows are copied
 * side by side, one run each. 7 x 7 x 3 = 147 bytes take WINDOW_BYTES of it, rounded up to what the method reads at once. */
enum { WINDOW_BYTES = 160, WINDOW_ROWS = 2 };

typedef struct {
  const int8_t *input; /* the window of the first pixel */
  int8_t *output;
  const int8_t *residual; /* or NULL */
  ptrdiff_t input_step, output_step, residual_step; /* from one pixel to the next */
  ptrdiff_t input_row, output_row, residual_row;    /* from one row to the next */
  ptrdiff_t run_step; /* from the end of a window's run to the start of the next */
  int32_t width, pixels;
} windows;

/* windows.c. All pixels of an operation whose input is not the pixels: */
windows windows_of(const job *j);
/* WINDOW_ROWS rows of the first convolution, fewer at the end, copied to `scratch`: */
windows windows_of_pixels(const job *j, int32_t first_row, int8_t *scratch);
size_t windows_scratch(const operation *o);
/* Packs weights: for each `group` channels, for each `piece` bytes of the window, the bytes of each channel. Sets o->run,
 * o->runs and o->weights, and subtracts the zero point's part from o->bias. */
int pack_windows(operation *o, const filters *f, int32_t group, int32_t piece, int32_t multiple);

#endif
