/* The trunk of an INT8 network as one call: raw pixels in, pooled features out. Plain C ABI, no dependency but libc.
 *
 * On ARM64 it runs on kernels of its own, with SDOT where the processor has it and without it elsewhere. On any other
 * processor it runs in plain C, slowly: there it exists for tests. All ways give the same bits.
 *
 * Build: cc -O2 -ffp-contract=off -fvisibility=hidden -fPIC -shared -o libedge_kernels.so *.c *.S
 * -ffp-contract=off is part of the result: a fused multiply-add rounds once where two instructions round twice.
 *
 * The data (little-endian; every offset counts bytes from the start of the data and is a multiple of 4)
 *
 *   int32 word   0  EDGE_TRUNK_MAGIC
 *                1  EDGE_TRUNK_DATA_VERSION
 *                2  length of the data in bytes
 *                3  side of the pixel buffer, its border included
 *                4  number of operations
 *                5  number of features: the channels of the last operation, which is the average
 *                6  offset of the first operation's row: 32
 *                7  words of a row: EDGE_TRUNK_ROW_WORDS
 *   then one row of 16 int32 words for each operation, then weights, biases and scales anywhere behind the rows:
 *
 *   word of a row        convolution                                 max pool        average (the last operation only)
 *    0  kind             EDGE_TRUNK_CONV                             ..._MAX_POOL    ..._AVERAGE
 *    1  input            number of an earlier operation, or -1: the pixels
 *    2  residual         number of an earlier operation, or -1       -1              -1
 *    3  channels         of its output                               0               0
 *    4  kernel height                                                size            0
 *    5  kernel width                                                 size            0
 *    6  stride                                                       stride          0
 *    7  padding          on each of the four sides                   padding         0
 *    8  zero point       of its output, -128..127                    0               0
 *    9  low              least value of its output: the zero point   0               0
 *                        with ReLU, -128 without
 *   10  weights          offset: int8 (channels, kernel height,      0               0
 *                        kernel width, input channels), -127..127
 *   11  biases           offset: int32 (channels,)                   0               0
 *   12  scales           offset: float32 (channels,)                 0               0
 *   13  factor           float32 bits: of the residual               0               float32 bits
 *   14, 15               0
 *
 * Operations have the numbers 0, 1, ... in order. The result of one is an int8 value (height, width, channels), but that
 * of the average, float32 (features,). A max pool keeps the zero point of its input. With S = the sum of
 * (input - its zero point) * weight over the window, padding being the zero point:
 *
 *   convolution   clamp(round(float(S + bias) * scale + float(residual - its zero point) * factor) + zero point, low, 127)
 *                 so scale = input scale * weight scale / output scale, and factor = residual's scale / output scale
 *   average       float(sum of (input - its zero point)) * factor: so factor = input scale / (height * width)
 *
 * in float32, each operation rounded, `round` to the nearest, ties to even. The pixels are uint8 (side, side, 3) with the
 * zero point 0. A convolution of the pixels has no padding: the border is part of the buffer.
 *
 * Limits: |S + bias| < 2^31 for any input; scales and factors within 2^-64 to 2^31; channels up to 4096, sides up to 2048,
 * kernels up to 7 x 7, strides up to 4, padding less than the kernel, 1 to 512 operations, 1 GiB of values.
 */
#ifndef EDGE_TRUNK_H
#define EDGE_TRUNK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EDGE_TRUNK_PUBLIC __attribute__((visibility("default")))

enum {
  EDGE_TRUNK_MAGIC = 0x4B525445, /* "ETRK" in memory */
  EDGE_TRUNK_DATA_VERSION = 1,
  EDGE_TRUNK_ABI_VERSION = 1,
  EDGE_TRUNK_HEADER_WORDS = 8,
  EDGE_TRUNK_ROW_WORDS = 16
};

enum { EDGE_TRUNK_CONV = 1, EDGE_TRUNK_MAX_POOL = 2, EDGE_TRUNK_AVERAGE = 3 };

/* What a function returns. */
enum {
  EDGE_TRUNK_OK = 0,
  EDGE_TRUNK_DAMAGED = 1,     /* the data contradicts itself: truncated, or written wrongly */
  EDGE_TRUNK_UNSUPPORTED = 2, /* sound data that these kernels do not serve; use another engine */
  EDGE_TRUNK_NO_MEMORY = 3,
  EDGE_TRUNK_BAD_CALL = 4 /* an argument is NULL or out of range */
};

/* How the convolutions are computed. The result does not depend on it. */
enum {
  EDGE_TRUNK_AUTO = 0,           /* what suits this processor */
  EDGE_TRUNK_PLAIN = 1,          /* plain C, the reference; all that there is on other processors than ARM64 */
  EDGE_TRUNK_DIRECT = 2,         /* ARM64 without SDOT: every convolution directly */
  EDGE_TRUNK_WINOGRAD_LOADED = 3, /* ... 3 x 3 and a first 7 x 7 by Winograd, weights transformed by _create */
  EDGE_TRUNK_WINOGRAD_IN_USE = 4, /* ... the same, weights of 3 x 3 transformed by each edge_trunk_run */
  EDGE_TRUNK_DOTS = 5             /* ARM64 with SDOT */
};

typedef struct {
  int32_t threads; /* the most that a run may use, 1 to 64 */
  int32_t method;  /* EDGE_TRUNK_AUTO, or for tests and measurements another */
} edge_trunk_options;

typedef struct edge_trunk edge_trunk;

/* GOMP_parallel of libgomp, or a function like it: calls work(context) in up to `threads` threads at once, one of which
 * may be the caller's, and returns when all have returned. Fewer threads than asked for are enough. */
typedef void edge_trunk_parallel(void (*work)(void *context), void *context, unsigned threads, unsigned flags);

/* Check the data and prepare it. The data is copied: the caller may release it afterwards.
 * On success *trunk is a handle for edge_trunk_free. Otherwise *trunk is NULL, and `error`, of `error_size` bytes, holds a
 * sentence with the reason (error may be NULL). */
EDGE_TRUNK_PUBLIC int edge_trunk_create(const void *data, size_t length, const edge_trunk_options *options,
                                        edge_trunk **trunk, char *error, size_t error_size);

/* Run it: `pixels` uint8 (side, side, 3) in, `features` float32 (features,) out. With `parallel` NULL, or threads 1, all
 * is done in the calling thread. Several threads may run one handle at once; each run that is in progress has a workspace
 * of its own, which the handle keeps for the next. Returns EDGE_TRUNK_OK, EDGE_TRUNK_NO_MEMORY or EDGE_TRUNK_BAD_CALL. */
EDGE_TRUNK_PUBLIC int edge_trunk_run(edge_trunk *trunk, const uint8_t *pixels, float *features, int32_t threads,
                                     edge_trunk_parallel *parallel);

/* Free it and its workspaces. No run may be in progress. NULL is allowed. */
EDGE_TRUNK_PUBLIC void edge_trunk_free(edge_trunk *trunk);

EDGE_TRUNK_PUBLIC int32_t edge_trunk_side(const edge_trunk *trunk);     /* of the pixel buffer */
EDGE_TRUNK_PUBLIC int32_t edge_trunk_features(const edge_trunk *trunk); /* how many a run gives */

/* Which instructions AUTO uses on this processor: "plain C", "ARM64" or "ARM64 with dot product". */
EDGE_TRUNK_PUBLIC const char *edge_trunk_instructions(void);

/* EDGE_TRUNK_ABI_VERSION of the library that was loaded. */
EDGE_TRUNK_PUBLIC int32_t edge_trunk_version(void);

#ifdef __cplusplus
}
#endif
#endif
