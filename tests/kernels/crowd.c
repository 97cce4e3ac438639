/* Many threads run one trunk at once: crowd DATA PIXELS METHOD THREADS. Exits with 1 if one gets another result than alone. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "read_file.h"
#include "trunk.h"

enum { AT_ONCE = 6, ROUNDS = 4, MOST = 4096 };

static edge_trunk *trunk;
static uint8_t *pixels;
static size_t picture, pictures;
static float alone[8][MOST];

static void *visitor(void *first) {
  static _Thread_local float features[MOST];
  size_t bytes = (size_t)edge_trunk_features(trunk) * sizeof(float);
  for (size_t i = 0; i < ROUNDS; i++) {
    size_t which = ((size_t)first + i) % pictures;
    if (edge_trunk_run(trunk, pixels + which * picture, features, 1, NULL)) return "a run failed";
    if (memcmp(features, alone[which], bytes)) return "a result differs";
  }
  return NULL;
}

int main(int count, char **arguments) {
  if (count != 4) return 64;
  size_t length, bytes;
  char error[256];
  void *data = read_file(arguments[1], &length);
  pixels = read_file(arguments[2], &bytes);
  edge_trunk_options options = {.method = atoi(arguments[3]), .threads = 4};
  int code = edge_trunk_create(data, length, &options, &trunk, error, sizeof error);
  free(data);
  if (code) return printf("%s\n", error), code;
  picture = (size_t)edge_trunk_side(trunk) * (size_t)edge_trunk_side(trunk) * 3, pictures = bytes / picture;
  for (size_t i = 0; i < pictures; i++)
    if (edge_trunk_run(trunk, pixels + i * picture, alone[i], 1, NULL)) return 1;
  pthread_t threads[AT_ONCE];
  for (size_t i = 0; i < AT_ONCE; i++)
    if (pthread_create(&threads[i], NULL, visitor, (void *)i)) return 70;
  for (size_t i = 0; i < AT_ONCE; i++) {
    void *fault;
    pthread_join(threads[i], &fault);
    if (fault) printf("%s\n", (const char *)fault), code = 1;
  }
  edge_trunk_free(trunk);
  free(pixels);
  return code;
}
