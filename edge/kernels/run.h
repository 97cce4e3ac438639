/* A run that can be watched, for tests and measurements: what each operation gave, and when it began. */
#ifndef EDGE_RUN_H
#define EDGE_RUN_H

#include "methods.h"

typedef struct {
  void *context;
  void (*before)(void *context, int32_t operation); /* the number of operations at the end */
  void (*after)(void *context, int32_t operation, const value *shape, const int8_t *picture);
} observer;

int run_observed(edge_trunk *trunk, const uint8_t *pixels, float *features, int32_t threads, edge_trunk_parallel *parallel,
                 const observer *observer);

#endif
