/* The public functions, and how a run goes through the plan: one operation after another, each cut into tasks. */
#include "trunk.h"

#include <stdlib.h>
#include <string.h>

#include "run.h"

enum { WORKSPACES = 64 }; /* kept for later runs; as many as may run at once without new allocations */

struct edge_trunk {
  plan plan;
  uint8_t *idle[WORKSPACES]; /* each taken and given back by an atomic exchange */
};

static size_t aligned(size_t bytes) { return (bytes + 127) / 64 * 64; } /* with room that kernels may read beyond */
static size_t pixel_bytes(const plan *plan) { return (size_t)plan->side * (size_t)plan->side * 3; }
/* STEM reads one row more. */
static size_t flipped_bytes(const plan *plan) { return aligned(pixel_bytes(plan) + (size_t)plan->side * 3); }

/* A workspace: the slots, the pixels, what threads share, and scratch memory for each thread. */
static size_t workspace_bytes(const plan *plan) {
  size_t bytes = flipped_bytes(plan) + aligned(plan->shared) + (size_t)plan->threads * aligned(plan->scratch);
  for (int32_t s = 0; s < plan->slots; s++) bytes += aligned(plan->slot_sizes[s]);
  return bytes;
}

static uint8_t *workspace_take(edge_trunk *trunk) {
  for (int i = 0; i < WORKSPACES; i++) {
    uint8_t *workspace = __atomic_exchange_n(&trunk->idle[i], NULL, __ATOMIC_ACQUIRE);
    if (workspace) return workspace;
  }
  return allocate(workspace_bytes(&trunk->plan));
}

static void workspace_give(edge_trunk *trunk, uint8_t *workspace) {
  for (int i = 0; i < WORKSPACES; i++) {
    uint8_t *none = NULL;
    if (__atomic_compare_exchange_n(&trunk->idle[i], &none, workspace, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) return;
  }
  free(workspace);
}

/* The tasks of one phase, which threads take one after another. */
typedef struct {
  const job *job;
  const method_table *method;
  int32_t phase, tasks;
  int32_t next_task, next_thread; /* atomic */
  int32_t threads;                /* for which there is scratch memory */
  uint8_t *scratch;
  size_t scratch_bytes;
} team;

static void work(void *context) {
  team *team = context;
  int32_t thread = __atomic_fetch_add(&team->next_thread, 1, __ATOMIC_RELAXED), number;
  if (thread >= team->threads) return;
  uint8_t *scratch = team->scratch + team->scratch_bytes * (size_t)thread;
  while ((number = __atomic_fetch_add(&team->next_task, 1, __ATOMIC_RELAXED)) < team->tasks)
    team->method->task(team->job, team->phase, number, scratch);
}

/* Sets the frame around a picture to its zero point. */
static void paint_frame(const value *v, uint8_t *buffer) {
  ptrdiff_t left = (ptrdiff_t)v->before * v->lanes, right = left + (ptrdiff_t)v->width * v->lanes;
  int32_t below = v->before + v->height;
  memset(buffer, v->zero, (size_t)(v->before * v->row));
  for (int32_t y = v->before; y < below; y++) {
    memset(buffer + y * v->row, v->zero, (size_t)left);
    memset(buffer + y * v->row + right, v->zero, (size_t)(v->row - right));
  }
  memset(buffer + below * v->row, v->zero, (size_t)((v->frame_height - below) * v->row));
}

/* Pixels minus 128 as int8: each with its highest bit inverted. */
static void flip(const uint8_t *pixels, uint8_t *to, size_t bytes) {
  size_t at = 0;
  for (; at + 32 <= bytes; at += 32) {
    uint64_t eight[4];
    memcpy(eight, pixels + at, sizeof eight);
    for (int i = 0; i < 4; i++) eight[i] ^= 0x8080808080808080u;
    memcpy(to + at, eight, sizeof eight);
  }
  for (; at < bytes; at++) to[at] = pixels[at] ^ 128;
}

static void run_in(const plan *plan, uint8_t *workspace, const uint8_t *pixels, float *features, int32_t threads,
            edge_trunk_parallel *parallel, const observer *observer) {
  uint8_t *slots[MAX_OPERATIONS], *next = workspace;
  for (int32_t s = 0; s < plan->slots; s++) slots[s] = next, next += aligned(plan->slot_sizes[s]);
  uint8_t *flipped = next, *shared = flipped + flipped_bytes(plan);
  job j = {.pixels = pixels, .flipped = (int8_t *)flipped, .side = plan->side, .features = features, .shared = shared};
  flip(pixels, flipped, pixel_bytes(plan));
  memset(flipped + pixel_bytes(plan), 0, (size_t)plan->side * 3);
  for (int32_t n = 0; n < plan->count; n++) {
    const operation *o = j.o = &plan->operations[n];
    if (observer) observer->before(observer->context, n);
    j.in = o->input == PIXELS ? NULL : &plan->operations[o->input].out;
    j.input = j.in ? (int8_t *)slots[j.in->slot] + origin_of(j.in) : NULL;
    j.residual_shape = o->residual == NONE ? NULL : &plan->operations[o->residual].out;
    j.residual = j.residual_shape ? (int8_t *)slots[j.residual_shape->slot] + origin_of(j.residual_shape) : NULL;
    if (o->kind != EDGE_TRUNK_AVERAGE) {
      paint_frame(&o->out, slots[o->out.slot]);
      j.output = (int8_t *)slots[o->out.slot] + origin_of(&o->out);
    }
    team c = {.job = &j, .method = table_of(o->method), .threads = threads,
              .scratch = shared + aligned(plan->shared), .scratch_bytes = aligned(plan->scratch)};
    for (c.phase = 0; (c.tasks = c.method->tasks(&j, c.phase)) > 0; c.phase++) {
      c.next_task = c.next_thread = 0;
      if (parallel && threads > 1 && c.tasks > 1) parallel(work, &c, (unsigned)threads, 0);
      else work(&c);
    }
    if (observer && o->kind != EDGE_TRUNK_AVERAGE) observer->after(observer->context, n, &o->out, j.output);
  }
  if (observer) observer->before(observer->context, plan->count);
}

int edge_trunk_create(const void *data, size_t length, const edge_trunk_options *options, edge_trunk **trunk, char *error,
                      size_t error_size) {
  reason reason = {error, error_size};
  if (error && error_size) error[0] = 0;
  if (!trunk) return fail(reason, EDGE_TRUNK_BAD_CALL, "There is no place for the trunk.");
  *trunk = NULL;
  if (!data || !options) return fail(reason, EDGE_TRUNK_BAD_CALL, "There is no data, or there are no options.");
  edge_trunk *made = calloc(1, sizeof *made);
  if (!made) return fail(reason, EDGE_TRUNK_NO_MEMORY, "There is no memory for the trunk.");
  int code = plan_make(data, length, options, &made->plan, reason);
  if (code == EDGE_TRUNK_OK) *trunk = made;
  else edge_trunk_free(made);
  return code;
}

int edge_trunk_run(edge_trunk *trunk, const uint8_t *pixels, float *features, int32_t threads, edge_trunk_parallel *parallel) {
  return run_observed(trunk, pixels, features, threads, parallel, NULL);
}

int run_observed(edge_trunk *trunk, const uint8_t *pixels, float *features, int32_t threads, edge_trunk_parallel *parallel,
                 const observer *observer) {
  if (!trunk || !pixels || !features || threads < 1) return EDGE_TRUNK_BAD_CALL;
  uint8_t *workspace = workspace_take(trunk);
  if (!workspace) return EDGE_TRUNK_NO_MEMORY;
  run_in(&trunk->plan, workspace, pixels, features, min_of(threads, trunk->plan.threads), parallel, observer);
  workspace_give(trunk, workspace);
  return EDGE_TRUNK_OK;
}

void edge_trunk_free(edge_trunk *trunk) {
  if (!trunk) return;
  for (int i = 0; i < WORKSPACES; i++) free(trunk->idle[i]);
  plan_free(&trunk->plan);
  free(trunk);
}

int32_t edge_trunk_side(const edge_trunk *trunk) { return trunk->plan.side; }
int32_t edge_trunk_features(const edge_trunk *trunk) { return trunk->plan.features; }
int32_t edge_trunk_version(void) { return EDGE_TRUNK_ABI_VERSION; }
