/* Parts whose instructions and memory traffic are known, to check counter.c with; known.py has the figures. Without a C
 * library, so that no other instruction runs. */
#include <stdint.h>

enum { MARK = 12345, EXIT = 94, LINE = 64, KIB = 1024, MIB = 1024 * KIB };
static uint8_t from[8 * MIB] __attribute__((aligned(MIB))), to[8 * MIB] __attribute__((aligned(MIB)));

static void system_call(long number, long argument) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = argument;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8) : "memory");
}

/* Loads 8 bytes of every `step` bytes: 4 instructions each. */
static void load(const uint8_t *at, long bytes, long step) {
    const uint8_t *end = at + bytes;
    __asm__ volatile("1: ldr x9, [%0]\n add %0, %0, %2\n subs x9, %1, %0\n b.hi 1b" : "+r"(at) : "r"(end), "r"(step) : "x9", "cc", "memory");
}

static void store(uint8_t *at, long bytes, long step) {
    const uint8_t *end = at + bytes;
    __asm__ volatile("1: str xzr, [%0]\n add %0, %0, %2\n subs x9, %1, %0\n b.hi 1b" : "+r"(at) : "r"(end), "r"(step) : "x9", "cc", "memory");
}

static void copy(uint8_t *into, const uint8_t *at, long bytes) {
    const uint8_t *end = at + bytes;
    __asm__ volatile("1: ldp q0, q1, [%0], #32\n stp q0, q1, [%1], #32\n cmp %0, %2\n b.lo 1b"
                     : "+r"(at), "+r"(into) : "r"(end) : "v0", "v1", "cc", "memory");
}

static void zero(uint8_t *at) { __asm__ volatile("dc zva, %0" : : "r"(at) : "memory"); }

void _start(void) {
    long mark = 0;
#define PART(work) system_call(MARK, mark), work, system_call(MARK, mark + 1), mark += 2
    PART(copy(to, from, 8 * MIB));
    PART(load(from, 16 * KIB, LINE));
    PART(load(from, 16 * KIB, LINE));
    PART(load(from, 512 * KIB, LINE));
    PART(load(from, 512 * KIB, LINE));
    PART(load(from, 2 * MIB, 4 * LINE));
    PART(load(from, 2 * MIB, 4 * LINE));
    PART(store(to, 8 * MIB, LINE));
    PART(load(from, 8 * MIB, LINE));
    PART(load(from + LINE - 4, 8, LINE));
    PART(zero(to));
    system_call(EXIT, 0);
}
