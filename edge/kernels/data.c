/* Reads the data of a trunk, which comes from a file that anybody may have written: nothing is used before it is checked. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

enum { HEADER_BYTES = 4 * EDGE_TRUNK_HEADER_WORDS, ROW_BYTES = 4 * EDGE_TRUNK_ROW_WORDS };
enum { ROW_KIND, ROW_INPUT, ROW_RESIDUAL, ROW_CHANNELS, ROW_KERNEL_HEIGHT, ROW_KERNEL_WIDTH, ROW_STRIDE, ROW_PADDING,
       ROW_ZERO, ROW_LOW, ROW_WEIGHTS, ROW_BIAS, ROW_SCALE, ROW_FACTOR };

static const int64_t MAX_VALUE_BYTES = (int64_t)1 << 30;

int fail(reason reason, int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  if (reason.text && reason.size) vsnprintf(reason.text, reason.size, format, arguments);
  va_end(arguments);
  return code;
}

/* The data need not be aligned in memory. */
static int32_t word_at(const uint8_t *data, size_t offset) {
  return (int32_t)((uint32_t)data[offset] | (uint32_t)data[offset + 1] << 8 | (uint32_t)data[offset + 2] << 16 |
                   (uint32_t)data[offset + 3] << 24);
}

static float float_at(const uint8_t *data, size_t offset) {
  int32_t bits = word_at(data, offset);
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

static int32_t row_word(const uint8_t *data, int32_t number, int32_t word) {
  return word_at(data, HEADER_BYTES + (size_t)number * ROW_BYTES + 4 * (size_t)word);
}

static int is_scale(float scale) { return scale >= 0x1p-64f && scale <= 0x1p31f; } /* neither is NaN */

void arrays_of(const uint8_t *data, int32_t number, const int8_t **weights, const uint8_t **bias, const uint8_t **scale) {
  *weights = (const int8_t *)data + row_word(data, number, ROW_WEIGHTS);
  *bias = data + row_word(data, number, ROW_BIAS);
  *scale = data + row_word(data, number, ROW_SCALE);
}

/* Whether `bytes` bytes at `offset` lie behind the rows and before the data's end. */
static int lies_inside(const plan *plan, size_t length, int32_t offset, int64_t bytes) {
  int64_t first = HEADER_BYTES + (int64_t)plan->count * ROW_BYTES;
  return offset >= first && offset % 4 == 0 && offset + bytes <= (int64_t)length;
}

static int read_header(const uint8_t *data, size_t length, plan *plan, reason reason) {
  if (length < HEADER_BYTES) return fail(reason, EDGE_TRUNK_DAMAGED, "The trunk's data ends within its header.");
  if (word_at(data, 0) != EDGE_TRUNK_MAGIC) return fail(reason, EDGE_TRUNK_DAMAGED, "This is not the data of a trunk.");
  int32_t version = word_at(data, 4);
  if (version != EDGE_TRUNK_DATA_VERSION)
    return fail(reason, EDGE_TRUNK_UNSUPPORTED, "The trunk's data has version %d, but these kernels read version %d.",
                version, EDGE_TRUNK_DATA_VERSION);
  if (word_at(data, 8) < 0 || (size_t)word_at(data, 8) != length)
    return fail(reason, EDGE_TRUNK_DAMAGED, "The trunk's data has %zu bytes, but its header says %d.", length, word_at(data, 8));
  if (word_at(data, 24) != HEADER_BYTES || word_at(data, 28) != EDGE_TRUNK_ROW_WORDS)
    return fail(reason, EDGE_TRUNK_DAMAGED, "The header of the trunk's data gives another place or size of the rows.");
  plan->side = word_at(data, 12), plan->count = word_at(data, 16), plan->features = word_at(data, 20);
  if (plan->side < 1 || plan->side > MAX_SIDE)
    return fail(reason, EDGE_TRUNK_UNSUPPORTED, "The pixels' side is %d; these kernels serve 1 to %d.", plan->side, MAX_SIDE);
  if (plan->count < 1 || plan->count > MAX_OPERATIONS)
    return fail(reason, EDGE_TRUNK_UNSUPPORTED, "The trunk has %d operations; these kernels serve 1 to %d.", plan->count,
                MAX_OPERATIONS);
  if (length < HEADER_BYTES + (size_t)plan->count * ROW_BYTES)
    return fail(reason, EDGE_TRUNK_DAMAGED, "The trunk's data ends within its %d operations.", plan->count);
  return EDGE_TRUNK_OK;
}

/* Weights, biases and scales: that they are inside the data, and that no sum can leave 32 bits. */
static int check_arrays(const uint8_t *data, size_t length, const plan *plan, int32_t number, int32_t in_channels,
                        int32_t in_zero, reason reason) {
  const operation *o = &plan->operations[number];
  int64_t taps = (int64_t)o->kernel_height * o->kernel_width * in_channels;
  int32_t channels = o->out.channels;
  if (!lies_inside(plan, length, row_word(data, number, ROW_WEIGHTS), taps * channels) ||
      !lies_inside(plan, length, row_word(data, number, ROW_BIAS), 4 * (int64_t)channels) ||
      !lies_inside(plan, length, row_word(data, number, ROW_SCALE), 4 * (int64_t)channels))
    return fail(reason, EDGE_TRUNK_DAMAGED, "The weights of operation %d are not inside the trunk's data.", number);
  const int8_t *weights;
  const uint8_t *bias, *scale;
  arrays_of(data, number, &weights, &bias, &scale);
  for (int32_t c = 0; c < channels; c++, weights += taps) {
    int64_t greatest = word_at(bias, 4 * (size_t)c), least = greatest; /* the input is in_zero - 128 .. in_zero + 127 */
    for (int64_t i = 0; i < taps; i++) {
      if (weights[i] == -128) return fail(reason, EDGE_TRUNK_DAMAGED, "Operation %d has a weight of -128.", number);
      greatest += weights[i] * (weights[i] > 0 ? 127 - in_zero : -128 - in_zero);
      least += weights[i] * (weights[i] > 0 ? -128 - in_zero : 127 - in_zero);
    }
    if (greatest > INT32_MAX || least < -INT32_MAX)
      return fail(reason, EDGE_TRUNK_DAMAGED, "Sums of operation %d, channel %d, do not fit into 32 bits.", number, c);
    if (!is_scale(float_at(scale, 4 * (size_t)c)))
      return fail(reason, EDGE_TRUNK_DAMAGED, "The scale of operation %d, channel %d, is out of range.", number, c);
  }
  return EDGE_TRUNK_OK;
}

static int check_window(const operation *o, int32_t number, reason reason) {
  if (o->kernel_height < 1 || o->kernel_height > MAX_KERNEL || o->kernel_width < 1 || o->kernel_width > MAX_KERNEL ||
      o->stride < 1 || o->stride > MAX_STRIDE)
    return fail(reason, EDGE_TRUNK_UNSUPPORTED, "Operation %d has a window of %d x %d and a stride of %d; these kernels"
                " serve windows up to %d x %d and strides up to %d.", number, o->kernel_height, o->kernel_width, o->stride,
                MAX_KERNEL, MAX_KERNEL, MAX_STRIDE);
  if (o->padding < 0 || o->padding >= min_of(o->kernel_height, o->kernel_width))
    return fail(reason, EDGE_TRUNK_UNSUPPORTED, "Operation %d has a padding of %d, which does not suit its window.", number,
                o->padding);
  return EDGE_TRUNK_OK;
}

static int check_residual(const plan *plan, int32_t number, reason reason) {
  const operation *o = &plan->operations[number];
  if (o->residual == NONE) return EDGE_TRUNK_OK;
  if (o->residual < 0 || o->residual >= number)
    return fail(reason, EDGE_TRUNK_DAMAGED, "Operation %d adds operation %d, which does not precede it.", number, o->residual);
  const value *r = &plan->operations[o->residual].out;
  if (r->height != o->out.height || r->width != o->out.width || r->channels != o->out.channels)
    return fail(reason, EDGE_TRUNK_DAMAGED, "Operation %d adds operation %d, which has another shape.", number, o->residual);
  if (!is_scale(o->factor)) return fail(reason, EDGE_TRUNK_DAMAGED, "The factor of operation %d is out of range.", number);
  return EDGE_TRUNK_OK;
}

static int read_row(const uint8_t *data, size_t length, plan *plan, int32_t number, reason reason) {
  operation *o = &plan->operations[number];
  o->kind = row_word(data, number, ROW_KIND), o->input = row_word(data, number, ROW_INPUT);
  o->residual = row_word(data, number, ROW_RESIDUAL), o->low = row_word(data, number, ROW_LOW);
  o->kernel_height = row_word(data, number, ROW_KERNEL_HEIGHT), o->kernel_width = row_word(data, number, ROW_KERNEL_WIDTH);
  o->stride = row_word(data, number, ROW_STRIDE), o->padding = row_word(data, number, ROW_PADDING);
  o->factor = float_at(data, HEADER_BYTES + (size_t)number * ROW_BYTES + 4 * ROW_FACTOR);
  o->out.channels = row_word(data, number, ROW_CHANNELS), o->out.zero = row_word(data, number, ROW_ZERO);
  int last = number == plan->count - 1, conv = o->kind == EDGE_TRUNK_CONV;
  if (!conv && o->kind != EDGE_TRUNK_MAX_POOL && o->kind != EDGE_TRUNK_AVERAGE)
    return fail(reason, EDGE_TRUNK_UNSUPPORTED, "Operation %d is of kind %d, which these kernels do not know.", number, o->kind);
  if ((o->kind == EDGE_TRUNK_AVERAGE) != last)
    return fail(reason, EDGE_TRUNK_DAMAGED, "The last operation of a trunk, and only that, must be the average.");
  if (o->input < PIXELS || o->input >= number || (o->input == PIXELS && !conv))
    return fail(reason, EDGE_TRUNK_DAMAGED, "Operation %d takes operation %d, which it cannot.", number, o->input);
  if (o->residual != NONE && !conv)
    return fail(reason, EDGE_TRUNK_DAMAGED, "Operation %d adds operation %d, but is no convolution.", number, o->residual);
  const value pixels = {.height = plan->side, .width = plan->side, .channels = 3, .zero = -128};
  const value *in = o->input == PIXELS ? &pixels : &plan->operations[o->input].out;
  if (o->kind == EDGE_TRUNK_AVERAGE) {
    o->out = (value){.height = 1, .width = 1, .channels = in->channels};
    if (in->channels != plan->features || !is_scale(o->factor))
      return fail(reason, EDGE_TRUNK_DAMAGED, "The average has %d channels and a factor of %g, for %d features.", in->channels,
                  (double)o->factor, plan->features);
    return EDGE_TRUNK_OK;
  }
  int code = check_window(o, number, reason);
  if (code) return code;
  if (o->input == PIXELS && o->padding)
    return fail(reason, EDGE_TRUNK_DAMAGED, "Operation %d pads the pixels, whose border is in their buffer.", number);
  int32_t height = in->height + 2 * o->padding - o->kernel_height, width = in->width + 2 * o->padding - o->kernel_width;
  if (height < 0 || width < 0)
    return fail(reason, EDGE_TRUNK_DAMAGED, "The window of operation %d is larger than its input.", number);
  o->out.height = height / o->stride + 1, o->out.width = width / o->stride + 1;
  if (!conv) {
    o->out.channels = in->channels, o->out.zero = in->zero;
  } else {
    if (o->out.channels < 1 || o->out.channels > MAX_CHANNELS)
      return fail(reason, EDGE_TRUNK_UNSUPPORTED, "Operation %d has %d channels; these kernels serve 1 to %d.", number,
                  o->out.channels, MAX_CHANNELS);
    if (o->out.zero < -128 || o->out.zero > 127 || o->low < -128 || o->low > 127)
      return fail(reason, EDGE_TRUNK_DAMAGED, "The zero point or least value of operation %d is not an int8.", number);
  }
  o->out.lanes = round_up(o->out.channels, LANES);
  if ((code = check_residual(plan, number, reason))) return code;
  return conv ? check_arrays(data, length, plan, number, in->channels, in->zero, reason) : EDGE_TRUNK_OK;
}

int read_data(const uint8_t *data, size_t length, plan *plan, reason reason) {
  int code = read_header(data, length, plan, reason);
  if (code) return code;
  plan->operations = calloc((size_t)plan->count, sizeof *plan->operations);
  if (!plan->operations) return fail(reason, EDGE_TRUNK_NO_MEMORY, "There is no memory for the trunk's operations.");
  int64_t bytes = 0;
  for (int32_t n = 0; n < plan->count; n++) {
    if ((code = read_row(data, length, plan, n, reason))) return code;
    const value *out = &plan->operations[n].out; /* 16: the most that a frame adds to a side */
    bytes += (int64_t)(out->height + 16) * (out->width + 16) * out->lanes;
    if (bytes > MAX_VALUE_BYTES)
      return fail(reason, EDGE_TRUNK_UNSUPPORTED, "The values of this trunk need more than a gigabyte.");
  }
  return EDGE_TRUNK_OK;
}
