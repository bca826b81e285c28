/* SPDX-License-Identifier: MIT
 * The cache of decoded blocks: lookup, insertion, dropping what was stored to,
 * and freeing by epochs, since other vCPUs may still run a dropped block. */
#include "block.h"
#include "tlb.h"
#include "access.h"
#include "fetch.h"
#include "jit/jit.h"
#include "sampler.h"
#include "../../base/arena.h"
#include "../../base/err.h"
#include "../../mmu/guest.h"
#include <linux/membarrier.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HASH_BITS 16
#define HASH_N    (1u << HASH_BITS)
#define PAGE_BITS 13
#define PAGE_N    (1u << PAGE_BITS)
#define CACHE_CAP (192ull << 20) /* bytes of blocks before all are dropped */
#define ARENA_CAP (256ull << 20) /* the same with what was freed and finds no new use */
/* Retired bytes before a vCPU lets go at its next lookup, and before running ones
 * are asked to. To let go costs a vCPU its jump cache, so it is not done for each
 * block that goes: a guest that writes code drops some all the time. */
#define RETIRED_SOME  (256ull << 10)
#define RETIRED_NUDGE (8ull << 20)
/* What is too much goes in portions of about so many blocks, one with each that is made
 * or translated: all at once would take a second, in which no vCPU took an interrupt. */
#define PORTION       256u
#define FREED_PORTION 1024u
#define CHURN_BITS    10
#define CHURN_MAX     6

/* Lines whose translations were lost to stores. Their blocks are translated only
 * after more and more entries, until these cost about what translating does: code
 * that is rewritten for ever stays interpreted, and what changed once or twice
 * (a kernel patches itself as it boots) is soon translated again. Lines that meet
 * here take each other's place, so nothing grows. */
struct churn {
    uint64_t line;
    uint8_t level;
};

struct code_cache {
    pthread_mutex_t lock;
    struct emu_vm *vm;
    struct block *by_phys[HASH_N];
    struct block *by_page[PAGE_N];
    struct block *retired, **retired_end; /* the oldest first */
    struct arena *arena;                  /* of new blocks */
    uint64_t bytes, retired_bytes, nudge_at;
    unsigned sweep; /* the next bucket of by_page to be swept; PAGE_N: none */
    _Atomic uint64_t epoch;
    uint64_t freed;       /* times that blocks or translations ceased to be */
    _Atomic bool crowded; /* vCPUs shall let go at their next lookup */
    bool barrier;         /* membarrier is there */
    bool draining;        /* translations wait until nobody runs old ones */
    uint64_t drained;     /* the epoch to wait for, when the sweep is over */
    struct churn churn[1u << CHURN_BITS];
};

static unsigned hash_phys(uint64_t phys, uint32_t mode)
{
    uint64_t h = (phys ^ ((uint64_t)mode << 40)) * 0x9e3779b97f4a7c15ull;
    return (unsigned)(h >> (64 - HASH_BITS));
}

static unsigned hash_page(uint64_t page)
{
    return (unsigned)(((page >> 12) * 0x9e3779b97f4a7c15ull) >> (64 - PAGE_BITS));
}

static size_t block_size(const struct block *b)
{
    return sizeof *b + (b->nops + 1u) * sizeof(struct op);
}

struct code_cache *code_cache_new(struct emu_vm *vm)
{
    struct code_cache *cc = calloc(1, sizeof *cc);
    if (!cc) {
        err_set(VC_ENOMEM, "no host memory for the code cache; close other programs");
        return NULL;
    }
    pthread_mutex_init(&cc->lock, NULL);
    cc->vm = vm;
    atomic_store(&cc->epoch, 1);
    cc->arena = arena_new();
    cc->freed = 1;
    cc->retired_end = &cc->retired;
    cc->sweep = PAGE_N;
    cc->nudge_at = RETIRED_NUDGE;
    if (!cc->arena) {
        code_cache_free(cc);
        err_set(VC_ENOMEM, "no host memory for the code cache; close other programs");
        return NULL;
    }
    cc->barrier = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
    return cc;
}

/* An arena that was given up goes with its last block. */
static void free_block(struct code_cache *cc, struct block *b)
{
    struct arena *a = b->arena;
    jit_block_free(cc->vm->jit, block_jit(b));
    arena_free(a, b, block_size(b));
    if (a != cc->arena && arena_empty(a))
        arena_delete(a);
}

static void free_list(struct code_cache *cc, struct block *b, bool by_hash)
{
    while (b) {
        struct block *next = by_hash ? b->next_hash : b->next_retired;
        free_block(cc, b);
        b = next;
    }
}

void code_cache_free(struct code_cache *cc)
{
    if (!cc)
        return;
    for (unsigned i = 0; cc->bytes && i < HASH_N; i++)
        free_list(cc, cc->by_phys[i], true);
    free_list(cc, cc->retired, false);
    arena_delete(cc->arena);
    pthread_mutex_destroy(&cc->lock);
    free(cc);
}

/* ---- unlinking and reclaiming; lock held ----------------------------------- */

static unsigned list_of(const struct block *b, uint64_t page)
{
    return (b->phys & PAGE_MASK_4K) == page ? 0 : 1;
}

static void page_unlink(struct code_cache *cc, struct block *b, uint64_t page)
{
    struct block **pp = &cc->by_page[hash_page(page)];
    unsigned which = list_of(b, page);
    /* A bucket holds blocks of several pages; each is on it through the link
     * that belongs to the page which hashes here. */
    while (*pp && *pp != b) {
        struct block *x = *pp;
        bool first = hash_page(x->phys & PAGE_MASK_4K) == hash_page(page);
        pp = &x->next_page[first ? 0 : 1];
    }
    if (*pp)
        *pp = b->next_page[which];
}

/* Letting go is worth its price when the sweep is over. */
static void set_crowded(struct code_cache *cc)
{
    bool crowded = cc->draining || cc->retired_bytes > RETIRED_SOME;
    atomic_store_explicit(&cc->crowded, crowded && cc->sweep == PAGE_N, memory_order_relaxed);
}

static void kill_block(struct code_cache *cc, struct block *b)
{
    struct block **pp = &cc->by_phys[hash_phys(b->phys, b->mode)];
    while (*pp && *pp != b)
        pp = &(*pp)->next_hash;
    if (*pp)
        *pp = b->next_hash;
    page_unlink(cc, b, b->phys & PAGE_MASK_4K);
    if (b->phys2 != NO_PAGE)
        page_unlink(cc, b, b->phys2);

    atomic_store(&b->dead, true);
    /* Whoever is inside leaves at its next instruction. */
    for (unsigned i = 0; i <= b->nops; i++)
        __atomic_store_n(&b->op[i].fn, op_dead, __ATOMIC_RELAXED);
    if (block_jit(b))
        jit_block_kill(cc->vm->jit, block_jit(b), b->phys, b->mode);
    b->retired = atomic_fetch_add(&cc->epoch, 1) + 1;
    *cc->retired_end = b;
    cc->retired_end = &b->next_retired;
    cc->bytes -= block_size(b);
    cc->retired_bytes += block_size(b);
    set_crowded(cc);
}

/* The oldest epoch that a running vCPU may still hold references of. */
static uint64_t oldest_seen(struct code_cache *cc)
{
    uint64_t min = UINT64_MAX;
    for (unsigned i = 0; i < cc->vm->ncpu; i++) {
        struct emu *c = cc->vm->cpu[i];
        if (!c)
            continue;
        uint64_t seen = atomic_load(&c->jcache->seen);
        if (seen < min)
            min = seen;
    }
    return min;
}

/* Asks all vCPUs to let go. */
static void nudge(struct code_cache *cc)
{
    for (unsigned i = 0; i < cc->vm->ncpu; i++)
        if (cc->vm->cpu[i])
            mail_post(cc->vm->cpu[i]->mail, PEND_FLUSH);
}

/* Frees a portion of what nobody can be inside of. */
static void reclaim(struct code_cache *cc)
{
    uint64_t min = oldest_seen(cc);
    struct block *b = cc->retired;
    if (b && b->retired <= min)
        cc->freed++;
    for (unsigned n = 0; n < FREED_PORTION && b && b->retired <= min; n++) {
        struct block *next = b->next_retired;
        cc->retired_bytes -= block_size(b);
        free_block(cc, b);
        b = next;
    }
    cc->retired = b;
    if (!b)
        cc->retired_end = &cc->retired;
    set_crowded(cc);
    if (cc->retired_bytes <= RETIRED_NUDGE) {
        cc->nudge_at = RETIRED_NUDGE;
    } else if (cc->retired_bytes > cc->nudge_at) {
        cc->nudge_at = cc->retired_bytes + RETIRED_NUDGE;
        nudge(cc);
    }
}

/* Page by page: there each is the first of its list. */
static void drop_all(struct code_cache *cc)
{
    for (unsigned i = 0; cc->bytes && i < PAGE_N; i++)
        while (cc->by_page[i])
            kill_block(cc, cc->by_page[i]);
    reclaim(cc);
}

static struct block *page_next(const struct block *b, unsigned bucket)
{
    return b->next_page[hash_page(b->phys & PAGE_MASK_4K) == bucket ? 0 : 1];
}

/* Drops a portion of what is of a former arena and, when code memory is full, of what
 * is translated. */
static void sweep(struct code_cache *cc)
{
    unsigned n = 0;
    while (cc->sweep < PAGE_N && n < PORTION) {
        struct block *next;
        for (struct block *b = cc->by_page[cc->sweep]; b; b = next, n++) {
            next = page_next(b, cc->sweep);
            if (b->arena != cc->arena || (cc->draining && block_jit(b)))
                kill_block(cc, b);
        }
        cc->sweep++;
    }
    if (cc->sweep == PAGE_N) {
        cc->drained = atomic_load(&cc->epoch);
        set_crowded(cc);
        if (cc->draining)
            nudge(cc);
    }
}

/* Room for more blocks? Objects of one size leave holes that others do not fill,
 * so a full arena is given up, and goes when its last block does. */
static void make_room(struct code_cache *cc)
{
    if (unlikely(cc->sweep < PAGE_N)) {
        sweep(cc);
        return;
    }
    if (cc->bytes <= CACHE_CAP && arena_used(cc->arena) <= ARENA_CAP)
        return;
    struct arena *old = cc->arena, *fresh = arena_new();
    if (!fresh) {
        drop_all(cc);
        return;
    }
    cc->arena = fresh;
    if (arena_empty(old))
        arena_delete(old);
    cc->sweep = 0;
    set_crowded(cc);
}

void code_drop(struct emu *c, struct block *b)
{
    struct code_cache *cc = c->vm->code;
    pthread_mutex_lock(&cc->lock);
    if (!atomic_load(&b->dead))
        kill_block(cc, b);
    pthread_mutex_unlock(&cc->lock);
}

void code_drop_all(struct code_cache *cc)
{
    pthread_mutex_lock(&cc->lock);
    drop_all(cc);
    pthread_mutex_unlock(&cc->lock);
}

/* The 64-byte lines of `page` that a block covers. */
static uint64_t block_lines(const struct block *b, uint64_t page)
{
    uint64_t first, last, more = 0; /* byte offsets in page */
    if ((b->phys & PAGE_MASK_4K) == page) {
        first = b->phys & 4095;
        last = first + b->bytes - 1;
        if (last > 4095)
            last = 4095;
        more = b->lines;
    } else {
        first = 0;
        last = (b->phys & 4095) + b->bytes - 1 - 4096;
    }
    unsigned lo = (unsigned)(first >> 6), hi = (unsigned)(last >> 6);
    return more | ((hi == 63 ? UINT64_MAX : BIT64(hi + 1) - 1) & ~(BIT64(lo) - 1));
}

static bool on_page(const struct block *b, uint64_t page)
{
    return (b->phys & PAGE_MASK_4K) == page || b->phys2 == page;
}

static struct churn *churn_of(struct code_cache *cc, uint64_t phys)
{
    return &cc->churn[((phys >> 6) * 0x9e3779b97f4a7c15ull) >> (64 - CHURN_BITS)];
}

static void note_churn(struct code_cache *cc, const struct block *b)
{
    struct churn *k = churn_of(cc, b->phys);
    if (k->line != b->phys >> 6)
        *k = (struct churn){.line = b->phys >> 6};
    if (k->level < CHURN_MAX)
        k->level++;
}

/* Entries after which a block is translated. */
static uint16_t warm_after(struct code_cache *cc, uint64_t phys)
{
    const struct churn *k = churn_of(cc, phys);
    return (uint16_t)(k->line == phys >> 6 ? BLOCK_HOT << k->level : BLOCK_HOT);
}

void code_hit(void *ctx, uint64_t gpa_page, uint64_t lines)
{
    struct emu_vm *vm = ctx;
    struct code_cache *cc = vm->code;
    const struct mem_region *r = mem_find(vm->env.mem, gpa_page);
    unsigned bucket = hash_page(gpa_page);
    uint64_t left = 0;
    bool killed = false;

    pthread_mutex_lock(&cc->lock);
    for (struct block *b = cc->by_page[bucket], *next; b; b = next) {
        next = page_next(b, bucket);
        if (!on_page(b, gpa_page))
            continue;
        uint64_t has = block_lines(b, gpa_page);
        if (has & lines) {
            if (block_jit(b))
                note_churn(cc, b);
            kill_block(cc, b);
            killed = true;
        } else {
            left |= has;
        }
    }
    /* With other vCPUs about, a new mark costs a barrier: lines that had code keep
     * theirs until a store finds no block there. */
    if (r && r->code && !(killed && vm->ncpu > 1))
        atomic_fetch_and(mem_code_word(r, gpa_page), ~lines | left);
    if (cc->retired_bytes > RETIRED_NUDGE)
        reclaim(cc);
    pthread_mutex_unlock(&cc->lock);
}

/* ---- epochs ------------------------------------------------------------------ */

/* Lock held. The references to blocks that a vCPU holds are its jump cache's
 * entries of the generations since it let go the last time. */
static void let_go(struct emu *c, struct code_cache *cc)
{
    struct jit *jit = c->vm->jit;
    if (jit && (c->vm->code->draining || c->slot_rewinds != jit_rewinds(jit))) {
        jit_slots_flush(c, true); /* their numbers will be given out again */
        c->slot_rewinds = jit_rewinds(jit);
    }
    c->jit_link = NULL;
    c->block = NULL;
    c->jcache->safe_gen = c->tlbs->gen + 1;
    tlb_new_gens(c);
    jcache_retag(c);
    c->jcache->held = atomic_load(&cc->epoch);
    c->jcache->freed = cc->freed;
    atomic_store(&c->jcache->seen, c->jcache->held);
    if (cc->retired_bytes > RETIRED_SOME)
        reclaim(cc);
}

void code_online(struct emu *c)
{
    struct code_cache *cc = c->vm->code;
    pthread_mutex_lock(&cc->lock);
    c->jit_link = NULL;
    c->block = NULL;
    /* What it held when it went is still there unless something was freed. */
    if (c->jcache->freed == cc->freed)
        atomic_store(&c->jcache->seen, c->jcache->held);
    else
        let_go(c, cc);
    pthread_mutex_unlock(&cc->lock);
}

/* Nobody walks the list of vCPUs while this one goes. */
void code_cpu_gone(struct emu *c)
{
    pthread_mutex_lock(&c->vm->code->lock);
    c->vm->cpu[c->index] = NULL;
    pthread_mutex_unlock(&c->vm->code->lock);
}

void code_offline(struct emu *c)
{
    c->block = NULL;
    atomic_store(&c->jcache->seen, UINT64_MAX);
}

void code_quiesce(struct emu *c)
{
    struct code_cache *cc = c->vm->code;
    bool holds = atomic_load(&c->jcache->seen) != atomic_load(&cc->epoch);
    if (!holds && !atomic_load_explicit(&cc->crowded, memory_order_relaxed))
        return;
    pthread_mutex_lock(&cc->lock);
    if (holds)
        let_go(c, cc);
    else
        reclaim(cc);
    pthread_mutex_unlock(&cc->lock);
}

void jcache_retag(struct emu *c)
{
    c->jtag = tlb_group(c, tlb_priv(c))->gen << 8 | c->mode;
}

/* Lines are marked before the bytes are read; a store by another vCPU either
 * sees the mark or was visible before the barrier. */
static void mark_lines(struct code_cache *cc, const struct mem_region *r, uint64_t gpa,
                       uint64_t lines)
{
    _Atomic uint64_t *w = mem_code_word(r, gpa);
    if ((atomic_load(w) & lines) == lines)
        return;
    atomic_fetch_or(w, lines);
    if (cc->vm->ncpu > 1 && cc->barrier)
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

/* ---- translating ------------------------------------------------------------------ */

/* Room for one more? When the memory is full every translation goes, and translating
 * starts anew when no vCPU can be inside one. */
static bool jit_room(struct code_cache *cc, struct jit *jit)
{
    if (!cc->draining && !jit_full(jit))
        return true;
    if (!cc->draining) {
        cc->draining = true;
        cc->sweep = 0;
        set_crowded(cc);
    }
    if (cc->sweep < PAGE_N)
        sweep(cc);
    if (cc->sweep < PAGE_N || oldest_seen(cc) < cc->drained)
        return false;
    jit_rewind(jit);
    cc->freed++;
    cc->draining = false;
    set_crowded(cc);
    return true;
}

void block_translate(struct emu *c, struct block *b)
{
    struct code_cache *cc = c->vm->code;
    const struct mem_region *r = mem_find(c->env->mem, b->phys), *r2 = NULL;
    uint32_t mode = c->mode & ~MODE_PRIV_MASK;

    if ((mode != MODE_CODE64 && mode != (MODE_CODE32 | MODE_SS32 | MODE_FLAT)) || !r || !r->code)
        return;
    if (b->phys2 != NO_PAGE) {
        r2 = mem_find(c->env->mem, b->phys2);
        if (!r2 || !r2->code)
            return;
    }
    doing(c, VC_DOING_TRANSLATOR);
    pthread_mutex_lock(&cc->lock);
    if (!jit_room(cc, c->vm->jit)) {
        atomic_store_explicit(&b->hot, 0, memory_order_relaxed); /* tries again */
    } else if (!atomic_load(&b->dead) && !block_jit(b)) {
        /* The whole page is watched while it is read. */
        uint64_t page = b->phys & PAGE_MASK_4K, lines = 0;
        uint64_t had = atomic_load(mem_code_word(r, page));
        mark_lines(cc, r, page, UINT64_MAX);
        struct jit_block *jb = jit_translate(c, b, r->host + (page - r->gpa),
                                             r2 ? r2->host + (b->phys2 - r2->gpa) : NULL, &lines);
        if (jb) {
            b->lines = lines;
            c->stats.translated++;
            jit_block_again(c->vm->jit, jb, b->phys, b->mode);
            atomic_fetch_add(&c->vm->translations, 1);
            atomic_store_explicit(&b->jit, jb, memory_order_release);
        } else {
            lines = 0;
        }
        atomic_fetch_and(mem_code_word(r, page), had | lines);
    }
    pthread_mutex_unlock(&cc->lock);
    doing(c, VC_DOING_INTERPRETER);
}

/* ---- lookup -------------------------------------------------------------------- */

static struct block *find(struct code_cache *cc, uint64_t phys, uint32_t mode)
{
    for (struct block *b = cc->by_phys[hash_phys(phys, mode)]; b; b = b->next_hash)
        if (b->phys == phys && b->mode == mode)
            return b;
    return NULL;
}

static void insert(struct code_cache *cc, struct block *b)
{
    unsigned h = hash_phys(b->phys, b->mode);
    b->next_hash = cc->by_phys[h];
    cc->by_phys[h] = b;
    unsigned p = hash_page(b->phys & PAGE_MASK_4K);
    b->next_page[0] = cc->by_page[p];
    cc->by_page[p] = b;
    if (b->phys2 != NO_PAGE) {
        unsigned p2 = hash_page(b->phys2);
        if (p2 != p) { /* in the same bucket it is found through the first link */
            b->next_page[1] = cc->by_page[p2];
            cc->by_page[p2] = b;
        }
    }
    cc->bytes += block_size(b);
}

/* Decodes at phys; the lock is held, and given up before a fault is raised. */
static struct block *make(struct emu *c, struct code_cache *cc, uint64_t lin, struct fetch *f)
{
    unsigned in_page = 4096 - (unsigned)(lin & 4095);
    unsigned max = c->mode & MODE_STEP ? 1 : BLOCK_MAX_OPS;
    uint64_t phys2 = NO_PAGE;
    struct decode_out *out = c->decoded;

    /* As many lines as a block can reach; refined once its length is known. */
    unsigned reach = max == 1 ? INSN_MAX : BLOCK_REACH;
    unsigned avail = (unsigned)min_u64(in_page, reach);
    unsigned lo = (unsigned)(f->gpa & 4095) >> 6;
    unsigned hi = (unsigned)min_u64(4095, (f->gpa & 4095) + reach) >> 6;
    uint64_t lines = (hi == 63 ? UINT64_MAX : BIT64(hi + 1) - 1) & ~(BIT64(lo) - 1);
    uint64_t had = atomic_load(mem_code_word(f->region, f->gpa));
    mark_lines(cc, f->region, f->gpa, lines);

    guest_copy(out->bytes, f->host, avail);
    decode_block(c, out->bytes, avail, avail, max, out);
    if (out->needs_next_page) {
        /* One instruction across the border. */
        struct fetch f2;
        pthread_mutex_unlock(&cc->lock);
        fetch_translate(c, (lin & PAGE_MASK_4K) + 4096, &f2); /* may raise */
        pthread_mutex_lock(&cc->lock);
        /* A store meanwhile found no block there and took the mark away. */
        mark_lines(cc, f->region, f->gpa, lines);
        if (f2.region)
            mark_lines(cc, f2.region, f2.gpa, 1);
        guest_copy(out->bytes, f->host, in_page);
        memset(out->bytes + in_page, 0xff, INSN_MAX); /* what a bus without memory answers */
        if (f2.region)
            guest_copy(out->bytes + in_page, f2.host, INSN_MAX);
        phys2 = f2.gpa;
        decode_block(c, out->bytes, in_page, in_page + INSN_MAX, 1, out);
        struct block *again = find(cc, f->gpa, c->mode);
        if (again)
            kill_block(cc, again);
    }

    struct block *b = arena_alloc(cc->arena, sizeof *b + (out->nops + 1) * sizeof(struct op));
    if (!b) {
        pthread_mutex_unlock(&cc->lock);
        err_set(VC_ENOMEM, "no host memory for decoded code; close other programs");
        emu_exit_error(c, VC_ENOMEM);
    }
    *b = (struct block){.phys = f->gpa,
                        .phys2 = phys2,
                        .mode = c->mode,
                        .nops = (uint16_t)out->nops,
                        .bytes = (uint16_t)out->used,
                        .warm = warm_after(cc, f->gpa),
                        .arena = cc->arena};
    memcpy(b->op, out->op, (out->nops + 1) * sizeof(struct op));
    /* Give back lines that were marked for reach only. */
    uint64_t keep = had | block_lines(b, f->gpa & PAGE_MASK_4K);
    atomic_fetch_and(mem_code_word(f->region, f->gpa), ~(lines & ~keep));
    insert(cc, b);
    c->stats.decoded++;
    return b;
}

/* Is an entry of before a flush right for this address again? Its block is there
 * while this vCPU has not let go. */
static bool known_again(const struct emu *c, const struct jcache_ent *e, uint64_t lin,
                        uint64_t phys)
{
    return e->lin == lin && e->tag >> 8 >= c->jcache->safe_gen && e->block->phys == phys &&
           e->block->mode == c->mode && e->block->phys2 == NO_PAGE &&
           !atomic_load_explicit(&e->block->dead, memory_order_relaxed);
}

static struct block *jcache_put(struct emu *c, struct jcache_ent *e, struct block *b, uint64_t lin)
{
    if (!(c->mode & MODE_CODE64) && b->bytes > 1)
        fetch_check_cs(c, b->bytes);
    e->lin = lin;
    e->tag = c->jtag;
    e->block = b;
    const struct jit_block *jb = block_jit(b);
    e->code = !c->vm->jit ? NULL : jb ? jb->code : jit_gates(c->vm->jit)->leave_entry;
    return b;
}

struct block *block_lookup_slow(struct emu *c, uint64_t lin)
{
    struct code_cache *cc = c->vm->code;
    struct jcache_ent *e = &c->jcache->e[jcache_index(lin)];
    struct fetch f;
    struct block *b;

    c->block = NULL;
    c->op = NULL;
    if (atomic_load_explicit(&cc->crowded, memory_order_relaxed))
        code_quiesce(c);
    fetch_check_cs(c, 1);
    fetch_translate(c, lin, &f);
    if (!f.region) /* nothing there to fetch from: all ones, which is no instruction */
        emu_raise(c, EXC_UD);
    if (known_again(c, e, lin, f.gpa))
        return jcache_put(c, e, e->block, lin);

    pthread_mutex_lock(&cc->lock);
    make_room(cc);
    b = find(cc, f.gpa, c->mode);
    if (b && b->phys2 != NO_PAGE) {
        /* The second page's mapping is not part of the key. */
        struct fetch f2;
        uint64_t phys2 = b->phys2;
        pthread_mutex_unlock(&cc->lock);
        fetch_translate(c, (lin & PAGE_MASK_4K) + 4096, &f2);
        pthread_mutex_lock(&cc->lock);
        b = find(cc, f.gpa, c->mode);
        if (b && (!f2.region || f2.gpa != phys2 || b->phys2 != phys2)) {
            kill_block(cc, b);
            b = NULL;
        }
    }
    if (!b)
        b = make(c, cc, lin, &f); /* may raise */
    pthread_mutex_unlock(&cc->lock);
    return jcache_put(c, e, b, lin);
}
