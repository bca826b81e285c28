/* SPDX-License-Identifier: MIT
 * 16550A (National Semiconductor PC16550D data sheet, section 8) at COM1.
 *
 * The transmitter sends in no time. The receiver never overruns: bytes from
 * outside wait in a queue and move into the 16-byte FIFO when it has room and
 * the guest listens, that is, when it enabled the receive interrupt or reads LSR
 * again and again. Without that rule a driver that clears the FIFOs while it
 * starts would eat input that was piped in before the guest was up.
 */
#include "pcdev.h"
#include "../base/err.h"

#define IER_RDA     0x01u /* received data available, and character timeout */
#define IER_THRE    0x02u
#define IER_LINE    0x04u
#define IER_MODEM   0x08u
#define IIR_NONE    0x01u
#define IIR_MODEM   0x00u
#define IIR_THRE    0x02u
#define IIR_RDA     0x04u
#define IIR_LINE    0x06u
#define IIR_TIMEOUT 0x0cu
#define IIR_FIFO    0xc0u
#define FCR_ENABLE  0x01u
#define FCR_CLR_RX  0x02u
#define LCR_DLAB    0x80u
#define MCR_DTR     0x01u
#define MCR_RTS     0x02u
#define MCR_OUT1    0x04u
#define MCR_OUT2    0x08u
#define MCR_LOOP    0x10u
#define LSR_DR      0x01u
#define LSR_OE      0x02u
#define LSR_THRE    0x20u
#define LSR_TEMT    0x40u
#define MSR_CTS     0x10u
#define MSR_DSR     0x20u
#define MSR_RI      0x40u
#define MSR_DCD     0x80u

/* Reads of LSR in a row that mean «waits for input»: the transmitter is always
 * empty, so nobody else has a reason to ask again. Drivers that start up look
 * once or twice. */
#define POLLS_LISTENING 8

static bool fifo_on(const struct uart *u)
{
    return u->s.fcr & FCR_ENABLE;
}

static unsigned trigger(const struct uart *u)
{
    static const uint8_t level[4] = {1, 4, 8, 14};
    return fifo_on(u) ? level[u->s.fcr >> 6] : 1;
}

static uint8_t iir(const struct uart *u)
{
    const struct uart_state *s = &u->s;
    uint8_t v = IIR_NONE;
    if ((s->ier & IER_LINE) && s->lsr_err)
        v = IIR_LINE;
    else if ((s->ier & IER_RDA) && s->fifo_len >= trigger(u))
        v = IIR_RDA;
    else if ((s->ier & IER_RDA) && s->timeout)
        v = IIR_TIMEOUT;
    else if ((s->ier & IER_THRE) && s->thre)
        v = IIR_THRE;
    else if ((s->ier & IER_MODEM) && (s->msr & 0x0f))
        v = IIR_MODEM;
    return v | (fifo_on(u) ? IIR_FIFO : 0);
}

/* A PC gates the line by OUT2, but guests exist that never set it and yet expect
 * interrupts, so it is not gated here. */
static void update_irq(struct uart *u)
{
    bool level = !(iir(u) & IIR_NONE);
    if (level != u->s.line) {
        u->s.line = level;
        irqchip_line(u->host->irq, PC_IRQ_UART, level);
    }
}

/* Four character times (data sheet 8.4.2), within what makes sense for a line
 * that has no speed of its own. */
static uint64_t timeout_ns(const struct uart *u)
{
    unsigned divisor = u->s.dll | (unsigned)u->s.dlm << 8;
    unsigned bits = 1 + 5 + (u->s.lcr & 3) + 1 + !!(u->s.lcr & 4) + !!(u->s.lcr & 8);
    uint64_t ns = 4ull * bits * divisor * 16 * 1000000000ull / 1843200;
    if (ns < 100000)
        ns = 100000;
    return ns > 5000000 ? 5000000 : ns;
}

/* The FIFO was read or filled: the timeout starts anew. The timer is left
 * running towards its old time and looks again then. */
static void restart_timeout(struct uart *u)
{
    struct uart_state *s = &u->s;
    s->timeout = false;
    if (!fifo_on(u) || !s->fifo_len || !(s->ier & IER_RDA))
        return;
    s->timeout_at = clock_now(u->host->clock) + timeout_ns(u);
    if (!s->timer_on) {
        s->timer_on = true;
        clock_timer_arm(u->timer, s->timeout_at);
    }
}

static void timeout_fired(void *ud)
{
    struct uart *u = ud;
    struct uart_state *s = &u->s;
    bus_lock(u->host->bus);
    s->timer_on = false;
    if (fifo_on(u) && s->fifo_len && (s->ier & IER_RDA)) {
        if (clock_now(u->host->clock) >= s->timeout_at) {
            s->timeout = true;
        } else {
            s->timer_on = true;
            clock_timer_arm(u->timer, s->timeout_at);
        }
    }
    update_irq(u);
    bus_unlock(u->host->bus);
}

static void publish_room(struct uart *u)
{
    bool room = u->s.q_len < UART_QUEUE;
    if (room == u->room_seen)
        return;
    u->room_seen = room;
    pthread_mutex_lock(&u->wait_lock);
    u->room = room;
    if (room)
        pthread_cond_broadcast(&u->wait_cond);
    pthread_mutex_unlock(&u->wait_lock);
}

/* Moves bytes from the queue into the FIFO as far as the guest listens. */
static void feed(struct uart *u)
{
    struct uart_state *s = &u->s;
    unsigned depth = 0;
    bool moved = false;

    if (s->mcr & MCR_LOOP)
        return;
    if (s->rts_seen && !(s->mcr & MCR_RTS))
        return;
    if (s->ier & IER_RDA)
        depth = fifo_on(u) ? UART_FIFO : 1;
    else if (s->polls >= POLLS_LISTENING)
        depth = 1;
    while (s->q_len && s->fifo_len < depth) {
        if (!s->fifo_len) {
            s->polled = !(s->ier & IER_RDA);
            s->seen = false;
        }
        s->fifo[s->fifo_len++] = s->queue[s->q_head];
        s->q_head = (s->q_head + 1) % sizeof s->queue;
        s->q_len--;
        moved = true;
    }
    if (moved) {
        restart_timeout(u);
        publish_room(u);
    }
}

/* What the guest has not received yet goes back: drivers that start up try the
 * interrupt bits and clear the FIFO before they ever look into it. The queue
 * keeps room for a FIFO's worth. */
static void put_back(struct uart *u)
{
    struct uart_state *s = &u->s;
    if (s->seen && !s->polled)
        return;
    while (s->fifo_len) {
        s->q_head = (s->q_head + sizeof s->queue - 1) % sizeof s->queue;
        s->queue[s->q_head] = s->fifo[--s->fifo_len];
        s->q_len++;
    }
}

static void clear_rx(struct uart *u)
{
    struct uart_state *s = &u->s;
    put_back(u);
    s->polled = false;
    s->fifo_len = 0;
    s->timeout = false;
    s->lsr_err = 0;
    publish_room(u);
}

/* Sets the modem lines and the change bits below them (data sheet 8.9). */
static void update_msr(struct uart *u)
{
    struct uart_state *s = &u->s;
    uint8_t now = MSR_CTS | MSR_DSR | MSR_DCD, diff;
    if (s->mcr & MCR_LOOP)
        now = (s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
              (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0);
    diff = (s->msr ^ now) & 0xf0;
    if ((diff & MSR_RI) && (now & MSR_RI)) /* only the trailing edge counts */
        diff &= (uint8_t)~MSR_RI;
    s->msr = now | (s->msr & 0x0f) | (diff >> 4);
}

static void write_thr(struct uart *u, uint8_t v)
{
    struct uart_state *s = &u->s;
    s->polls = 0; /* the looks before were for room to send */
    /* The interrupt drops and comes again: an edge for each byte. */
    s->thre = false;
    update_irq(u);
    if (s->mcr & MCR_LOOP) {
        if (s->fifo_len < (fifo_on(u) ? UART_FIFO : 1)) {
            s->fifo[s->fifo_len++] = v;
            s->polled = false;
            s->seen = true;
        } else {
            s->lsr_err |= LSR_OE;
            if (!fifo_on(u))
                s->fifo[0] = v;
        }
        restart_timeout(u);
    }
    s->thre = true;
    update_irq(u);
    if (!(s->mcr & MCR_LOOP) && u->out)
        u->out(u->out_ud, &v, 1);
}

static uint8_t read_rbr(struct uart *u)
{
    struct uart_state *s = &u->s;
    uint8_t v = 0;
    if (s->fifo_len) {
        v = s->fifo[0];
        s->seen = true;
        s->fifo_len--;
        memmove(s->fifo, s->fifo + 1, s->fifo_len);
    }
    restart_timeout(u);
    /* The line drops for a moment where the level fell below the trigger. */
    update_irq(u);
    if (s->ier & IER_RDA)
        feed(u);
    return v;
}

static void write_fcr(struct uart *u, uint8_t v)
{
    struct uart_state *s = &u->s;
    bool toggled = (v ^ s->fcr) & FCR_ENABLE;
    s->polls = 0;
    if (toggled || ((v & FCR_ENABLE) && (v & FCR_CLR_RX)))
        clear_rx(u);
    s->fcr = v & FCR_ENABLE ? v & 0xc9 : 0;
    feed(u);
}

static void write_ier(struct uart *u, uint8_t v)
{
    struct uart_state *s = &u->s;
    uint8_t on = v & ~s->ier, off = s->ier & ~v;
    s->polls = 0;
    s->ier = v & 0x0f;
    if (on & IER_THRE)
        s->thre = true;
    if ((off & IER_RDA) && !s->seen)
        put_back(u);
    if (on & IER_RDA) {
        s->polled = false;
        feed(u);
        restart_timeout(u);
    }
}

static uint8_t uart_read(void *ud, unsigned reg)
{
    struct uart *u = ud;
    struct uart_state *s = &u->s;
    bool dlab = s->lcr & LCR_DLAB;
    uint8_t v = 0;

    if (reg != 5)
        s->polls = 0;
    switch (reg) {
    case 0: v = dlab ? s->dll : read_rbr(u); break;
    case 1: v = dlab ? s->dlm : s->ier; break;
    case 2:
        v = iir(u);
        if ((v & 0x0f) == IIR_THRE)
            s->thre = false;
        if ((v & 0x0f) == IIR_RDA || (v & 0x0f) == IIR_TIMEOUT)
            s->seen = true;
        break;
    case 3: v = s->lcr; break;
    case 4: v = s->mcr; break;
    case 5:
        if (s->polls < POLLS_LISTENING)
            s->polls++;
        feed(u);
        s->seen |= s->fifo_len && (s->ier & IER_RDA);
        v = LSR_THRE | LSR_TEMT | (s->fifo_len ? LSR_DR : 0) | s->lsr_err;
        s->lsr_err = 0;
        break;
    case 6:
        v = s->msr;
        s->msr &= 0xf0;
        break;
    default: v = s->scr; break;
    }
    update_irq(u);
    return v;
}

static void uart_write(void *ud, unsigned reg, uint8_t v)
{
    struct uart *u = ud;
    struct uart_state *s = &u->s;
    bool dlab = s->lcr & LCR_DLAB;

    switch (reg) {
    case 0:
        if (!dlab) {
            write_thr(u, v);
            return;
        }
        s->dll = v;
        break;
    case 1:
        if (dlab)
            s->dlm = v;
        else
            write_ier(u, v);
        break;
    case 2: write_fcr(u, v); break;
    case 3:
        s->polls = 0;
        s->lcr = v;
        break;
    case 4:
        s->polls = 0;
        s->mcr = v & 0x1f;
        if ((v & (MCR_RTS | MCR_LOOP)) == MCR_RTS)
            s->rts_seen = true;
        update_msr(u);
        feed(u);
        break;
    case 7: s->scr = v; break;
    default: break; /* LSR and MSR: factory tests only */
    }
    update_irq(u);
}

int uart_access(void *ud, struct vc_access *a)
{
    return io8_access(a, PC_PORT_UART, 8, uart_read, uart_write, ud);
}

size_t uart_receive(struct uart *u, const uint8_t *bytes, size_t n)
{
    struct uart_state *s = &u->s;
    size_t done = 0;
    while (done < n && s->q_len < UART_QUEUE) {
        s->queue[(s->q_head + s->q_len) % sizeof s->queue] = bytes[done++];
        s->q_len++;
        if (s->q_len == UART_QUEUE || done == n)
            feed(u);
    }
    publish_room(u);
    update_irq(u);
    return done;
}

int uart_wait(struct uart *u, int timeout_ms)
{
    struct timespec end = {0, 0};
    int room, rc = 0;

    if (timeout_ms > 0) {
        uint64_t t = host_now_ns() + (uint64_t)timeout_ms * 1000000;
        end.tv_sec = (time_t)(t / 1000000000);
        end.tv_nsec = (long)(t % 1000000000);
    }
    pthread_mutex_lock(&u->wait_lock);
    while (!u->room && !u->down && rc == 0 && timeout_ms != 0) {
        if (timeout_ms < 0)
            rc = pthread_cond_wait(&u->wait_cond, &u->wait_lock);
        else
            rc = pthread_cond_timedwait(&u->wait_cond, &u->wait_lock, &end);
    }
    room = u->room && !u->down;
    pthread_mutex_unlock(&u->wait_lock);
    return room;
}

void uart_down(struct uart *u)
{
    pthread_mutex_lock(&u->wait_lock);
    u->down = true;
    pthread_cond_broadcast(&u->wait_cond);
    pthread_mutex_unlock(&u->wait_lock);
}

int uart_init(struct uart *u, const struct pc_host *host, vc_serial_out_fn *out, void *ud)
{
    pthread_condattr_t attr;

    memset(u, 0, sizeof *u);
    u->timer = clock_timer_new(host->clock, timeout_fired, u);
    if (!u->timer)
        return err_set(VC_ENOMEM, "no memory for the serial port's timer");
    u->host = host;
    u->out = out;
    u->out_ud = ud;
    u->room = u->room_seen = true;
    u->s.msr = MSR_CTS | MSR_DSR | MSR_DCD;
    u->s.dll = 1; /* as firmware leaves it: 115200 8N1 */
    u->s.lcr = 3;
    pthread_mutex_init(&u->wait_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&u->wait_cond, &attr);
    pthread_condattr_destroy(&attr);
    return 0;
}

void uart_fini(struct uart *u)
{
    if (!u->timer)
        return;
    clock_timer_free(u->timer);
    u->timer = NULL;
    pthread_cond_destroy(&u->wait_cond);
    pthread_mutex_destroy(&u->wait_lock);
}
