/* QEMU TCG plugin: the instructions that a part of an ARM64 program takes, and its memory traffic through caches.h.
 *
 * arguments: l1=KIB:WAYS,l2=KIB:WAYS, as in qemu-aarch64 -plugin counter.so,l1=32:2,l2=1024:16
 * The program encloses a part with syscall(12345, n) and syscall(12345, n + 1), where n is even. At the end of each part a
 * line goes to stderr:
 *   COUNTED n INSTRUCTIONS BYTES_READ BYTES_WRITTEN ELSEWHERE
 * Instructions are those of all threads. The caches are those of the processor that runs the calling thread, and keep
 * their contents from part to part. ELSEWHERE is the number of accesses by other threads, which the caches do not see.
 * Neither do they see DC ZVA, which stores 64 zeros, because QEMU does not show its address to plugins: each counts as 64
 * bytes written. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <qemu-plugin.h>
#include "caches.h"

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

enum { MARK = 12345 };
static struct caches caches;
static uint64_t instructions, zeroing, elsewhere;
static struct { uint64_t instructions, read, written, elsewhere; } start;

static uint64_t written(void) { return caches.written + zeroing * LINE; }

static volatile int counting;
static unsigned thread;

static void on_access(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *unused) {
    (void)unused;
    if (!counting) return;
    if (vcpu != thread) {
        __atomic_add_fetch(&elsewhere, 1, __ATOMIC_RELAXED);
        return;
    }
    caches_access(&caches, address, 1u << qemu_plugin_mem_size_shift(info), qemu_plugin_mem_is_store(info));
}

static int is_dc_zva(const struct qemu_plugin_insn *instruction) {
    uint32_t code;
    memcpy(&code, qemu_plugin_insn_data(instruction), sizeof code);
    return (code & ~31u) == 0xd50b7420;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    size_t count = qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &instructions, count);
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        if (is_dc_zva(instruction))
            qemu_plugin_register_vcpu_insn_exec_inline(instruction, QEMU_PLUGIN_INLINE_ADD_U64, &zeroing, 1);
        qemu_plugin_register_vcpu_mem_cb(instruction, on_access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
    }
}

static void on_system_call(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t mark, uint64_t a2, uint64_t a3,
                           uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != MARK) return;
    counting = 0;
    if (mark % 2 == 0) {
        thread = vcpu;
        start.instructions = instructions, start.read = caches.read, start.written = written();
        start.elsewhere = elsewhere;
        counting = 1;
        return;
    }
    fprintf(stderr, "COUNTED %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", mark - 1,
            instructions - start.instructions, caches.read - start.read, written() - start.written,
            elsewhere - start.elsewhere);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    (void)info;
    int kib, ways, found = 0;
    for (int i = 0; i < argc; i++) {
        struct cache *cache = strncmp(argv[i], "l1=", 3) ? &caches.last : &caches.first;
        if (sscanf(argv[i], "l%*1[12]=%d:%d", &kib, &ways) == 2) found += cache_init(cache, kib, ways);
    }
    if (argc != 2 || found != 2) {
        fprintf(stderr, "counter.c wants l1=KIB:WAYS and l2=KIB:WAYS\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
    return 0;
}
