/* WINOGRAD: when it is exact, and weights transformed when the trunk is created.
 *
 * A tile of 4 x 4 outputs of a 3 x 3 convolution is A' [(G w G') * (B' d B)] A, with the points 0, 1, -1, 2, -2, infinity:
 *
 *   G = 1/24 |  6  0  0 |     B' = | 4  0 -5  0  1  0 |     A' = | 1  1  1  1  1  0 |
 *            | -4 -4 -4 |          | 0 -4 -4  1  1  0 |          | 0  1 -1  2 -2  0 |
 *            | -4  4 -4 |          | 0  4 -4 -1  1  0 |          | 0  1  1  4  4  0 |
 *            |  1  2  4 |          | 0 -2 -1  2  1  0 |          | 0  1 -1  8 -8  1 |
 *            |  1 -2  4 |          | 0  2 -1 -2  1  0 |
 *            |  0  0 24 |          | 0  4  0 -5  0  1 |
 *
 * Without the 1/24 all is integers, and the result 24 * 24 S = 576 S, S being the sum that is wanted. (The 24 of the last
 * row of G is 6, and 4 in A', so that weights fit into 16 bits.) Additions and multiplications modulo 2^32 give 576 S modulo
 * 2^32, whatever overflows on the way. 576 = 9 * 64, and 9 has an inverse modulo 2^32, being odd; times that, 576 S becomes
 * 64 S modulo 2^32. With the bias that is 64 (S + bias), exact if |S + bias| < 2^25. `winograd_fits` proves this for each
 * channel, from its weights and all inputs that there can be. 64 is a power of two, so the scale divided by it changes no
 * rounding. A convolution that fails is computed directly.
 *
 * What goes into a product has to fit into 16 bits: |d - zero| <= 255, at most 10 * 10 of it; |w| <= 127, at most 12 * 12.
 *
 * A tile of 3 outputs has the points 0, 1, -1, 2, infinity and the denominators 2, -2, -6, 6, 1. Its part of 24, divided by
 * that of a tile of 4, is 2, 3, 1, 4, 1: whole numbers, which its A' gets. So both kinds share weights, inverse and bound:
 *
 *   B' = | 2 -1 -2  1  0 |     A' = | 2  3  1   4  0 |
 *        | 0 -2 -1  1  0 |          | 0  3 -1   8  0 |
 *        | 0  2 -3  1  0 |          | 0  3  1  16  1 |
 *        | 0 -1  0  1  0 |
 *        | 0  2 -1 -2  1 |
 */
#include "winograd.h"

#include <string.h>

static const int32_t G[POINTS][3] = {{6, 0, 0}, {-4, -4, -4}, {-4, 4, -4}, {1, 2, 4}, {1, -2, 4}, {0, 0, 6}};

int32_t winograd_covers(int32_t outputs) {
  cut c = cut_of(outputs);
  return 4 * c.fours + 3 * c.threes;
}

/* Whether |S + bias| < 2^25 for all inputs. */
static int sums_fit(const operation *o, const filters *f) {
  const int8_t *w = f->weights;
  int32_t taps = o->kernel_height * o->kernel_width * f->in_channels;
  for (int32_t c = 0; c < o->out.channels; c++) {
    int64_t greatest = o->bias[c], least = o->bias[c];
    for (int32_t i = 0; i < taps; i++, w++) {
      greatest += *w * (*w > 0 ? 127 - f->in_zero : -128 - f->in_zero);
      least += *w * (*w > 0 ? -128 - f->in_zero : 127 - f->in_zero);
    }
    if (greatest >= 1 << 25 || least <= -(1 << 25)) return 0;
  }
  return 1;
}

int winograd_fits(const operation *o, const filters *f) {
  return o->kernel_height == 3 && o->kernel_width == 3 && o->stride == 1 && sums_fit(o, f);
}

int stem_fits(const operation *o, const filters *f) {
  int shape = o->kernel_height == 7 && o->kernel_width == 7 && o->stride == 2 && o->out.height >= 3 && o->out.width >= 3;
  return o->input == PIXELS && o->residual == NONE && shape && sums_fit(o, f);
}

/* The 36 transformed weights of one input and output channel, `step` apart. */
static void transform(const int8_t *w, int32_t in_channels, int16_t *to, size_t step) {
  int32_t half[POINTS][3];
  for (int32_t i = 0; i < POINTS; i++)
    for (int32_t x = 0; x < 3; x++) {
      half[i][x] = 0;
      for (int32_t y = 0; y < 3; y++) half[i][x] += G[i][y] * w[(3 * y + x) * in_channels];
    }
  for (int32_t i = 0; i < POINTS; i++)
    for (int32_t j = 0; j < POINTS; j++)
      to[(size_t)(i * POINTS + j) * step] = (int16_t)(half[i][0] * G[j][0] + half[i][1] * G[j][1] + half[i][2] * G[j][2]);
}

/* For each 16 output channels: [36][input channel][16], or as int8 [input channel][9][16]. */
int winograd_pack(operation *o, const filters *f) {
  size_t in = (size_t)f->in_lanes, out = (size_t)o->out.lanes;
  size_t bytes = in * out * (o->in_use ? 9 : PRODUCTS * sizeof(int16_t));
  o->weights = allocate(bytes);
  if (!o->weights) return 0;
  memset(o->weights, 0, bytes);
  for (int32_t k = 0; k < o->out.channels; k++)
    for (int32_t c = 0; c < f->in_channels; c++) {
      const int8_t *w = f->weights + (ptrdiff_t)k * 9 * f->in_channels + c;
      size_t block = (size_t)(k / LANES), lane = (size_t)(k % LANES), channel = (size_t)c;
      if (o->in_use) {
        int8_t *to = (int8_t *)o->weights + (block * in + channel) * 9 * LANES + lane;
        for (int32_t i = 0; i < 9; i++) to[i * LANES] = w[i * f->in_channels];
      } else {
        transform(w, f->in_channels, (int16_t *)o->weights + (block * PRODUCTS * in + channel) * LANES + lane, in * LANES);
      }
    }
  for (int32_t k = 0; k < o->out.lanes; k++) o->bias[k] *= 64, o->scale[k] /= 64;
  return 1;
}

/* STEM: the 36 transformed weights of one input and output channel, of a kernel of 4 x 4 with a row and column of zeros where
 * w(8 x 8) ends. At most 16 * 16 * 127, so it fits into 16 bits. */
static void transform_stem(const int8_t *w, int32_t py, int32_t px, int32_t c, int16_t *to, size_t step) {
  static const int32_t G4[POINTS][4] = {{6, 0, 0, 0}, {-4, -4, -4, -4}, {-4, 4, -4, 4}, {1, 2, 4, 8}, {1, -2, 4, -8}, {0, 0, 0, 6}};
  for (int32_t i = 0; i < POINTS; i++)
    for (int32_t j = 0; j < POINTS; j++) {
      int32_t sum = 0;
      for (int32_t a = 0; a < 4; a++)
        for (int32_t b = 0; b < 4; b++) {
          int32_t y = 2 * a + py, x = 2 * b + px;
          if (y < 7 && x < 7) sum += G4[i][a] * G4[j][b] * w[(y * 7 + x) * 3 + c];
        }
      to[(size_t)(i * POINTS + j) * step] = (int16_t)sum;
    }
}

/* For each 16 output channels: [36][12][16]; the 12 are two rows of two pixels of three colours. */
int stem_pack(operation *o, const filters *f) {
  size_t bytes = (size_t)PRODUCTS * STEM_CHANNELS * (size_t)o->out.lanes * sizeof(int16_t);
  o->weights = allocate(bytes);
  if (!o->weights) return 0;
  memset(o->weights, 0, bytes);
  for (int32_t k = 0; k < o->out.channels; k++) {
    const int8_t *w = f->weights + k * 147;
    int32_t sum = 0;
    for (int32_t i = 0; i < 147; i++) sum += w[i];
    o->bias[k] += 128 * sum; /* the kernel reads pixel - 128 */
    for (int32_t c = 0; c < STEM_CHANNELS; c++) {
      int16_t *to = (int16_t *)o->weights + ((size_t)(k / LANES) * PRODUCTS * STEM_CHANNELS + (size_t)c) * LANES + k % LANES;
      transform_stem(w, c / 6, c % 6 / 3, c % 3, to, STEM_CHANNELS * LANES);
    }
  }
  for (int32_t k = 0; k < o->out.lanes; k++) o->bias[k] = (int32_t)((uint32_t)o->bias[k] * 64), o->scale[k] /= 64;
  return 1;
}
