/* Two levels of data cache: how many bytes a sequence of accesses reads from memory and writes to it.
 *
 * A line has 64 bytes. Both levels replace the line that was used longest ago (LRU), a store to a line that is not there
 * reads it first (write-allocate), and a changed line is written when it is replaced (write-back). A changed line that
 * leaves the first level goes to the second. There is no prefetcher, no streaming store and no cache for instructions,
 * and nothing else uses the caches. Real caches replace lines less regularly and are shared, so these are the figures of
 * one definite model, not of a board. */
#include <stdint.h>
#include <stdlib.h>

#define LINE 64
#define NONE UINT64_MAX

struct cache {
    uint64_t sets, *line; /* line: the address / LINE that each way of each set holds, or NONE; the newest one first */
    int ways;
    uint8_t *changed;
};

struct caches {
    struct cache first, last;
    uint64_t read, written; /* bytes, from and to memory */
};

static inline int cache_init(struct cache *c, int kib, int ways) {
    uint64_t lines = (uint64_t)kib * 1024 / LINE;
    c->ways = ways;
    c->sets = lines / ways;
    c->line = malloc(lines * sizeof *c->line);
    c->changed = calloc(lines, 1);
    if (!c->sets || !c->line || !c->changed) return 0;
    for (uint64_t i = 0; i < lines; i++) c->line[i] = NONE;
    return 1;
}

/* Makes a line the newest of its set. Returns 1 if it was there. `evicted` becomes the changed line that it replaced, or
 * NONE. */
static inline int cache_touch(struct cache *c, uint64_t line, int store, uint64_t *evicted) {
    uint64_t *set = c->line + line % c->sets * c->ways;
    uint8_t *changed = c->changed + line % c->sets * c->ways;
    int at = 0, found;
    *evicted = NONE;
    while (at < c->ways - 1 && set[at] != line) at++;
    found = set[at] == line;
    if (!found && changed[at]) *evicted = set[at];
    uint8_t state = (found && changed[at]) || store;
    for (; at > 0; at--) set[at] = set[at - 1], changed[at] = changed[at - 1];
    set[0] = line;
    changed[0] = state;
    return found;
}

static inline void caches_touch(struct caches *c, uint64_t line, int store) {
    uint64_t from_first, from_last;
    if (cache_touch(&c->first, line, store, &from_first)) return;
    if (from_first != NONE) {
        cache_touch(&c->last, from_first, 1, &from_last);
        if (from_last != NONE) c->written += LINE;
    }
    if (!cache_touch(&c->last, line, 0, &from_last)) c->read += LINE;
    if (from_last != NONE) c->written += LINE;
}

/* An access of `size` bytes, which may reach into a second line. */
static inline void caches_access(struct caches *c, uint64_t address, uint64_t size, int store) {
    caches_touch(c, address / LINE, store);
    if (address / LINE != (address + size - 1) / LINE) caches_touch(c, (address + size - 1) / LINE, store);
}
