/* WINOGRAD: how an output is cut into tiles of 4 or 3 rows and columns.
 *
 * A length of 14 is cut into 4 + 4 + 3 + 3, one of 7 into 4 + 3: nothing is computed twice, and a tile of 3 needs 5 points
 * where one of 4 needs 6. So 14 x 14 takes (6 + 6 + 5 + 5)^2 = 484 products a channel pair, where tiles of 4 alone take 576.
 *
 * The points are 0, 1, -1, 2, -2 and infinity, with the numbers 0 to 5; a tile of 3 lacks point 4, which is -2. At product
 * (i, j) = 6 i + j, tiles with 3 rows have nothing to do if i = 4, and tiles with 3 columns if j = 4. The tiles of a band
 * lie in an order in which those that remain are always adjacent:
 *
 *     4 rows x 3 columns | 4 x 4 | 3 x 4 | 3 x 3
 *     i = 4: ----------------->
 *     j = 4:             <-------------->
 */
#ifndef EDGE_TILES_H
#define EDGE_TILES_H

#include "plan.h"

enum { POINTS = 6, PRODUCTS = POINTS * POINTS, LACKING = 4 };

typedef struct {
  int32_t fours, threes; /* tiles along one axis; the fours come first */
} cut;

static inline cut cut_of(int32_t outputs) {
  int32_t tiles = (outputs + 3) / 4, threes = min_of(tiles, 4 * tiles - outputs);
  return (cut){tiles - threes, threes};
}

/* Rows of tiles first..last of an output. */
typedef struct {
  cut columns;
  int32_t first;         /* the first row of tiles, */
  int32_t fours, threes; /* how many have 4 rows and 3, */
  int32_t above;         /* and how many of 4 rows are above */
  int32_t tiles;
} band;

static inline band band_of(const value *out, int32_t first, int32_t last) {
  cut rows = cut_of(out->height);
  band b = {.columns = cut_of(out->width), .first = first};
  b.fours = max_of(min_of(last, rows.fours) - first, 0), b.threes = last - first - b.fours;
  b.above = min_of(first, rows.fours);
  b.tiles = (b.fours + b.threes) * (b.columns.fours + b.columns.threes);
  return b;
}

typedef struct {
  int32_t rows, columns, y, x; /* 4 or 3 each; where its output begins */
} tile;

static inline tile tile_of(const band *b, int32_t number) {
  int32_t fours = b->columns.fours, threes = b->columns.threes, row, column;
  tile t = {4, 4, 0, 0};
  if (number < b->fours * threes) t.columns = 3, row = number / threes, column = number % threes;
  else if ((number -= b->fours * threes) < (b->fours + b->threes) * fours) row = number / fours, column = number % fours;
  else number -= (b->fours + b->threes) * fours, t.columns = 3, row = b->fours + number / threes, column = number % threes;
  if (row >= b->fours) t.rows = 3;
  row += b->first;
  int32_t tall = min_of(row, b->above + b->fours); /* rows of tiles above that have 4 rows */
  t.y = 4 * tall + 3 * (row - tall);
  t.x = t.columns == 4 ? 4 * column : 4 * fours + 3 * column;
  return t;
}

/* The tiles that have the product. */
static inline void tiles_with(const band *b, int32_t product, int32_t *first, int32_t *count) {
  int32_t beside = b->fours * b->columns.threes, *from = first, to = b->tiles;
  *from = 0;
  if (product / POINTS == LACKING) to = beside + b->fours * b->columns.fours;
  if (product % POINTS == LACKING) *from = beside, to = min_of(to, beside + (b->fours + b->threes) * b->columns.fours);
  *count = to - *from;
}

#endif
