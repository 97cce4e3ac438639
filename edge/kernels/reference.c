/* Every operation in plain C, without vectors, frames or tricks: what all other methods must equal bit for bit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods.h"

static int pack(operation *o, const filters *f) {
  size_t bytes = (size_t)o->out.channels * o->kernel_height * o->kernel_width * f->in_channels;
  o->weights = allocate(bytes);
  if (o->weights) memcpy(o->weights, f->weights, bytes);
  return o->weights != NULL;
}

static int64_t sum_of(const job *j, int32_t y, int32_t x, int32_t channel) {
  const operation *o = j->o;
  int32_t height = j->in ? j->in->height : j->side, width = j->in ? j->in->width : j->side;
  int32_t channels = j->in ? j->in->channels : 3;
  const int8_t *weight = (const int8_t *)o->weights + (size_t)channel * o->kernel_height * o->kernel_width * channels;
  int64_t sum = o->bias[channel];
  for (int32_t ky = 0; ky < o->kernel_height; ky++)
    for (int32_t kx = 0; kx < o->kernel_width; kx++, weight += channels) {
      int32_t iy = y * o->stride + ky - o->padding, ix = x * o->stride + kx - o->padding, part = 0;
      if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
      if (j->in) {
        const int8_t *pixel = j->input + pixel_offset(j->in, iy, ix);
        for (int32_t c = 0; c < channels; c++) part += (pixel[c] - j->in->zero) * weight[c];
      } else {
        const uint8_t *pixel = j->pixels + ((size_t)iy * width + ix) * 3;
        for (int32_t c = 0; c < channels; c++) part += pixel[c] * weight[c];
      }
      sum += part;
    }
  return sum;
}

static void convolution(const job *j, int32_t y) {
  const operation *o = j->o;
  for (int32_t x = 0; x < o->out.width; x++)
    for (int32_t c = 0; c < o->out.channels; c++) {
      float result = (float)(int32_t)sum_of(j, y, x, c) * o->scale[c];
      if (j->residual) {
        int32_t other = j->residual[pixel_offset(j->residual_shape, y, x) + c] - j->residual_shape->zero;
        float addend = (float)other * o->factor;
        result = result + addend;
      }
      float nearest = rintf(result) + (float)o->out.zero; /* beyond 2^24 it is not exact, but clamped anyway */
      if (nearest > 127) nearest = 127;
      if (nearest < (float)o->low) nearest = (float)o->low;
      j->output[pixel_offset(&o->out, y, x) + c] = (int8_t)nearest;
    }
}

static void max_pool(const job *j, int32_t y) {
  const operation *o = j->o;
  for (int32_t x = 0; x < o->out.width; x++)
    for (int32_t c = 0; c < o->out.channels; c++) {
      int8_t greatest = -128;
      for (int32_t ky = 0; ky < o->kernel_height; ky++)
        for (int32_t kx = 0; kx < o->kernel_width; kx++) {
          int32_t iy = y * o->stride + ky - o->padding, ix = x * o->stride + kx - o->padding;
          if (iy < 0 || iy >= j->in->height || ix < 0 || ix >= j->in->width) continue;
          int8_t here = j->input[pixel_offset(j->in, iy, ix) + c];
          if (here > greatest) greatest = here;
        }
      j->output[pixel_offset(&o->out, y, x) + c] = greatest;
    }
}

static void average(const job *j) {
  for (int32_t c = 0; c < j->in->channels; c++) {
    int32_t sum = 0;
    for (int32_t y = 0; y < j->in->height; y++)
      for (int32_t x = 0; x < j->in->width; x++) sum += j->input[pixel_offset(j->in, y, x) + c] - j->in->zero;
    j->features[c] = (float)sum * j->o->factor;
  }
}

static int32_t tasks(const job *j, int32_t phase) { return phase ? 0 : j->o->out.height; }

static void task(const job *j, int32_t phase, int32_t number, void *scratch) {
  (void)phase, (void)scratch;
  if (j->o->kind == EDGE_TRUNK_CONV) convolution(j, number);
  else if (j->o->kind == EDGE_TRUNK_MAX_POOL) max_pool(j, number);
  else average(j);
}

const method_table plain_method = {.pack = pack, .tasks = tasks, .task = task};
