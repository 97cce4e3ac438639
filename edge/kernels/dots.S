/* Convolution with dot product: 6 or 5 pixels x 16 channels.
 *
 * void edge_dots_6x16(const int8_t *const x[6], const int8_t *weights, int32_t *sums, long chunks, long runs, long step,
 *                     const int32_t *bias, long tail)
 *
 * A pixel's window is `runs` runs of 16 * chunks bytes; after each run its pointer moves on by `step` bytes. After the last
 * run come `tail` times 4 bytes more. The weights hold, for each 4 bytes of the window, 4 bytes of each of the 16 channels.
 * sums: of each pixel the 16 channels, with their biases. 24 accumulators, 6 registers of pixels and 2 of weights: with 96
 * SDOT for 14 loads no other tile of 32 registers loads less.
 */
#include "assembly.h"
#ifdef __aarch64__

// sdot v\d.4s, v\w.16b, v\x.4b[\lane], as a number, because clang 14 does not take the instruction without an option.
.macro SDOT d, w, x, lane
    .inst 0x4f80e000 | (\lane & 1) << 21 | \x << 16 | (\lane >> 1) << 11 | \w << 5 | \d
.endm
// Channels 4 h to 4 h + 3 of pixel i: v(8 + 6 h + i), for 6 pixels and for 5.
.macro DOTS4 pixels, w, lane, a0, a1, a2, a3, a4, a5
    SDOT \a0, \w, 0, \lane
    SDOT \a1, \w, 1, \lane
    SDOT \a2, \w, 2, \lane
    SDOT \a3, \w, 3, \lane
    SDOT \a4, \w, 4, \lane
    .if \pixels == 6
    SDOT \a5, \w, 5, \lane
    .endif
.endm
.macro DOTS16 pixels, lane
    ldp q6, q7, [x1], #32
    DOTS4 \pixels, 6, \lane, 8, 9, 10, 11, 12, 13
    DOTS4 \pixels, 7, \lane, 14, 15, 16, 17, 18, 19
    ldp q6, q7, [x1], #32
    DOTS4 \pixels, 6, \lane, 20, 21, 22, 23, 24, 25
    DOTS4 \pixels, 7, \lane, 26, 27, 28, 29, 30, 31
.endm
.macro BIAS q, a0, a1, a2, a3, a4, a5
    mov v\a0\().16b, v\q\().16b
    mov v\a1\().16b, v\q\().16b
    mov v\a2\().16b, v\q\().16b
    mov v\a3\().16b, v\q\().16b
    mov v\a4\().16b, v\q\().16b
    mov v\a5\().16b, v\q\().16b
.endm

.macro DOTS_FUNCTION name, pixels
FUNCTION \name
    ldp x8, x9, [x0]
    ldp x10, x11, [x0, #16]
    ldr x12, [x0, #32]
    .if \pixels == 6
    ldr x13, [x0, #40]
    .endif
    ldp q0, q1, [x6]
    ldp q2, q3, [x6, #32]
    BIAS 0, 8, 9, 10, 11, 12, 13
    BIAS 1, 14, 15, 16, 17, 18, 19
    BIAS 2, 20, 21, 22, 23, 24, 25
    BIAS 3, 26, 27, 28, 29, 30, 31
    mov x14, x3
    .p2align 4
1:
    ldr q0, [x8], #16
    ldr q1, [x9], #16
    ldr q2, [x10], #16
    ldr q3, [x11], #16
    ldr q4, [x12], #16
    .if \pixels == 6
    ldr q5, [x13], #16
    .endif
    DOTS16 \pixels, 0
    DOTS16 \pixels, 1
    subs x14, x14, #1
    DOTS16 \pixels, 2
    DOTS16 \pixels, 3
    b.ne 1b
    subs x4, x4, #1
    add x8, x8, x5
    add x9, x9, x5
    add x10, x10, x5
    add x11, x11, x5
    add x12, x12, x5
    .if \pixels == 6
    add x13, x13, x5
    .endif
    mov x14, x3
    b.ne 1b
    cbz x7, 3f
2:
    ldr s0, [x8], #4
    ldr s1, [x9], #4
    ldr s2, [x10], #4
    ldr s3, [x11], #4
    ldr s4, [x12], #4
    .if \pixels == 6
    ldr s5, [x13], #4
    .endif
    subs x7, x7, #1
    DOTS16 \pixels, 0
    b.ne 2b
3:
    stp q8, q14, [x2]
    stp q20, q26, [x2, #32]
    stp q9, q15, [x2, #64]
    stp q21, q27, [x2, #96]
    stp q10, q16, [x2, #128]
    stp q22, q28, [x2, #160]
    stp q11, q17, [x2, #192]
    stp q23, q29, [x2, #224]
    stp q12, q18, [x2, #256]
    stp q24, q30, [x2, #288]
    .if \pixels == 6
    stp q13, q19, [x2, #320]
    stp q25, q31, [x2, #352]
    .endif
    RETURN \name
.endm

DOTS_FUNCTION edge_dots_6x16, 6
DOTS_FUNCTION edge_dots_5x16, 5
#endif
