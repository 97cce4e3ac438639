/* From checked data to something that can run: a method for each operation, packed weights, and the layout of memory. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "methods.h"

#ifdef __aarch64__
#include <sys/auxv.h>
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1 << 20)
#endif
static int has_dots(void) { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
enum { HAS_KERNELS = 1 };
#else
static int has_dots(void) { return 0; }
enum { HAS_KERNELS = 0 };
#endif

/* Weights transformed for Winograd are eight times as large as int8, and a run reads them once. A layer whose transformed
 * weights are larger than this keeps them as int8 and transforms them while it uses them, at 1.4 instructions a weight. For
 * ResNet-18 that is 26 MB of memory traffic a run instead of 88, and 9 % more instructions (counted in emulation). */
static const size_t MOST_TRANSFORMED_BYTES = (size_t)3 << 20;
/* With smaller outputs the tiles of Winograd hold more products than the convolution. */
enum { LEAST_FOR_WINOGRAD = 3 };
enum { SLACK = 256 };

void *allocate(size_t bytes) {
  void *memory = NULL;
  return posix_memalign(&memory, 64, bytes + SLACK) ? NULL : memory;
}

const char *edge_trunk_instructions(void) {
  return !HAS_KERNELS ? "plain C" : has_dots() ? "ARM64 with dot product" : "ARM64";
}

static int check_options(const edge_trunk_options *options, reason reason) {
  int32_t wanted = options->method;
  if (options->threads < 1 || options->threads > MAX_THREADS)
    return fail(reason, EDGE_TRUNK_BAD_CALL, "A trunk runs in 1 to %d threads, not %d.", MAX_THREADS, options->threads);
  if (wanted < EDGE_TRUNK_AUTO || wanted > EDGE_TRUNK_DOTS)
    return fail(reason, EDGE_TRUNK_BAD_CALL, "There is no method %d.", wanted);
  if (wanted > EDGE_TRUNK_PLAIN && !HAS_KERNELS)
    return fail(reason, EDGE_TRUNK_BAD_CALL, "Method %d needs an ARM64 processor.", wanted);
  if (wanted == EDGE_TRUNK_DOTS && !has_dots())
    return fail(reason, EDGE_TRUNK_BAD_CALL, "Method %d needs a processor with dot product.", wanted);
  return EDGE_TRUNK_OK;
}

static method method_of(const operation *o, const filters *f, int32_t wanted) {
  if (!HAS_KERNELS || wanted == EDGE_TRUNK_PLAIN) return PLAIN;
  if (o->kind == EDGE_TRUNK_MAX_POOL) return POOL;
  if (o->kind == EDGE_TRUNK_AVERAGE) return AVERAGE;
  if (wanted == EDGE_TRUNK_DOTS || (wanted == EDGE_TRUNK_AUTO && has_dots())) return DOTS;
  if (wanted == EDGE_TRUNK_DIRECT) return DIRECT;
  if (o->input == PIXELS) return stem_fits(o, f) ? STEM : DIRECT;
  if (!winograd_fits(o, f)) return DIRECT;
  int small = min_of(o->out.height, o->out.width) < LEAST_FOR_WINOGRAD;
  return wanted == EDGE_TRUNK_AUTO && small ? DIRECT : WINOGRAD;
}

/* Copies the biases and scales, which get those of the lanes that fill up the last group: they give the zero point. */
static int copy_scales(operation *o, const uint8_t *bias, const uint8_t *scale) {
  o->bias = allocate(4 * (size_t)o->out.lanes), o->scale = allocate(4 * (size_t)o->out.lanes);
  if (!o->bias || !o->scale) return 0;
  memcpy(o->bias, bias, 4 * (size_t)o->out.channels);
  memcpy(o->scale, scale, 4 * (size_t)o->out.channels);
  for (int32_t c = o->out.channels; c < o->out.lanes; c++) o->bias[c] = 0, o->scale[c] = 1;
  return 1;
}

static int prepare(const uint8_t *data, plan *plan, int32_t number, int32_t wanted) {
  operation *o = &plan->operations[number];
  filters f = {.in_channels = 3, .in_lanes = 3, .in_zero = -128};
  if (o->input != PIXELS) {
    const value *in = &plan->operations[o->input].out;
    f = (filters){.in_channels = in->channels, .in_lanes = in->lanes, .in_zero = in->zero};
  }
  if (o->kind != EDGE_TRUNK_CONV) {
    o->method = method_of(o, &f, wanted);
    return 1;
  }
  const uint8_t *bias, *scale;
  arrays_of(data, number, &f.weights, &bias, &scale);
  if (!copy_scales(o, bias, scale)) return 0;
  o->method = method_of(o, &f, wanted);
  if (o->method == WINOGRAD) {
    size_t transformed = (size_t)36 * 2 * f.in_lanes * o->out.lanes;
    o->in_use = wanted == EDGE_TRUNK_WINOGRAD_IN_USE || (wanted == EDGE_TRUNK_AUTO && transformed > MOST_TRANSFORMED_BYTES);
  }
  return table_of(o->method)->pack(o, &f);
}

/* The frame of a value has to hold what the operations that take it read. */
static void lay_frame(plan *plan, int32_t number) {
  value *v = &plan->operations[number].out;
  int32_t after_height = 0, after_width = 0;
  for (int32_t n = number + 1; n < plan->count; n++) {
    const operation *o = &plan->operations[n];
    if (o->input != number || o->kind != EDGE_TRUNK_CONV) continue;
    int32_t height = o->out.height, width = o->out.width;
    if (o->method == WINOGRAD) height = winograd_covers(height), width = winograd_covers(width);
    v->before = max_of(v->before, o->padding);
    after_height = max_of(after_height, (height - 1) * o->stride + o->kernel_height - o->padding - v->height);
    after_width = max_of(after_width, (width - 1) * o->stride + o->kernel_width - o->padding - v->width);
  }
  v->frame_height = v->before + v->height + after_height;
  v->frame_width = v->before + v->width + after_width;
  v->row = (ptrdiff_t)v->frame_width * v->lanes;
}

static int32_t last_use(const plan *plan, int32_t number) {
  int32_t last = number;
  for (int32_t n = number + 1; n < plan->count; n++)
    if (plan->operations[n].input == number || plan->operations[n].residual == number) last = n;
  return last;
}

/* Values that are not needed at the same time share a buffer. A value takes the free buffer that has to grow least. */
static int assign_slots(plan *plan) {
  plan->slot_sizes = calloc((size_t)plan->count, sizeof *plan->slot_sizes);
  int32_t *busy_until = calloc((size_t)plan->count, sizeof *busy_until);
  int ok = plan->slot_sizes && busy_until;
  for (int32_t n = 0; ok && n < plan->count - 1; n++) { /* the average has no buffer */
    value *v = &plan->operations[n].out;
    size_t bytes = bytes_of(v), least = SIZE_MAX;
    v->slot = plan->slots;
    for (int32_t s = 0; s < plan->slots; s++) {
      size_t growth = bytes > plan->slot_sizes[s] ? bytes - plan->slot_sizes[s] : 0;
      if (busy_until[s] < n && growth < least) least = growth, v->slot = s;
    }
    if (v->slot == plan->slots) plan->slots++;
    if (bytes > plan->slot_sizes[v->slot]) plan->slot_sizes[v->slot] = bytes;
    busy_until[v->slot] = last_use(plan, n);
  }
  free(busy_until);
  return ok;
}

int plan_make(const uint8_t *data, size_t length, const edge_trunk_options *options, plan *plan, reason reason) {
  memset(plan, 0, sizeof *plan);
  int code = check_options(options, reason);
  if (!code) code = read_data(data, length, plan, reason);
  if (code) return code;
  plan->threads = options->threads;
  for (int32_t n = 0; n < plan->count; n++)
    if (!prepare(data, plan, n, options->method)) return fail(reason, EDGE_TRUNK_NO_MEMORY, "There is no memory for the weights.");
  for (int32_t n = 0; n < plan->count; n++) {
    const operation *o = &plan->operations[n];
    lay_frame(plan, n);
    void (*workspace)(const operation *, const value *, size_t *, size_t *) = table_of(o->method)->workspace;
    if (workspace) workspace(o, o->input == PIXELS ? NULL : &plan->operations[o->input].out, &plan->shared, &plan->scratch);
  }
  return assign_slots(plan) ? EDGE_TRUNK_OK : fail(reason, EDGE_TRUNK_NO_MEMORY, "There is no memory for the trunk's plan.");
}

void plan_free(plan *plan) {
  for (int32_t n = 0; plan->operations && n < plan->count; n++)
    free(plan->operations[n].weights), free(plan->operations[n].bias), free(plan->operations[n].scale);
  free(plan->operations);
  free(plan->slot_sizes);
}
