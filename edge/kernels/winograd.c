/* WINOGRAD: 3 x 3 convolutions with stride 1 in tiles of 4 or 3 rows and columns; winograd_weights.c has the arithmetic.
 *
 * An operation goes through two phases: input tiles are transformed, [36][tiles][channels] int16, and then, for 16 output
 * channels at a time, multiplied and transformed back. The products of 16 channels, [36][tiles][16] int32, stay in the
 * cache, and weights are read from memory once. If the weights are small, it is cut into rows of tiles instead, each
 * going through both phases in one task: the transformed input stays in the cache, and the weights are read again and
 * again, but from the cache too.
 */
#ifdef __aarch64__
#include "winograd_tile.h"

enum { BY_ROWS_BELOW = 512 << 10, /* bytes of transformed weights */
       IN_USE_CHANNELS = 64 };    /* that are transformed at once: 72 KiB */

void edge_winograd_1x16(const int16_t *tiles, const int16_t *weights, int32_t *products, long channels, long step, long add);
void edge_winograd_2x16(const int16_t *tiles, const int16_t *weights, int32_t *products, long channels, long step, long add);
void edge_winograd_3x16(const int16_t *tiles, const int16_t *weights, int32_t *products, long channels, long step, long add);
void edge_winograd_4x16(const int16_t *tiles, const int16_t *weights, int32_t *products, long channels, long step, long add);
void edge_winograd_transform(const int8_t *weights, int16_t *to, long channels, long step);

static size_t bytes_of_tiles(int32_t tiles, int32_t lanes, size_t each) {
  return ((size_t)PRODUCTS * (size_t)tiles * (size_t)lanes * each + 127) / 64 * 64;
}

static int by_rows(const operation *o, const value *in) {
  return !o->in_use && (size_t)PRODUCTS * 2 * (size_t)in->lanes * (size_t)o->out.lanes < BY_ROWS_BELOW;
}

static int32_t rows_of(const operation *o) {
  cut rows = cut_of(o->out.height);
  return rows.fours + rows.threes;
}

/* ---- input: B' d B ---- */

INLINE void transform_tile(const int rows, const int columns, const int8_t *from, ptrdiff_t row, ptrdiff_t pixel, int16_t *to,
                           ptrdiff_t step, int8x8_t zero) {
  int16x8_t half[POINTS][POINTS]; /* [column][point] */
#pragma GCC unroll 6
  for (int x = 0; x < columns; x++) {
    int16x8_t d[POINTS];
#pragma GCC unroll 6
    for (int y = 0; y < rows; y++) d[y] = vsubl_s8(vld1_s8(from + y * row + x * pixel), zero);
    transform_axis(rows, d, half[x]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < POINTS; i++) {
    if (rows == 5 && i == LACKING) continue;
    int16x8_t d[POINTS], r[POINTS];
#pragma GCC unroll 6
    for (int x = 0; x < columns; x++) d[x] = half[x][i];
    transform_axis(columns, d, r);
#pragma GCC unroll 6
    for (int j = 0; j < POINTS; j++)
      if (columns == 6 || j != LACKING) vst1q_s16(to + (i * POINTS + j) * step, r[j]);
  }
}

/* Tile `number` of a band, all channels, to [36][tiles][channels]. */
static void transform_input(const job *j, const band *b, int32_t number, int16_t *to) {
  int32_t lanes = j->in->lanes, padding = j->o->padding;
  tile t = tile_of(b, number);
  const int8_t *from = j->input + pixel_offset(j->in, t.y - padding, t.x - padding);
  ptrdiff_t step = (ptrdiff_t)b->tiles * lanes;
  int8x8_t zero = vdup_n_s8((int8_t)j->in->zero);
  to += (ptrdiff_t)number * lanes;
  for (int32_t c = 0; c < lanes; c += 8, from += 8, to += 8)
    if (t.rows == 4 && t.columns == 4) transform_tile(6, 6, from, j->in->row, lanes, to, step, zero);
    else if (t.rows == 4) transform_tile(6, 5, from, j->in->row, lanes, to, step, zero);
    else if (t.columns == 4) transform_tile(5, 6, from, j->in->row, lanes, to, step, zero);
    else transform_tile(5, 5, from, j->in->row, lanes, to, step, zero);
}

/* ---- products ---- */

/* `channels` channels of the input, from `first` on, of all tiles that have the product, with 16 output channels. */
static void multiply(const band *b, int32_t product, const int16_t *tiles, int32_t lanes, const int16_t *weights,
                     int32_t first, int32_t channels, int32_t *products) {
  int32_t from, count;
  tiles_with(b, product, &from, &count);
  const int16_t *x = tiles + ((ptrdiff_t)product * b->tiles + from) * lanes + first;
  int32_t *to = products + ((ptrdiff_t)product * b->tiles + from) * LANES;
  long step = 2L * lanes;
  for (; count >= 4; count -= 4, x += 4L * lanes, to += 4 * LANES) edge_winograd_4x16(x, weights, to, channels, step, first);
  if (count == 3) edge_winograd_3x16(x, weights, to, channels, step, first);
  else if (count == 2) edge_winograd_2x16(x, weights, to, channels, step, first);
  else if (count == 1) edge_winograd_1x16(x, weights, to, channels, step, first);
}

static void multiply_all(const operation *o, const band *b, const int16_t *tiles, int32_t lanes, int32_t block,
                         int32_t *products, int16_t *transformed) {
  if (!o->in_use) {
    const int16_t *weights = (const int16_t *)o->weights + (ptrdiff_t)block * PRODUCTS * lanes * LANES;
    for (int32_t p = 0; p < PRODUCTS; p++, weights += (ptrdiff_t)lanes * LANES)
      multiply(b, p, tiles, lanes, weights, 0, lanes, products);
    return;
  }
  const int8_t *weights = (const int8_t *)o->weights + (ptrdiff_t)block * lanes * 9 * LANES;
  for (int32_t first = 0; first < lanes; first += IN_USE_CHANNELS) {
    int32_t channels = min_of(IN_USE_CHANNELS, lanes - first);
    edge_winograd_transform(weights + (ptrdiff_t)first * 9 * LANES, transformed, channels, channels * LANES * 2);
    for (int32_t p = 0; p < PRODUCTS; p++)
      multiply(b, p, tiles, lanes, transformed + p * channels * LANES, first, channels, products);
  }
}

/* ---- output: A' m A ---- */

/* Whole tiles with and without a residual, and those of which a part is outside, each with its own code. */
INLINE void finish_kind(const int rows, const int columns, const kind kind, const int32_t *m, ptrdiff_t step, place p,
                        const operation *o, int32_t channel, const requantizer *q) {
  if (p.height < rows || p.width < columns) {
    finish_tile(rows, columns, kind, m, step, p, o, channel, q);
    return;
  }
  p.height = rows, p.width = columns;
  if (p.residual) finish_tile(rows, columns, kind, m, step, p, o, channel, q);
  else p.residual = NULL, finish_tile(rows, columns, kind, m, step, p, o, channel, q);
}

INLINE void finish_block(const kind kind, const job *j, const band *b, const int32_t *products, int32_t block) {
  const operation *o = j->o;
  requantizer q = requantizer_of(j);
  ptrdiff_t step = (ptrdiff_t)b->tiles * LANES;
  for (int32_t number = 0; number < b->tiles; number++, products += LANES) {
    tile t = tile_of(b, number);
    place p = {.output = j->output + pixel_offset(&o->out, t.y, t.x) + block * LANES,
               .output_row = o->out.row, .output_pixel = o->out.lanes,
               .height = o->out.height - t.y, .width = o->out.width - t.x};
    if (j->residual) {
      p.residual = j->residual + pixel_offset(j->residual_shape, t.y, t.x) + block * LANES;
      p.residual_row = j->residual_shape->row, p.residual_pixel = j->residual_shape->lanes;
    }
    for (int32_t h = 0; h < LANES; h += 8) {
      const int32_t *m = products + h;
      int32_t channel = block * LANES + h;
      if (t.rows == 4 && t.columns == 4) finish_kind(4, 4, kind, m, step, p, o, channel, &q);
      else if (t.rows == 4) finish_kind(4, 3, kind, m, step, p, o, channel, &q);
      else if (t.columns == 4) finish_kind(3, 4, kind, m, step, p, o, channel, &q);
      else finish_kind(3, 3, kind, m, step, p, o, channel, &q);
      p.output += 8;
      if (p.residual) p.residual += 8;
    }
  }
}

/* ---- tasks ---- */

static void convolve_block(const job *j, const band *b, const int16_t *tiles, int32_t block, char *scratch) {
  int32_t *products = (int32_t *)(void *)scratch;
  int16_t *transformed = (int16_t *)(void *)(scratch + bytes_of_tiles(b->tiles, LANES, sizeof(int32_t)));
  multiply_all(j->o, b, tiles, j->in->lanes, block, products, transformed);
  if (j->o->in_use) finish_block(IN_USE, j, b, products, block);
  else finish_block(LOADED, j, b, products, block);
}

static int32_t tasks(const job *j, int32_t phase) {
  if (by_rows(j->o, j->in)) return phase ? 0 : rows_of(j->o);
  if (phase == 0) return band_of(&j->o->out, 0, rows_of(j->o)).tiles;
  return phase == 1 ? j->o->out.lanes / LANES : 0;
}

static void task(const job *j, int32_t phase, int32_t number, void *scratch) {
  if (by_rows(j->o, j->in)) {
    band b = band_of(&j->o->out, number, number + 1);
    int16_t *tiles = scratch;
    char *rest = (char *)scratch + bytes_of_tiles(b.tiles, j->in->lanes, sizeof(int16_t));
    for (int32_t t = 0; t < b.tiles; t++) transform_input(j, &b, t, tiles);
    for (int32_t block = 0; block < j->o->out.lanes / LANES; block++) convolve_block(j, &b, tiles, block, rest);
    return;
  }
  band b = band_of(&j->o->out, 0, rows_of(j->o));
  if (phase == 0) transform_input(j, &b, number, j->shared);
  else convolve_block(j, &b, j->shared, number, scratch);
}

static void workspace(const operation *o, const value *in, size_t *shared, size_t *scratch) {
  int rows = by_rows(o, in);
  int32_t tiles = band_of(&o->out, 0, rows ? 1 : rows_of(o)).tiles;
  size_t input = bytes_of_tiles(tiles, in->lanes, sizeof(int16_t)), mine = bytes_of_tiles(tiles, LANES, sizeof(int32_t));
  if (o->in_use) mine += bytes_of_tiles(IN_USE_CHANNELS, LANES, sizeof(int16_t));
  if (rows) mine += input;
  else if (input > *shared) *shared = input;
  if (mine > *scratch) *scratch = mine;
}

const method_table winograd_method = {.pack = winograd_pack, .tasks = tasks, .task = task, .workspace = workspace};
#endif
