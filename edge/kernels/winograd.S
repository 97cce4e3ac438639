/* Winograd: the products of up to 4 tiles with 16 channels, and weights transformed while they are used. */
#include "assembly.h"
#ifdef __aarch64__

/* void edge_winograd_Nx16(const int16_t *tiles, const int16_t *weights, int32_t *products, long channels, long step, long add)
 *
 * N tiles, rows of `channels` int16 that are `step` bytes apart, times weights [channels][16] to N rows of 16 products, or
 * with `add` onto them. channels is a multiple of 8. Reads 16 bytes beyond each tile and 96 beyond the weights.
 * Tile i: v\i, its products: v(16 + 4 i) to v(19 + 4 i).
 */
.macro PRODUCTS4 t, a, b, c, d, u, w, lane
    smlal v\a\().4s, v\u\().4h, v\t\().h[\lane]
    smlal2 v\b\().4s, v\u\().8h, v\t\().h[\lane]
    smlal v\c\().4s, v\w\().4h, v\t\().h[\lane]
    smlal2 v\d\().4s, v\w\().8h, v\t\().h[\lane]
.endm
.macro CHANNEL n, u, w, lane
    PRODUCTS4 0, 16, 17, 18, 19, \u, \w, \lane
    .if \n > 1
    PRODUCTS4 1, 20, 21, 22, 23, \u, \w, \lane
    .endif
    .if \n > 2
    PRODUCTS4 2, 24, 25, 26, 27, \u, \w, \lane
    .endif
    .if \n > 3
    PRODUCTS4 3, 28, 29, 30, 31, \u, \w, \lane
    .endif
.endm
.macro WINOGRAD n
FUNCTION edge_winograd_\n\()x16
    .if \n > 1
    add x7, x0, x4
    .endif
    .if \n > 2
    add x8, x7, x4
    .endif
    .if \n > 3
    add x9, x8, x4
    .endif
    ldr q0, [x0], #16
    .if \n > 1
    ldr q1, [x7], #16
    .endif
    .if \n > 2
    ldr q2, [x8], #16
    .endif
    .if \n > 3
    ldr q3, [x9], #16
    .endif
    ldp q8, q9, [x1], #32
    ldp q10, q11, [x1], #32
    ldp q12, q13, [x1], #32
    cbz x5, 2f
    mov x10, x2
    ld1 {v16.4s-v19.4s}, [x10], #64
    .if \n > 1
    ld1 {v20.4s-v23.4s}, [x10], #64
    .endif
    .if \n > 2
    ld1 {v24.4s-v27.4s}, [x10], #64
    .endif
    .if \n > 3
    ld1 {v28.4s-v31.4s}, [x10]
    .endif
    b 1f
2:
    movi v16.4s, #0
    movi v17.4s, #0
    movi v18.4s, #0
    movi v19.4s, #0
    .if \n > 1
    movi v20.4s, #0
    movi v21.4s, #0
    movi v22.4s, #0
    movi v23.4s, #0
    .endif
    .if \n > 2
    movi v24.4s, #0
    movi v25.4s, #0
    movi v26.4s, #0
    movi v27.4s, #0
    .endif
    .if \n > 3
    movi v28.4s, #0
    movi v29.4s, #0
    movi v30.4s, #0
    movi v31.4s, #0
    .endif
    .p2align 4
1:
    CHANNEL \n, 8, 9, 0
    ldp q14, q15, [x1], #32
    CHANNEL \n, 10, 11, 1
    ldp q8, q9, [x1], #32
    CHANNEL \n, 12, 13, 2
    ldp q10, q11, [x1], #32
    CHANNEL \n, 14, 15, 3
    ldp q12, q13, [x1], #32
    CHANNEL \n, 8, 9, 4
    ldp q14, q15, [x1], #32
    CHANNEL \n, 10, 11, 5
    ldp q8, q9, [x1], #32
    subs x3, x3, #8
    CHANNEL \n, 12, 13, 6
    ldp q10, q11, [x1], #32
    PRODUCTS4 0, 16, 17, 18, 19, 14, 15, 7
    ldr q0, [x0], #16
    .if \n > 1
    PRODUCTS4 1, 20, 21, 22, 23, 14, 15, 7
    ldr q1, [x7], #16
    .endif
    .if \n > 2
    PRODUCTS4 2, 24, 25, 26, 27, 14, 15, 7
    ldr q2, [x8], #16
    .endif
    .if \n > 3
    PRODUCTS4 3, 28, 29, 30, 31, 14, 15, 7
    ldr q3, [x9], #16
    .endif
    ldp q12, q13, [x1], #32
    b.ne 1b
    st1 {v16.4s-v19.4s}, [x2], #64
    .if \n > 1
    st1 {v20.4s-v23.4s}, [x2], #64
    .endif
    .if \n > 2
    st1 {v24.4s-v27.4s}, [x2], #64
    .endif
    .if \n > 3
    st1 {v28.4s-v31.4s}, [x2]
    .endif
    RETURN edge_winograd_\n\()x16
.endm
WINOGRAD 1
WINOGRAD 2
WINOGRAD 3
WINOGRAD 4

/* void edge_stem_Nx16(const int16_t *tiles, const int16_t *weights, int32_t *products, long groups)
 *
 * `groups` times N tiles, rows of 16 int16 of which 12 count, times weights [12][16] to rows of 16 products.
 */
.macro STEM_FIRST4 t, a, b, c, d, u, w
    smull v\a\().4s, v\u\().4h, v\t\().h[0]
    smull2 v\b\().4s, v\u\().8h, v\t\().h[0]
    smull v\c\().4s, v\w\().4h, v\t\().h[0]
    smull2 v\d\().4s, v\w\().8h, v\t\().h[0]
.endm
.macro STEM_FIRST n, u, w
    STEM_FIRST4 0, 16, 17, 18, 19, \u, \w
    STEM_FIRST4 2, 20, 21, 22, 23, \u, \w
    .if \n > 2
    STEM_FIRST4 4, 24, 25, 26, 27, \u, \w
    STEM_FIRST4 6, 28, 29, 30, 31, \u, \w
    .endif
.endm
.macro STEM_CHANNEL n, odd, u, w, lane       // channels 0 to 7 of a tile are in an even register, the others in the next
    .if \odd
    PRODUCTS4 1, 16, 17, 18, 19, \u, \w, \lane
    PRODUCTS4 3, 20, 21, 22, 23, \u, \w, \lane
    .if \n > 2
    PRODUCTS4 5, 24, 25, 26, 27, \u, \w, \lane
    PRODUCTS4 7, 28, 29, 30, 31, \u, \w, \lane
    .endif
    .else
    PRODUCTS4 0, 16, 17, 18, 19, \u, \w, \lane
    PRODUCTS4 2, 20, 21, 22, 23, \u, \w, \lane
    .if \n > 2
    PRODUCTS4 4, 24, 25, 26, 27, \u, \w, \lane
    PRODUCTS4 6, 28, 29, 30, 31, \u, \w, \lane
    .endif
    .endif
.endm
.macro STEM n
FUNCTION edge_stem_\n\()x16
    .p2align 4
1:
    mov x4, x1
    ldp q0, q1, [x0], #32
    ldp q2, q3, [x0], #32
    .if \n > 2
    ldp q4, q5, [x0], #32
    ldp q6, q7, [x0], #32
    .endif
    ldp q8, q9, [x4], #32
    ldp q10, q11, [x4], #32
    ldp q12, q13, [x4], #32
    subs x3, x3, #1
    STEM_FIRST \n, 8, 9
    ldp q14, q15, [x4], #32
    STEM_CHANNEL \n, 0, 10, 11, 1
    ldp q8, q9, [x4], #32
    STEM_CHANNEL \n, 0, 12, 13, 2
    ldp q10, q11, [x4], #32
    STEM_CHANNEL \n, 0, 14, 15, 3
    ldp q12, q13, [x4], #32
    STEM_CHANNEL \n, 0, 8, 9, 4
    ldp q14, q15, [x4], #32
    STEM_CHANNEL \n, 0, 10, 11, 5
    ldp q8, q9, [x4], #32
    STEM_CHANNEL \n, 0, 12, 13, 6
    ldp q10, q11, [x4], #32
    STEM_CHANNEL \n, 0, 14, 15, 7
    ldp q12, q13, [x4], #32
    STEM_CHANNEL \n, 1, 8, 9, 0
    ldp q14, q15, [x4], #32
    STEM_CHANNEL \n, 1, 10, 11, 1
    STEM_CHANNEL \n, 1, 12, 13, 2
    STEM_CHANNEL \n, 1, 14, 15, 3
    st1 {v16.4s-v19.4s}, [x2], #64
    st1 {v20.4s-v23.4s}, [x2], #64
    .if \n > 2
    st1 {v24.4s-v27.4s}, [x2], #64
    st1 {v28.4s-v31.4s}, [x2], #64
    .endif
    b.ne 1b
    RETURN edge_stem_\n\()x16
.endm
STEM 2
STEM 4

/* void edge_winograd_transform(const int8_t *weights, int16_t *to, long channels, long step)
 *
 * Weights [channels][9][16] to [36][..][16], the 36 being `step` bytes apart. The values of the polynomials at the points
 * only: rows 1 0 0, 1 1 1, 1 -1 1, 1 2 4, 1 -2 4, 0 0 1; the factors 6 -4 -4 1 1 6 are left to the products, which are
 * fewer. At most 7 * 7 * 127, so it fits into 16 bits.
 */

// Row y, column x of the kernel: v(3 y + x). Of half \s ("" or 2: the lower or upper 8 channels), into \r at the points 1, -1:
.macro POINTS_1 r, q, a, b, c, s, bytes
    saddl\s v\r\().8h, v\a\().\bytes, v\c\().\bytes
    ssubw\s v\q\().8h, v\r\().8h, v\b\().\bytes
    saddw\s v\r\().8h, v\r\().8h, v\b\().\bytes
.endm
// At the points 2, -2; v31 is free.
.macro POINTS_2 r, q, a, b, c, s, bytes
    sshll\s v\r\().8h, v\c\().\bytes, #2
    sshll\s v31.8h, v\b\().\bytes, #1
    saddw\s v\r\().8h, v\r\().8h, v\a\().\bytes
    sub v\q\().8h, v\r\().8h, v31.8h
    add v\r\().8h, v\r\().8h, v31.8h
.endm
// The other axis, from v\a, v\b, v\c to the six points, which are stored from both halves: lower v\a.., upper v\d...
.macro ACROSS a, b, c, d, e, f
    stp q\a, q\d, [x1]
    add x1, x1, x3
    add v25.8h, v\a\().8h, v\c\().8h
    add v26.8h, v\d\().8h, v\f\().8h
    sub v27.8h, v25.8h, v\b\().8h
    sub v28.8h, v26.8h, v\e\().8h
    add v25.8h, v25.8h, v\b\().8h
    add v26.8h, v26.8h, v\e\().8h
    st1 {v25.8h, v26.8h}, [x1], x3
    st1 {v27.8h, v28.8h}, [x1], x3
    shl v25.8h, v\c\().8h, #2
    shl v26.8h, v\f\().8h, #2
    shl v27.8h, v\b\().8h, #1
    shl v28.8h, v\e\().8h, #1
    add v25.8h, v25.8h, v\a\().8h
    add v26.8h, v26.8h, v\d\().8h
    sub v29.8h, v25.8h, v27.8h
    sub v30.8h, v26.8h, v28.8h
    add v27.8h, v25.8h, v27.8h
    add v28.8h, v26.8h, v28.8h
    st1 {v27.8h, v28.8h}, [x1], x3
    st1 {v29.8h, v30.8h}, [x1], x3
    stp q\c, q\f, [x1]
    add x1, x1, x3
.endm
FUNCTION edge_winograd_transform
    mov x4, x1
1:
    ldp q0, q1, [x0], #32
    ldp q2, q3, [x0], #32
    ldp q4, q5, [x0], #32
    ldp q6, q7, [x0], #32
    ldr q8, [x0], #16
    mov x1, x4
    add x4, x4, #32
    sxtl v9.8h, v0.8b                        // point 0: the first row
    sxtl v10.8h, v1.8b
    sxtl v11.8h, v2.8b
    sxtl2 v12.8h, v0.16b
    sxtl2 v13.8h, v1.16b
    sxtl2 v14.8h, v2.16b
    ACROSS 9, 10, 11, 12, 13, 14
    POINTS_1 9, 15, 0, 3, 6, , 8b
    POINTS_1 10, 16, 1, 4, 7, , 8b
    POINTS_1 11, 17, 2, 5, 8, , 8b
    POINTS_1 12, 18, 0, 3, 6, 2, 16b
    POINTS_1 13, 19, 1, 4, 7, 2, 16b
    POINTS_1 14, 20, 2, 5, 8, 2, 16b
    ACROSS 9, 10, 11, 12, 13, 14
    ACROSS 15, 16, 17, 18, 19, 20
    POINTS_2 9, 15, 0, 3, 6, , 8b
    POINTS_2 10, 16, 1, 4, 7, , 8b
    POINTS_2 11, 17, 2, 5, 8, , 8b
    POINTS_2 12, 18, 0, 3, 6, 2, 16b
    POINTS_2 13, 19, 1, 4, 7, 2, 16b
    POINTS_2 14, 20, 2, 5, 8, 2, 16b
    ACROSS 9, 10, 11, 12, 13, 14
    ACROSS 15, 16, 17, 18, 19, 20
    sxtl v9.8h, v6.8b                        // infinity: the last row
    sxtl v10.8h, v7.8b
    sxtl v11.8h, v8.8b
    sxtl2 v12.8h, v6.16b
    sxtl2 v13.8h, v7.16b
    sxtl2 v14.8h, v8.16b
    ACROSS 9, 10, 11, 12, 13, 14
    subs x2, x2, #1
    b.ne 1b
    RETURN edge_winograd_transform
#endif
