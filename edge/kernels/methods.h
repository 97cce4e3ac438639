/* What every way of computing an operation offers to plan.c, which packs weights, and to trunk.c, which runs it. */
#ifndef EDGE_METHODS_H
#define EDGE_METHODS_H

#include "plan.h"

/* One operation of one run. Pointers to activations are at the first pixel of the picture, inside the frame. */
typedef struct {
  const operation *o;
  const value *in, *residual_shape; /* NULL: the pixels; no residual */
  const int8_t *input, *residual;
  int8_t *output;
  const uint8_t *pixels;  /* (side, side, 3), as given */
  const int8_t *flipped;  /* the same minus 128, and one row of zeros more */
  int32_t side;
  float *features;        /* AVERAGE writes them */
  void *shared;           /* plan.shared bytes */
} job;

/* What a method needs to know of a convolution to pack its weights. */
typedef struct {
  int32_t in_channels, in_lanes, in_zero;
  const int8_t *weights; /* (channels, kernel height, kernel width, in_channels), as in the data */
} filters;

typedef struct {
  /* Sets o->weights, and changes o->bias and o->scale where the method needs it. Returns 0 if there is no memory. */
  int (*pack)(operation *o, const filters *f);
  /* An operation is a number of phases, and a phase a number of tasks that threads take one after another; no task of a
   * phase starts before the phase before has ended. 0 tasks: there is no such phase. */
  int32_t (*tasks)(const job *j, int32_t phase);
  void (*task)(const job *j, int32_t phase, int32_t number, void *scratch);
  /* Adds to what a workspace needs. May be NULL. */
  void (*workspace)(const operation *o, const value *in, size_t *shared, size_t *scratch);
} method_table;

extern const method_table plain_method, direct_method, dots_method, winograd_method, stem_method, pool_method, average_method;

static inline const method_table *table_of(method m) {
#ifdef __aarch64__
  static const method_table *const tables[] = {[PLAIN] = &plain_method, [DIRECT] = &direct_method, [DOTS] = &dots_method,
    [WINOGRAD] = &winograd_method, [STEM] = &stem_method, [POOL] = &pool_method, [AVERAGE] = &average_method};
  return tables[m];
#else
  (void)m;
  return &plain_method;
#endif
}

/* winograd_weights.c: whether Winograd is exact for this convolution, and how many outputs its tiles cover. */
int winograd_fits(const operation *o, const filters *f);
int stem_fits(const operation *o, const filters *f);
int32_t winograd_covers(int32_t outputs);

#endif
