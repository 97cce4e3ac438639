/* STEM: a first convolution of 7 x 7 with stride 2 by Winograd.
 *
 * Two rows of two pixels are taken as one pixel of 2 x 2 x 3 = 12 channels. On that picture of half the size the
 * convolution has 4 x 4 taps (the eighth row and column are zero) and stride 1, and it goes in tiles of 3 x 3 outputs,
 * which also need 6 x 6 inputs: the same points, matrix B' and factor 576 as 3 x 3 in tiles of 4, with
 *
 *   G = 1/24 |  6  0  0  0 |     A' = | 1  1  1  1  1  0 |     (again 4 in A' and 6 in G for the last point)
 *            | -4 -4 -4 -4 |          | 0  1 -1  2 -2  0 |
 *            | -4  4 -4  4 |          | 0  1  1  4  4  1 |
 *            |  1  2  4  8 |
 *            |  1 -2  4 -8 |
 *            |  0  0  0 24 |
 *
 * 432 products for 9 outputs, instead of 1323. A task is a row of tiles. The last row and column of tiles begin earlier, so
 * that they end with the picture. A side that is odd reads one row or column too many, which meets weights of zero: its
 * share of the result is zero exactly, because all is exact modulo 2^32.
 */
#ifdef __aarch64__
#include "winograd_tile.h"

#include <string.h>

enum { TILE = 3 };

void edge_stem_2x16(const int16_t *tiles, const int16_t *weights, int32_t *products, long groups);
void edge_stem_4x16(const int16_t *tiles, const int16_t *weights, int32_t *products, long groups);

static int32_t tiles_across(int32_t outputs) { return (outputs + TILE - 1) / TILE; }
static int32_t tiles_in_memory(const operation *o) { return round_up(tiles_across(o->out.width), 4); }
static int32_t start_of(int32_t tile, int32_t outputs) { return min_of(tile * TILE, outputs - TILE); }

/* Two pixels of each of two rows: 6 bytes each. The first 8 and the other 4 channels; the rest does not count. */
INLINE void load_pixel(const int8_t *first, ptrdiff_t line, int16x8_t *eight, int16x8_t *four) {
  uint64_t upper, lower;
  memcpy(&upper, first, 8);
  memcpy(&lower, first + line, 8);
  *eight = vmovl_s8(vcreate_s8((upper & 0xffffffffffffu) | lower << 48));
  *four = vmovl_s8(vcreate_s8(lower >> 16));
}

INLINE void transform_half(int16x8_t d[POINTS][POINTS], int16_t *to, ptrdiff_t step) { /* d: [column][row] */
#pragma GCC unroll 6
  for (int x = 0; x < POINTS; x++) {
    int16x8_t r[POINTS];
    transform_axis(POINTS, d[x], r);
#pragma GCC unroll 6
    for (int y = 0; y < POINTS; y++) d[x][y] = r[y];
  }
#pragma GCC unroll 6
  for (int i = 0; i < POINTS; i++) {
    int16x8_t row[POINTS], r[POINTS];
#pragma GCC unroll 6
    for (int x = 0; x < POINTS; x++) row[x] = d[x][i];
    transform_axis(POINTS, row, r);
#pragma GCC unroll 6
    for (int k = 0; k < POINTS; k++) vst1q_s16(to + (i * POINTS + k) * step, r[k]);
  }
}

static void transform_tile(const int8_t *from, ptrdiff_t line, int16_t *to, ptrdiff_t step) {
  int16x8_t eight[POINTS][POINTS], four[POINTS][POINTS];
  for (int x = 0; x < POINTS; x++)
    for (int y = 0; y < POINTS; y++) load_pixel(from + 2 * y * line + 6 * x, line, &eight[x][y], &four[x][y]);
  transform_half(eight, to, step);
  transform_half(four, to + 8, step);
}

static void multiply(const operation *o, const int16_t *tiles, const int16_t *weights, int32_t *products) {
  int32_t count = tiles_across(o->out.width), in_memory = tiles_in_memory(o), fours = count / 4 + (count % 4 == 3);
  for (int32_t p = 0; p < PRODUCTS; p++) {
    if (fours) edge_stem_4x16(tiles, weights, products, fours);
    if (4 * fours < count) edge_stem_2x16(tiles + 4 * fours * LANES, weights, products + 4 * fours * LANES, 1);
    tiles += in_memory * LANES, products += in_memory * LANES, weights += STEM_CHANNELS * LANES;
  }
}

static int32_t tasks(const job *j, int32_t phase) { return phase ? 0 : tiles_across(j->o->out.height); }

static void task(const job *j, int32_t phase, int32_t number, void *scratch) {
  (void)phase;
  const operation *o = j->o;
  int32_t across = tiles_across(o->out.width), in_memory = tiles_in_memory(o), y = start_of(number, o->out.height);
  int16_t *tiles = scratch;
  int32_t *products = (int32_t *)(void *)(tiles + PRODUCTS * in_memory * LANES);
  ptrdiff_t line = (ptrdiff_t)j->side * 3, step = (ptrdiff_t)in_memory * LANES;
  for (int32_t t = 0; t < across; t++)
    transform_tile(j->flipped + 2 * y * line + 6 * start_of(t, o->out.width), line, tiles + t * LANES, step);
  requantizer q = requantizer_of(j);
  for (int32_t channel = 0; channel < o->out.lanes; channel += LANES) {
    multiply(o, tiles, (const int16_t *)o->weights + (ptrdiff_t)channel * PRODUCTS * STEM_CHANNELS, products);
    for (int32_t t = 0; t < across; t++)
      for (int32_t h = 0; h < LANES; h += 8) {
        place p = {.output = j->output + pixel_offset(&o->out, y, start_of(t, o->out.width)) + channel + h,
                   .output_row = o->out.row, .output_pixel = o->out.lanes, .height = TILE, .width = TILE,
                   .done = number * TILE - y};
        finish_tile(TILE, TILE, STEM_TILE, products + t * LANES + h, step, p, o, channel + h, &q);
      }
  }
}

static void workspace(const operation *o, const value *in, size_t *shared, size_t *scratch) {
  (void)in, (void)shared;
  size_t bytes = (size_t)PRODUCTS * (size_t)tiles_in_memory(o) * LANES * (sizeof(int16_t) + sizeof(int32_t));
  if (bytes > *scratch) *scratch = bytes;
}

const method_table stem_method = {.pack = stem_pack, .tasks = tasks, .task = task, .workspace = workspace};
#endif
