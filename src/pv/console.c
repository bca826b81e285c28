/* SPDX-License-Identifier: MIT
 * The console: a ring in a page of the guest's, and lines by hypercall for before the
 * ring is used. */
#include "domain.h"
#include "../mmu/guest.h"
#include <time.h>
#include <xen/io/console.h>

static struct xencons_interface *ring(struct pv_domain *d)
{
    return pv_frame_ptr(d, d->console_mfn);
}

#define LOAD(x)     __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define STORE(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELEASE)

/* ---- output ----------------------------------------------------------------------------- */

/* Indices may be anything: at most a ring full is taken. */
static void drain(struct pv_domain *d)
{
    struct xencons_interface *r = ring(d);
    uint8_t buf[sizeof r->out];
    uint32_t cons = LOAD(r->out_cons), n = LOAD(r->out_prod) - cons;
    if (!n)
        return;
    if (n > sizeof buf)
        n = sizeof buf;
    for (uint32_t i = 0; i < n; i++)
        buf[i] = (uint8_t)LOAD(r->out[MASK_XENCONS_IDX(cons + i, r->out)]);
    STORE(r->out_cons, cons + n);
    if (d->host.out)
        d->host.out(d->host.out_ud, buf, n);
    pv_port_notify(d, d->console_port);
}

void pv_console_kick(void *ud)
{
    struct pv_domain *d = ud;
    pthread_mutex_lock(&d->console_lock);
    drain(d);
    pthread_cond_broadcast(&d->console_room); /* it may have read, too */
    pthread_mutex_unlock(&d->console_lock);
}

/* ---- input ---------------------------------------------------------------------------------- */

static uint32_t room(struct pv_domain *d)
{
    struct xencons_interface *r = ring(d);
    uint32_t used = LOAD(r->in_prod) - LOAD(r->in_cons);
    return used < sizeof r->in ? (uint32_t)sizeof r->in - used : 0;
}

size_t pv_console_in(struct pv_domain *d, const uint8_t *bytes, size_t n)
{
    struct xencons_interface *r = ring(d);
    pthread_mutex_lock(&d->console_lock);
    uint32_t prod = LOAD(r->in_prod), k = (uint32_t)min_u64(n, room(d));
    for (uint32_t i = 0; i < k; i++)
        STORE(r->in[MASK_XENCONS_IDX(prod + i, r->in)], (char)bytes[i]);
    STORE(r->in_prod, prod + k);
    pthread_mutex_unlock(&d->console_lock);
    if (k)
        pv_port_notify(d, d->console_port);
    return k;
}

int pv_console_wait(struct pv_domain *d, int timeout_ms)
{
    struct timespec until;
    int rc = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    if (timeout_ms > 0) {
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += timeout_ms % 1000 * 1000000l;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
    }
    pthread_mutex_lock(&d->console_lock);
    while (!d->down && !room(d) && !rc && timeout_ms)
        rc = timeout_ms < 0 ? pthread_cond_wait(&d->console_room, &d->console_lock)
                            : pthread_cond_timedwait(&d->console_room, &d->console_lock, &until);
    rc = !d->down && room(d);
    pthread_mutex_unlock(&d->console_lock);
    return rc;
}

void pv_console_down(struct pv_domain *d)
{
    pthread_mutex_lock(&d->console_lock);
    d->down = true;
    pthread_cond_broadcast(&d->console_room);
    pthread_mutex_unlock(&d->console_lock);
}

/* ---- console_io
 * ---------------------------------------------------------------------------------- */

static void put_log(struct pv_domain *d, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] != '\n' && d->line_len < sizeof d->line - 1) {
            if (s[i] != '\r')
                d->line[d->line_len++] = s[i];
            continue;
        }
        d->line[d->line_len] = '\0';
        d->line_len = 0;
        if (d->host.log)
            d->host.log(d->host.ctx, VC_LOG_INFO, "guest: %s", d->line);
    }
}

/* Lines for the hypervisor's log. */
long hc_console_io(struct pv_vcpu *v, const uint64_t a[6])
{
    char buf[256];
    uint64_t left = (uint32_t)a[1], at = a[2];
    if ((uint32_t)a[0] != CONSOLEIO_write)
        return (uint32_t)a[0] == CONSOLEIO_read ? 0 : -XEN_ENOSYS;
    if (left > 65536)
        return -XEN_EINVAL;
    while (left) {
        size_t n = min_u64(left, sizeof buf);
        if (!pv_copy_from(v, buf, at, n))
            return -XEN_EFAULT;
        pthread_mutex_lock(&v->d->console_lock);
        put_log(v->d, buf, n);
        pthread_mutex_unlock(&v->d->console_lock);
        at += n;
        left -= n;
    }
    return 0;
}
