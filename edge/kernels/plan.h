/* What a trunk consists of once its data is checked: operations with the shapes, methods and memory of each. */
#ifndef EDGE_PLAN_H
#define EDGE_PLAN_H

#include "trunk.h"

enum { LANES = 16, PIXELS = -1, NONE = -1 }; /* channels lie in groups of LANES; the last group is filled up */

/* The largest figures that are served, as promised in trunk.h. */
enum { MAX_OPERATIONS = 512, MAX_CHANNELS = 4096, MAX_SIDE = 2048, MAX_KERNEL = 7, MAX_STRIDE = 4, MAX_THREADS = 64 };

/* An activation in memory: NHWC, int8, `lanes` bytes a pixel, inside a frame that holds the zero point. The frame is what
 * a convolution reads as padding, and what its last tile reads beyond the picture, so no kernel checks for borders. */
typedef struct {
  int32_t height, width, channels, lanes, zero;
  int32_t before;                    /* rows above and columns left of the picture */
  int32_t frame_height, frame_width; /* the frame included */
  int32_t slot;                      /* which buffer holds it */
  ptrdiff_t row;                     /* bytes from one row to the next */
} value;

/* How one operation is computed; see the file of that name for each. */
typedef enum { PLAIN, DIRECT, DOTS, WINOGRAD, STEM, POOL, AVERAGE } method;

typedef struct {
  int32_t kind, input, residual;
  int32_t kernel_height, kernel_width, stride, padding, low;
  float factor;
  value out;

  method method;
  void *weights;  /* packed for the method */
  int32_t *bias;  /* (lanes,), with what the method adds to it */
  float *scale;   /* (lanes,) */
  int32_t in_use; /* WINOGRAD: weights are transformed while they are used */
  int32_t run, runs; /* DIRECT, DOTS: a window is `runs` runs of `run` bytes that are adjacent in memory */
} operation;

typedef struct {
  int32_t side, features, count, threads;
  operation *operations;
  int32_t slots;
  size_t *slot_sizes;
  size_t shared; /* bytes of a workspace that all threads of a run use together */
  size_t scratch; /* bytes of a workspace for each thread */
} plan;

typedef struct {
  char *text; /* may be NULL */
  size_t size;
} reason;

/* data.c: reads and checks the data: operations with their shapes. Returns a code of trunk.h and gives the reason. */
int read_data(const uint8_t *data, size_t length, plan *plan, reason reason);
int fail(reason reason, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Where the arrays of a convolution are in the data; read_data has checked them. */
void arrays_of(const uint8_t *data, int32_t operation, const int8_t **weights, const uint8_t **bias, const uint8_t **scale);

/* plan.c: chooses methods, packs weights and lays out memory. plan_free frees what plan_make or read_data allocated. */
int plan_make(const uint8_t *data, size_t length, const edge_trunk_options *options, plan *plan, reason reason);
void plan_free(plan *plan);
void *allocate(size_t bytes); /* 64-byte aligned, with 256 bytes more that kernels may read; for free() */

static inline int32_t round_up(int32_t n, int32_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline int32_t min_of(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t max_of(int32_t a, int32_t b) { return a > b ? a : b; }
static inline ptrdiff_t pixel_offset(const value *v, int32_t y, int32_t x) { return y * v->row + (ptrdiff_t)x * v->lanes; }
/* Bytes from the start of a buffer to the first pixel of the picture in it. */
static inline ptrdiff_t origin_of(const value *v) { return pixel_offset(v, v->before, v->before); }
static inline size_t bytes_of(const value *v) { return (size_t)(v->frame_height * v->row); }

#endif
