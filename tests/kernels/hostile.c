/* Feeds damaged data to the trunk, to be built with AddressSanitizer and UndefinedBehaviorSanitizer: hostile DATA ROUNDS
 *
 * Every truncation of the data, every word of its header and rows replaced by odd numbers, ROUNDS random changes, and every
 * allocation failing once. What edge_trunk_create accepts is also run. Prints how many variants were refused and how many
 * accepted. Exits with 1 at the first refusal without a sentence, or acceptance where that is wrong.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trunk.h"

static long allocations_left = -1; /* -1: as many as wanted */

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
int __real_posix_memalign(void **memory, size_t alignment, size_t bytes);

static int is_refused(void) { return allocations_left >= 0 && allocations_left-- == 0; }

void *__wrap_malloc(size_t bytes) { return is_refused() ? NULL : __real_malloc(bytes); }
void *__wrap_calloc(size_t count, size_t bytes) { return is_refused() ? NULL : __real_calloc(count, bytes); }
int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes) {
  return is_refused() ? 12 : __real_posix_memalign(memory, alignment, bytes);
}

static uint32_t state = 1;
static uint32_t random_word(void) { return state = state * 1664525u + 1013904223u, state >> 8; }

static int refused, accepted;

/* The data in memory of exactly its length, so that a byte too many is noticed. Returns the code of create or of run. */
static int try_data(const uint8_t *data, size_t length) {
  static const edge_trunk_options options = {.threads = 2};
  char error[200] = "";
  uint8_t *exact = __real_malloc(length ? length : 1);
  memcpy(exact, data, length);
  edge_trunk *trunk;
  int code = edge_trunk_create(exact, length, &options, &trunk, error, sizeof error);
  free(exact);
  if ((code == EDGE_TRUNK_OK) != (trunk != NULL) || (code && !*error)) {
    printf("code %d without a trunk or a sentence\n", code);
    exit(1);
  }
  if (code) return refused++, code;
  accepted++;
  size_t side = (size_t)edge_trunk_side(trunk);
  if (side <= 256) {
    uint8_t *pixels = __real_malloc(side * side * 3);
    float *features = __real_malloc((size_t)edge_trunk_features(trunk) * sizeof *features);
    memset(pixels, 200, side * side * 3);
    code = edge_trunk_run(trunk, pixels, features, 2, NULL);
    free(pixels);
    free(features);
  }
  edge_trunk_free(trunk);
  return code;
}

static void expect(int right, const char *what, size_t at) {
  if (right) return;
  printf("%s, at %zu\n", what, at);
  exit(1);
}

int main(int count, char **arguments) {
  if (count != 3) return 64;
  FILE *file = fopen(arguments[1], "rb");
  static uint8_t data[1 << 20], changed[1 << 20];
  size_t length = file ? fread(data, 1, sizeof data, file) : 0;
  expect(try_data(data, length) == EDGE_TRUNK_OK, "the sound data was refused", 0);

  for (size_t n = 0; n < length; n++) expect(try_data(data, n) == EDGE_TRUNK_DAMAGED, "truncated data was accepted", n);
  for (size_t n = 0; n < length; n++) { /* also where the header gives the shorter length */
    memcpy(changed, data, length);
    for (int i = 0; i < 4; i++) changed[8 + i] = (uint8_t)(n >> (8 * i));
    expect(try_data(changed, n) != EDGE_TRUNK_OK, "shortened data was accepted", n);
  }

  static const int32_t odd[] = {0, 1, -1, 2, 3, 7, 64, 127, -128, 128, 4096, 65536, INT32_MAX, INT32_MIN, 0x7fc00000, 0x7f800000};
  size_t words = EDGE_TRUNK_HEADER_WORDS + (size_t)data[16] * EDGE_TRUNK_ROW_WORDS;
  for (size_t w = 0; w < words; w++)
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
      memcpy(changed, data, length);
      memcpy(changed + 4 * w, &odd[i], 4);
      try_data(changed, length);
    }
  for (long round = atol(arguments[2]); round > 0; round--) {
    memcpy(changed, data, length);
    for (uint32_t n = random_word() % 6 + 1; n > 0; n--) {
      uint32_t at = random_word() % (n % 2 ? length : 4 * words);
      changed[at] = random_word() % 2 ? (uint8_t)random_word() : (uint8_t)(changed[at] + 1);
    }
    try_data(changed, length);
  }
  size_t failing = 0;
  for (int code = EDGE_TRUNK_NO_MEMORY; code == EDGE_TRUNK_NO_MEMORY; failing++) {
    allocations_left = (long)failing;
    code = try_data(data, length);
    allocations_left = -1;
    expect(code == EDGE_TRUNK_NO_MEMORY || code == EDGE_TRUNK_OK, "a failed allocation gave another code", failing);
  }
  expect(failing > 5, "too few allocations failed", failing);
  printf("%d refused, %d accepted, %zu allocations\n", refused, accepted, failing - 1);
  return 0;
}
