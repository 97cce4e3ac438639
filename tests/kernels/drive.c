/* Runs a trunk on pictures and writes what every operation gave: drive DATA PIXELS METHOD THREADS OUT
 *
 * PIXELS holds pictures one after another. OUT gets, for each picture, the int8 values of all operations without their
 * frames, then the float32 features; with "-" nothing is written, and system call 12345 marks the start of each operation
 * of each picture for a counter. Prints the reason if the data is refused. Exits with the code of trunk.h.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "read_file.h"
#include "run.h"

typedef struct {
  void (*work)(void *);
  void *context;
} share;

static void *run_share(void *data) {
  share *s = data;
  s->work(s->context);
  return NULL;
}

/* What GOMP_parallel does, with threads that end each time. */
static void parallel(void (*work)(void *), void *context, unsigned threads, unsigned flags) {
  share s = {work, context};
  pthread_t others[64];
  (void)flags;
  for (unsigned i = 1; i < threads; i++)
    if (pthread_create(&others[i], NULL, run_share, &s)) exit(70);
  work(context);
  for (unsigned i = 1; i < threads; i++) pthread_join(others[i], NULL);
}

static void mark(void *file, int32_t operation) {
  if (!file) syscall(12345, operation);
}

static void write_picture(void *file, int32_t operation, const value *shape, const int8_t *picture) {
  (void)operation;
  for (int32_t y = 0; file && y < shape->height; y++)
    for (int32_t x = 0; x < shape->width; x++)
      fwrite(picture + pixel_offset(shape, y, x), 1, (size_t)shape->channels, file);
}

int main(int count, char **arguments) {
  if (count != 6) return 64;
  size_t length, bytes;
  char error[256];
  void *data = read_file(arguments[1], &length);
  uint8_t *pixels = read_file(arguments[2], &bytes);
  edge_trunk_options options = {.method = atoi(arguments[3]), .threads = atoi(arguments[4])};
  edge_trunk *trunk;
  int code = edge_trunk_create(data, length, &options, &trunk, error, sizeof error);
  free(data);
  if (code) {
    printf("%s\n", error);
    return code;
  }
  FILE *out = arguments[5][0] == '-' ? NULL : fopen(arguments[5], "wb");
  observer watch = {out, mark, write_picture};
  size_t one = (size_t)edge_trunk_side(trunk) * edge_trunk_side(trunk) * 3, features = (size_t)edge_trunk_features(trunk);
  float *result = malloc(features * sizeof *result);
  for (size_t at = 0; at + one <= bytes && !code; at += one) {
    code = run_observed(trunk, pixels + at, result, options.threads, parallel, &watch);
    if (out) fwrite(result, sizeof *result, features, out);
  }
  if (out && fclose(out)) return 74;
  free(result);
  free(pixels);
  edge_trunk_free(trunk);
  return code;
}
