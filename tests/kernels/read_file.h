/* Reads a whole file into memory; ends the program with EX_NOINPUT if it cannot. */
#include <stdio.h>
#include <stdlib.h>

static void *read_file(const char *name, size_t *length) {
  FILE *file = fopen(name, "rb");
  if (!file || fseek(file, 0, SEEK_END)) exit(66);
  *length = (size_t)ftell(file);
  rewind(file);
  void *bytes = malloc(*length + 1);
  if (!bytes || fread(bytes, 1, *length, file) != *length) exit(66);
  fclose(file);
  return bytes;
}
