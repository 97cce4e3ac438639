/* Direct convolution without dot product: 4 pixels x 4 channels.
 *
 * void edge_direct_4x4(const int8_t *const x[4], const int8_t *weights, int32_t *sums, long chunks, long runs, long step)
 *
 * A pixel's window is `runs` runs of 16 * chunks bytes; after each run its pointer moves on by `step` bytes. The weights
 * hold, for each chunk, 16 bytes of each of the 4 channels. sums: of each pixel the 4 channels.
 *
 * SMULL multiplies 8 bytes, SMLAL2 adds the products of the other 8, SADALP adds pairs of the 16-bit sums to 32-bit ones:
 * three instructions for 16 products. Two products of a weight within -127..127 fit into 16 bits: 2 * 128 * 127 < 2^15.
 * The products of one channel are added up while the next channel's are multiplied, which keeps in-order cores busy.
 */
#include "assembly.h"
#ifdef __aarch64__

// The products of the weights in v\b and the pixels in v0 to v3 into \t0 to \t3; earlier ones, \p0 to \p3, onto \a0 to \a3.
.macro CHANNEL b, t0, t1, t2, t3, p0, p1, p2, p3, a0, a1, a2, a3
    smull v\t0\().8h, v0.8b, v\b\().8b
    sadalp v\a0\().4s, v\p0\().8h
    smull v\t1\().8h, v1.8b, v\b\().8b
    sadalp v\a1\().4s, v\p1\().8h
    smull v\t2\().8h, v2.8b, v\b\().8b
    sadalp v\a2\().4s, v\p2\().8h
    smull v\t3\().8h, v3.8b, v\b\().8b
    sadalp v\a3\().4s, v\p3\().8h
    smlal2 v\t0\().8h, v0.16b, v\b\().16b
    smlal2 v\t1\().8h, v1.16b, v\b\().16b
    smlal2 v\t2\().8h, v2.16b, v\b\().16b
    smlal2 v\t3\().8h, v3.16b, v\b\().16b
.endm

// Sums of pixel i, channel k: v(16 + 4 i + k). v8 to v15 hold products, of two channels in turn.
FUNCTION edge_direct_4x4
    ldp x6, x7, [x0]
    ldp x8, x9, [x0, #16]
    .irp n, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    movi v\n\().4s, #0
    .endr
    mov x10, x3
    ldp q4, q5, [x1], #32
    .p2align 4
1:
    ldr q0, [x6], #16
    ldr q1, [x7], #16
    ldr q2, [x8], #16
    ldr q3, [x9], #16
    CHANNEL 4, 8, 9, 10, 11, 12, 13, 14, 15, 19, 23, 27, 31
    ldp q6, q7, [x1], #32
    CHANNEL 5, 12, 13, 14, 15, 8, 9, 10, 11, 16, 20, 24, 28
    subs x10, x10, #1
    CHANNEL 6, 8, 9, 10, 11, 12, 13, 14, 15, 17, 21, 25, 29
    ldp q4, q5, [x1], #32                    // of the next chunk; after the last one it is not used
    CHANNEL 7, 12, 13, 14, 15, 8, 9, 10, 11, 18, 22, 26, 30
    b.ne 1b
    subs x4, x4, #1
    add x6, x6, x5
    add x7, x7, x5
    add x8, x8, x5
    add x9, x9, x5
    mov x10, x3
    b.ne 1b
    sadalp v19.4s, v12.8h
    sadalp v23.4s, v13.8h
    sadalp v27.4s, v14.8h
    sadalp v31.4s, v15.8h
    addp v16.4s, v16.4s, v17.4s
    addp v18.4s, v18.4s, v19.4s
    addp v20.4s, v20.4s, v21.4s
    addp v22.4s, v22.4s, v23.4s
    addp v24.4s, v24.4s, v25.4s
    addp v26.4s, v26.4s, v27.4s
    addp v28.4s, v28.4s, v29.4s
    addp v30.4s, v30.4s, v31.4s
    addp v0.4s, v16.4s, v18.4s
    addp v1.4s, v20.4s, v22.4s
    addp v2.4s, v24.4s, v26.4s
    addp v3.4s, v28.4s, v30.4s
    st1 {v0.4s-v3.4s}, [x2]
    RETURN edge_direct_4x4
#endif
