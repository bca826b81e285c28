/* SPDX-License-Identifier: MIT
 * The same guests through the library. */
#include "kvmbench.h"
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

const char *library_backend = "kvm";

struct library_guest {
    vc_vm *vm;
    vc_cpu *cpu;
    struct vc_exit exit;
    uint32_t sum;
};

static void library_close(void *guest)
{
    struct library_guest *g = guest;
    vc_close(g->vm);
    free(g);
}

static void *returned_open(const struct guest_code *code)
{
    struct library_guest *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->exit.size = sizeof g->exit;
    vc_errclear();
    g->vm = vc_open(library_backend, NULL);
    vc_map(g->vm, 0, RAM, VC_MEM_RWX);
    vc_write(g->vm, CODE, code->bytes, code->len);
    if (code->bell) {
        struct vc_bind b = {.size = sizeof b, .kind = VC_BIND_WRITE, .addr = BELL, .len = 1};
        b.space = VC_SPACE_PORT;
        b.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        vc_bind_fd(g->vm, &b); /* which keeps a copy */
        close(b.fd);
    }
    g->cpu = vc_cpu_new(g->vm, VC_MODE_REAL16, CODE);
    if (vc_errcode()) {
        complain("the library", vc_errmsg());
        library_close(g);
        return NULL;
    }
    return g;
}

static int trap(void *ud, struct vc_access *a)
{
    struct library_guest *g = ud;
    if (a->write)
        g->sum += (uint8_t)a->data;
    else
        a->data = 0x5a;
    return 0;
}

static int hypercall(void *ud, vc_cpu *cpu, uint64_t nr, const uint64_t args[6], uint64_t *ret)
{
    struct library_guest *g = ud;
    (void)cpu, (void)args;
    g->sum += (uint8_t)nr;
    *ret = 0;
    return 0;
}

static void *trapped_open(const struct guest_code *code)
{
    struct library_guest *g = returned_open(code);
    if (g && (vc_trap(g->vm, VC_SPACE_PORT, PORT, 1, trap, g) < 0 ||
              vc_trap(g->vm, VC_SPACE_MMIO, MMIO, 0x1000, trap, g) < 0 ||
              vc_hcall_set(g->vm, hypercall, g) < 0)) {
        complain("the library", vc_errmsg());
        library_close(g);
        return NULL;
    }
    return g;
}

static bool enter(struct library_guest *g, uint16_t n)
{
    struct vc_gprs r = {.size = sizeof r, .rip = CODE, .rflags = 2};
    r.gpr[VC_REG_RCX] = n;
    return !vc_gprs_set(g->cpu, &r);
}

static void port(struct library_guest *g)
{
    if (g->exit.u.port.write)
        g->sum += (uint8_t)g->exit.u.port.data;
    else
        g->exit.u.port.data = 0x5a;
}

static bool library_run(void *guest, uint16_t n)
{
    struct library_guest *g = guest;
    if (!enter(g, n))
        return false;
    for (;;) {
        if (vc_run(g->cpu, NULL, &g->exit))
            return false;
        switch (g->exit.kind) {
        case VC_EXIT_PORT: port(g); break;
        case VC_EXIT_MMIO: g->sum += (uint8_t)g->exit.u.mmio.data; break;
        case VC_EXIT_HLT: return true;
        default: return false;
        }
    }
}

static bool library_spin(void *guest)
{
    struct library_guest *g = guest;
    return enter(g, 0) && !vc_run(g->cpu, NULL, &g->exit) && g->exit.kind == VC_EXIT_KICK;
}

static void library_kick(void *guest)
{
    vc_kick(((struct library_guest *)guest)->cpu);
}

const struct side trapped = {"trap",      trapped_open, library_close,
                             library_run, library_spin, library_kick};
const struct side returned = {"exit",      returned_open, library_close,
                              library_run, library_spin,  library_kick};
