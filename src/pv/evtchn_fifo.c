/* SPDX-License-Identifier: MIT
 * Events in queues, of 16 priorities for each vCPU. A port's word says whether it is
 * pending, masked and linked, and which port comes after it; a block for each vCPU has
 * the heads, and which queues have any. The words are the guest's to change at any time:
 * what is read there leads only to words of ports that are. */
#include "domain.h"
#include <stdlib.h>

#define PENDING (1u << EVTCHN_FIFO_PENDING)
#define MASKED  (1u << EVTCHN_FIFO_MASKED)
#define LINKED  (1u << EVTCHN_FIFO_LINKED)
#define BUSY    (1u << EVTCHN_FIFO_BUSY)
#define LINK    ((uint32_t)EVTCHN_FIFO_LINK_MASK)

/* How often a word may change under our hands before its guest only wants to hold us. */
#define TRIES 64u

/* NULL: the guest gave no frame for it yet. */
static event_word_t *word_of(const struct pv_domain *d, uint32_t port)
{
    const struct pv_fifo *f = d->fifo;
    unsigned frame = port / FIFO_PER_FRAME;
    return frame < f->frames ? &f->words[frame][port % FIFO_PER_FRAME] : NULL;
}

static event_word_t load(const event_word_t *w)
{
    return __atomic_load_n(w, __ATOMIC_SEQ_CST);
}

static bool swap(event_word_t *w, event_word_t *was, event_word_t now)
{
    return __atomic_compare_exchange_n(w, was, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* ---- queues ----------------------------------------------------------------------------- */

/* It is to be put into a queue: pending, not masked, and in none. */
static bool link_claim(event_word_t *word)
{
    event_word_t w = load(word);
    for (unsigned i = 0; i < TRIES; i++) {
        if ((w & (PENDING | MASKED | LINKED)) != PENDING)
            return false;
        if (swap(word, &w, (w | LINKED) & ~LINK))
            return true;
    }
    return false;
}

/* The port comes after the one with that word, if that is in the queue still. While BUSY
 * is set the guest leaves the mask bit alone. */
static bool link_after(event_word_t *word, uint32_t port)
{
    event_word_t w = load(word);
    bool done = false;
    for (unsigned i = 0; i < TRIES && w & LINKED && !done; i++) {
        if (i == TRIES / 2)
            w = __atomic_or_fetch(word, BUSY, __ATOMIC_SEQ_CST);
        done = swap(word, &w, (w & ~(BUSY | LINK)) | port);
    }
    if (!done)
        __atomic_fetch_and(word, ~BUSY, __ATOMIC_SEQ_CST);
    return done;
}

static void queue(struct pv_domain *d, uint32_t port, event_word_t *word)
{
    struct pv_fifo *f = d->fifo;
    unsigned cpu = d->port[port].cpu, priority = f->port[port].priority;
    struct evtchn_fifo_control_block *block = f->cpu[cpu].block;
    uint32_t *tail = &f->cpu[cpu].tail[priority];
    uint32_t *last = &f->cpu[f->port[port].last_cpu].tail[f->port[port].last_priority];
    if (!block || !link_claim(word))
        return;
    /* Where it was the last one nobody is any more: its word leads elsewhere now. */
    if (*last == port)
        *last = 0;
    f->port[port].last_cpu = (uint16_t)cpu;
    f->port[port].last_priority = (uint8_t)priority;
    bool behind = *tail && link_after(word_of(d, *tail), port);
    *tail = port;
    if (behind)
        return;
    __atomic_store_n(&block->head[priority], port, __ATOMIC_SEQ_CST);
    if (!(__atomic_fetch_or(&block->ready, 1u << priority, __ATOMIC_SEQ_CST) >> priority & 1))
        pv_poke(&d->vcpu[cpu]);
}

/* ---- the layout ------------------------------------------------------------------------- */

static bool raise_port(struct pv_domain *d, uint32_t port)
{
    event_word_t *word = word_of(d, port);
    if (!word) {
        bool was = d->fifo->port[port].late;
        d->fifo->port[port].late = true;
        return !was;
    }
    event_word_t was = __atomic_fetch_or(word, PENDING, __ATOMIC_SEQ_CST);
    if (!(was & (MASKED | LINKED)))
        queue(d, port, word);
    return !(was & PENDING);
}

static bool pending(const struct pv_domain *d, uint32_t port)
{
    const event_word_t *word = word_of(d, port);
    return word ? load(word) & PENDING : d->fifo->port[port].late;
}

static void clear(struct pv_domain *d, uint32_t port)
{
    event_word_t *word = word_of(d, port);
    d->fifo->port[port].late = false;
    if (word)
        __atomic_fetch_and(word, ~PENDING, __ATOMIC_SEQ_CST);
}

static void unmask(struct pv_domain *d, uint32_t port)
{
    event_word_t *word = word_of(d, port);
    if (word && __atomic_and_fetch(word, ~MASKED, __ATOMIC_SEQ_CST) & PENDING)
        queue(d, port, word);
}

static void open_port(struct pv_domain *d, uint32_t port)
{
    d->fifo->port[port].priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
    clear(d, port);
}

/* It stays in the queue where it is, and goes to the new vCPU's the next time. */
static void moved(struct pv_domain *d, uint32_t port)
{
    event_word_t *word = word_of(d, port);
    if (word)
        queue(d, port, word);
}

/* The guest takes it from its queue when it comes by. */
static bool busy(const struct pv_domain *d, uint32_t port)
{
    const event_word_t *word = word_of(d, port);
    return word && load(word) & LINKED;
}

const struct port_layout pv_layout_fifo = {
    .raise = raise_port,
    .pending = pending,
    .clear = clear,
    .unmask = unmask,
    .open = open_port,
    .moved = moved,
    .busy = busy,
};

/* ---- what the guest asks for --------------------------------------------------------------- */

/* What is pending will be seen when its word is there. */
static int begin(struct pv_domain *d)
{
    struct pv_fifo *f = calloc(1, sizeof *f);
    if (!f)
        return -XEN_ENOMEM;
    for (uint32_t i = 0; i < PORTS_MAX; i++) {
        f->port[i].priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
        f->port[i].late = i && d->port[i].state != PORT_FREE && d->layout->pending(d, i);
    }
    d->fifo = f;
    d->layout = &pv_layout_fifo;
    return 0;
}

long pv_fifo_control(struct pv_domain *d, struct evtchn_init_control *op)
{
    if (op->vcpu >= d->host.ncpu)
        return -XEN_ENOENT;
    if (op->offset > PAGE - sizeof(struct evtchn_fifo_control_block) || op->offset % 8)
        return -XEN_EINVAL;
    if (d->fifo && d->fifo->cpu[op->vcpu].block)
        return -XEN_EINVAL; /* once */
    if (pv_frame_get_type(d, op->control_gfn, TYPE_WRITABLE))
        return -XEN_EINVAL;
    int rc = d->fifo ? 0 : begin(d);
    if (rc) {
        pv_frame_put_type(d, op->control_gfn);
        return rc;
    }
    d->fifo->cpu[op->vcpu].mfn = op->control_gfn;
    d->fifo->cpu[op->vcpu].block =
        (struct evtchn_fifo_control_block *)((uint8_t *)pv_frame_ptr(d, op->control_gfn) +
                                             op->offset);
    op->link_bits = EVTCHN_FIFO_LINK_BITS;
    for (uint32_t i = 1; i < PORTS_MAX; i++) /* events that had no queue to go to */
        if (d->port[i].state != PORT_FREE && d->port[i].cpu == op->vcpu)
            moved(d, i);
    return 0;
}

long pv_fifo_expand(struct pv_domain *d, const struct evtchn_expand_array *op)
{
    struct pv_fifo *f = d->fifo;
    if (!f)
        return -XEN_EOPNOTSUPP;
    if (f->frames == FIFO_FRAMES)
        return -XEN_ENOSPC;
    if (pv_frame_get_type(d, op->array_gfn, TYPE_WRITABLE))
        return -XEN_EINVAL;
    f->mfn[f->frames] = op->array_gfn;
    f->words[f->frames] = pv_frame_ptr(d, op->array_gfn);
    uint32_t first = f->frames++ * FIFO_PER_FRAME;
    for (uint32_t i = first; i < first + FIFO_PER_FRAME; i++)
        if (f->port[i].late) {
            f->port[i].late = false;
            raise_port(d, i);
        }
    return 0;
}

long pv_fifo_priority(struct pv_domain *d, const struct evtchn_set_priority *op)
{
    if (!d->fifo)
        return -XEN_ENOSYS;
    if (op->priority > EVTCHN_FIFO_PRIORITY_MIN)
        return -XEN_EINVAL;
    d->fifo->port[op->port].priority = (uint8_t)op->priority; /* from the next event on */
    return 0;
}

void pv_fifo_end(struct pv_domain *d)
{
    struct pv_fifo *f = d->fifo;
    if (!f)
        return;
    for (unsigned i = 0; i < f->frames; i++)
        pv_frame_put_type(d, f->mfn[i]);
    for (unsigned i = 0; i < d->host.ncpu; i++)
        if (f->cpu[i].block)
            pv_frame_put_type(d, f->cpu[i].mfn);
    d->fifo = NULL;
    d->layout = &pv_layout_2l;
    free(f);
}
