/* SPDX-License-Identifier: MIT
 * One guest, from its image to its end: a thread for each vCPU, and the main
 * thread waiting for whatever ends the run. */
#include "run.h"
#include "console.h"
#include "devices.h"
#include "image.h"
#include "stats.h"
#include "tty.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define CPUS_MAX 64

struct machine {
    const struct options *o;
    vc_vm *vm;
    vc_cpu *cpu[CPUS_MAX];
    pthread_t thread[CPUS_MAX];
    unsigned nthreads;
    struct console console;
    int stop_fd, signal_fd;
    _Atomic int status; /* -1: it runs */
    struct {
        pthread_mutex_t lock;
        pthread_cond_t go;
        unsigned in, times; /* vCPUs that came; how often the guest went on */
    } pause;
    char why[256]; /* said at the end; written by whoever set the status */
};

/* ---- ending ------------------------------------------------------------------- */

/* The first reason counts. */
static void end(struct machine *m, int status, const char *why)
{
    int running = -1;
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&once);
    if (atomic_compare_exchange_strong(&m->status, &running, status))
        snprintf(m->why, sizeof m->why, "%s", why);
    pthread_mutex_unlock(&once);
    uint64_t one = 1;
    if (write(m->stop_fd, &one, sizeof one) < 0)
        abort(); /* an eventfd takes 2^64 - 2 of them */
}

static void end_by_console(void *ud, int status)
{
    end(ud, status, status == STATUS_ESCAPE ? "ended by Ctrl-A x" : "");
}

static void end_by_error(struct machine *m, const char *what)
{
    char why[256];
    snprintf(why, sizeof why, "%s: %s (%s)", what, vc_errmsg(), vc_errname(vc_errcode()));
    end(m, STATUS_ERROR, why);
}

/* A panicked kernel ends by a reset, mostly: its console told it from a reboot. */
static void end_by_guest(struct machine *m, int status, const char *why)
{
    if (status != STATUS_PANIC && atomic_load(&m->console.panicked)) {
        status = STATUS_PANIC;
        why = "the guest's kernel panicked";
    }
    end(m, status, why);
}

static void end_by_power(struct machine *m, uint32_t kind, uint32_t code)
{
    char why[64];
    switch (kind) {
    case VC_POWER_OFF: end_by_guest(m, STATUS_OFF, ""); break;
    case VC_POWER_RESET: end_by_guest(m, STATUS_RESET, "the guest rebooted"); break;
    case VC_POWER_PANIC: end_by_guest(m, STATUS_PANIC, "the guest panicked"); break;
    default:
        snprintf(why, sizeof why, "the guest ended with status %u", code & 0xff);
        end(m, (int)(code & 0xff), m->o->verbose ? why : "");
        break;
    }
}

/* ---- vCPUs --------------------------------------------------------------------- */

/* The guest suspended itself. There is nothing to do meanwhile, so it goes on as soon as
 * all vCPUs are here. */
static void suspended(struct machine *m)
{
    pthread_mutex_lock(&m->pause.lock);
    unsigned times = m->pause.times;
    if (++m->pause.in == m->o->cpus) {
        m->pause.in = 0;
        m->pause.times++;
        pthread_cond_broadcast(&m->pause.go);
        if (vc_resume(m->vm))
            end_by_error(m, "the guest cannot go on");
    }
    while (times == m->pause.times && atomic_load(&m->status) < 0) {
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_sec++; /* the run may end meanwhile */
        pthread_cond_timedwait(&m->pause.go, &m->pause.lock, &soon);
    }
    pthread_mutex_unlock(&m->pause.lock);
}

/* What nobody answers: reads float high, writes go nowhere. */
static void unanswered(struct vc_exit *x)
{
    if (x->kind == VC_EXIT_PORT && !x->u.port.write)
        x->u.port.data = UINT32_MAX;
    else if (x->kind == VC_EXIT_MMIO && !x->u.mmio.write)
        x->u.mmio.data = UINT64_MAX;
    else if (x->kind == VC_EXIT_HCALL)
        x->u.hcall.ret = UINT64_MAX;
}

static void *cpu_thread(void *ud)
{
    struct machine *m = ((void **)ud)[0];
    vc_cpu *cpu = ((void **)ud)[1];
    free(ud);
    struct vc_exit x = {.size = sizeof x};
    while (atomic_load(&m->status) < 0) {
        if (vc_run(cpu, NULL, &x)) {
            end_by_error(m, "the run failed");
            break;
        }
        switch (x.kind) {
        case VC_EXIT_PORT:
        case VC_EXIT_MMIO:
        case VC_EXIT_HCALL: unanswered(&x); break;
        case VC_EXIT_POWER:
            if (x.u.power.kind == VC_POWER_SUSPEND)
                suspended(m);
            else
                end_by_power(m, x.u.power.kind, x.u.power.code);
            break;
        case VC_EXIT_SHUTDOWN: end_by_guest(m, STATUS_SHUTDOWN, "triple fault"); break;
        case VC_EXIT_HLT: end_by_guest(m, STATUS_OFF, "the guest halted for good"); break;
        default: break;
        }
    }
    return NULL;
}

static bool start_cpu(struct machine *m, unsigned i)
{
    void **args = malloc(2 * sizeof *args);
    if (!args)
        return false;
    args[0] = m;
    args[1] = m->cpu[i];
    if (pthread_create(&m->thread[i], NULL, cpu_thread, args)) {
        free(args);
        return false;
    }
    m->nthreads++;
    return true;
}

/* ---- building -------------------------------------------------------------------- */

static void log_line(void *ud, int level, const char *line)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    struct machine *m = ud;
    fprintf(stderr, "minivm: %s: %s%s\n", names[level & 3], line, m->console.tty ? "\r" : "");
}

static bool load(struct machine *m, const struct image *image, const struct image *initrd)
{
    char *line = image_cmdline(image, m->o->append,
                               m->o->virt != VC_VIRT_HVM ? "console=hvc0" : "console=ttyS0");
    struct vc_boot_opts boot = {
        .size = sizeof boot,
        .kind = m->o->flat ? VC_IMAGE_FLAT : VC_IMAGE_AUTO,
        .virt = (uint32_t)m->o->virt,
        .kernel = image->bytes,
        .kernel_len = image->len,
        .initrd = initrd->bytes,
        .initrd_len = initrd->len,
        .cmdline = line,
    };
    int rc = vc_boot(m->vm, &boot);
    free(line);
    return !rc;
}

static bool build(struct machine *m, const struct image *image, const struct image *initrd)
{
    const struct options *o = m->o;
    struct vc_vm_opts opts = {
        .size = sizeof opts,
        .mem_quota = o->ram + o->ram / 256 + (16u << 20),
        .engine = o->engine,
        .flags = (o->stats ? VC_OPT_SAMPLE : 0) | (o->perf_map ? VC_OPT_PERF_MAP : 0),
        .perf_symbols = o->symbols,
        .log = log_line,
        .log_ud = m,
        .log_level = o->verbose ? VC_LOG_DEBUG : VC_LOG_WARN,
    };
    struct vc_pc_opts pc = {
        .size = sizeof pc,
        .ram = o->ram,
        .cpus = o->cpus,
        .flags = o->testdev ? VC_PC_TESTDEV : 0,
        .serial_out = console_output,
        .serial_ud = &m->console,
        .irqchip = o->irqchip,
    };
    m->vm = vc_open(o->backend, &opts);
    if (!m->vm || vc_pc(m->vm, &pc))
        return false;
    for (unsigned i = 0; i < o->cpus; i++) {
        m->cpu[i] = vc_cpu_new(m->vm, i ? VC_MODE_WAIT_SIPI : VC_MODE_RESET, 0);
        if (!m->cpu[i])
            return false;
    }
    return devices_add(m->vm, o) && load(m, image, initrd);
}

/* ---- waiting ------------------------------------------------------------------------ */

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void on_signal(struct machine *m)
{
    struct signalfd_siginfo si;
    char why[64];
    if (read(m->signal_fd, &si, sizeof si) != sizeof si)
        return;
    if (si.ssi_signo == SIGCONT) {
        if (m->console.tty)
            tty_raw(); /* whoever stopped minivm had the terminal meanwhile */
        return;
    }
    snprintf(why, sizeof why, "ended by signal %u", si.ssi_signo);
    end(m, 128 + (int)si.ssi_signo, why);
}

/* Until something set the status. */
static void wait_end(struct machine *m)
{
    uint64_t limit = m->o->timeout > 0 ? now_ms() + (uint64_t)(m->o->timeout * 1000) : 0;
    while (atomic_load(&m->status) < 0) {
        struct pollfd fds[2] = {{.fd = m->stop_fd, .events = POLLIN},
                                {.fd = m->signal_fd, .events = POLLIN}};
        int wait = -1;
        if (limit) {
            uint64_t now = now_ms(), left = now < limit ? limit - now : 0;
            if (!left) {
                end_by_guest(m, STATUS_TIMEOUT, "the time is up");
                break;
            }
            wait = left < INT32_MAX ? (int)left : INT32_MAX;
        }
        if (poll(fds, 2, wait) > 0 && fds[1].revents)
            on_signal(m);
    }
}

/* ---- the run --------------------------------------------------------------------------- */

static void execute(struct machine *m)
{
    m->console.tty = tty_raw();
    for (unsigned i = 0; i < m->o->cpus; i++) {
        if (!start_cpu(m, i)) {
            end(m, STATUS_ERROR, "the host gives no thread for a vCPU");
            break;
        }
    }
    if (console_start(&m->console, m->vm))
        end(m, STATUS_ERROR, "the host gives no threads for the console");
    wait_end(m);
    for (unsigned i = 0; i < m->nthreads; i++)
        vc_kick(m->cpu[i]);
    for (unsigned i = 0; i < m->nthreads; i++)
        pthread_join(m->thread[i], NULL);
    console_stop(&m->console);
    tty_restore();
}

static int run_images(struct machine *m, const struct image *image, const struct image *initrd)
{
    if (!build(m, image, initrd)) {
        fprintf(stderr, "minivm: %s (%s)\n", vc_errmsg(), vc_errname(vc_errcode()));
        return STATUS_ERROR;
    }
    execute(m);
    if (*m->why)
        fprintf(stderr, "minivm: %s\n", m->why);
    if (m->o->stats)
        stats_print(m->cpu, m->o->cpus);
    return atomic_load(&m->status);
}

/* Signals that end minivm arrive as bytes in the main thread; all threads made
 * later inherit the mask. */
static bool prepare(struct machine *m)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGCONT);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL))
        return false;
    m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    m->stop_fd = eventfd(0, EFD_CLOEXEC);
    return m->signal_fd >= 0 && m->stop_fd >= 0;
}

int run(const struct options *o)
{
    static struct machine m;
    struct image image = {0}, initrd = {0};
    int status = STATUS_ERROR;
    if (o->cpus > CPUS_MAX) {
        fprintf(stderr, "minivm: %u CPUs: a machine has 1 to %d\n", o->cpus, CPUS_MAX);
        return STATUS_USAGE;
    }
    m = (struct machine){.o = o, .status = -1, .stop_fd = -1, .signal_fd = -1};
    pthread_mutex_init(&m.pause.lock, NULL);
    pthread_cond_init(&m.pause.go, NULL);
    if (!image_read(&image, o->image) || (o->initrd && !image_read(&initrd, o->initrd))) {
        status = STATUS_ERROR;
    } else if (!prepare(&m)) {
        fprintf(stderr, "minivm: %s\n", strerror(errno));
    } else {
        console_init(&m.console, false, m.stop_fd, end_by_console, &m);
        status = run_images(&m, &image, &initrd);
        for (unsigned i = 0; i < o->cpus; i++)
            vc_cpu_free(m.cpu[i]);
        vc_close(m.vm);
    }
    close(m.stop_fd);
    close(m.signal_fd);
    image_free(&image);
    image_free(&initrd);
    return status;
}
