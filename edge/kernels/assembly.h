/* What the assembly files share. AAPCS64: v8 to v15 belong to the caller (their low halves), so they are saved. */
#ifdef __aarch64__

.macro FUNCTION name
    .text
    .globl \name
    .hidden \name
    .type \name, %function
    .p2align 4
\name:
    stp d8, d9, [sp, #-64]!
    stp d10, d11, [sp, #16]
    stp d12, d13, [sp, #32]
    stp d14, d15, [sp, #48]
.endm

.macro RETURN name
    ldp d10, d11, [sp, #16]
    ldp d12, d13, [sp, #32]
    ldp d14, d15, [sp, #48]
    ldp d8, d9, [sp], #64
    ret
    .size \name, . - \name
.endm
#endif

    .section .note.GNU-stack, "", %progbits
