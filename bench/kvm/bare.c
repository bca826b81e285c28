/* SPDX-License-Identifier: MIT
 * The least that a program needs to run a guest on KVM: what the library is measured
 * against. */
#include "kvmbench.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CPUID_ROOM 128

struct bare_guest {
    int kvm, vm, cpu, bell;
    uint8_t *ram;
    struct kvm_run *run;
    size_t run_size;
    uint32_t sum;
    pthread_t thread;
    _Atomic bool inside;
};

static void ignore(int sig)
{
    (void)sig;
}

static void bare_close(void *guest)
{
    struct bare_guest *g = guest;
    if (g->run)
        munmap(g->run, g->run_size);
    if (g->cpu > 0)
        close(g->cpu);
    if (g->vm > 0)
        close(g->vm);
    if (g->bell > 0)
        close(g->bell);
    if (g->kvm > 0)
        close(g->kvm);
    if (g->ram)
        munmap(g->ram, RAM);
    free(g);
}

/* The processor as KVM offers it. */
static int set_cpuid(struct bare_guest *g)
{
    struct kvm_cpuid2 *id = calloc(1, sizeof *id + CPUID_ROOM * sizeof *id->entries);
    if (!id)
        return -1;
    id->nent = CPUID_ROOM;
    int rc = ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, id);
    if (!rc)
        rc = ioctl(g->cpu, KVM_SET_CPUID2, id);
    free(id);
    return rc;
}

static int fill(struct bare_guest *g, const struct guest_code *code)
{
    if ((g->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0 ||
        ioctl(g->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION ||
        (g->vm = ioctl(g->kvm, KVM_CREATE_VM, 0ul)) < 0)
        return -1;
    void *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ram == MAP_FAILED)
        return -1;
    g->ram = ram;
    memcpy(g->ram + CODE, code->bytes, code->len);
    struct kvm_userspace_memory_region slot = {.memory_size = RAM,
                                               .userspace_addr = (uintptr_t)ram};
    int size = ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &slot) || size < 0 ||
        (g->cpu = ioctl(g->vm, KVM_CREATE_VCPU, 0ul)) < 0)
        return -1;
    void *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, g->cpu, 0);
    if (run == MAP_FAILED)
        return -1;
    g->run = run;
    g->run_size = (size_t)size;
    g->bell = code->bell ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : 0;
    struct kvm_ioeventfd e = {
        .addr = BELL, .len = 1, .fd = g->bell, .flags = KVM_IOEVENTFD_FLAG_PIO};
    if (code->bell && (g->bell < 0 || ioctl(g->vm, KVM_IOEVENTFD, &e)))
        return -1;
    struct kvm_sregs s;
    if (set_cpuid(g) || ioctl(g->cpu, KVM_GET_SREGS, &s))
        return -1;
    s.cs.base = s.cs.selector = 0;
    return ioctl(g->cpu, KVM_SET_SREGS, &s);
}

static void *bare_open(const struct guest_code *code)
{
    struct bare_guest *g = calloc(1, sizeof *g);
    if (g && fill(g, code)) {
        complain("bare KVM", strerror(errno));
        bare_close(g);
        return NULL;
    }
    return g;
}

static bool enter(struct bare_guest *g, uint16_t n)
{
    struct kvm_regs r = {.rip = CODE, .rflags = 2, .rcx = n};
    return !ioctl(g->cpu, KVM_SET_REGS, &r);
}

/* What is written is taken, what is read is answered. */
static void port(struct bare_guest *g)
{
    uint8_t *data = (uint8_t *)g->run + g->run->io.data_offset;
    if (g->run->io.direction == KVM_EXIT_IO_OUT)
        g->sum += *data;
    else
        *data = 0x5a;
}

static bool bare_run(void *guest, uint16_t n)
{
    struct bare_guest *g = guest;
    if (!enter(g, n))
        return false;
    for (;;) {
        if (ioctl(g->cpu, KVM_RUN, 0))
            return false;
        switch (g->run->exit_reason) {
        case KVM_EXIT_IO: port(g); break;
        case KVM_EXIT_MMIO: g->sum += g->run->mmio.data[0]; break;
        case KVM_EXIT_HLT: return true;
        default: return false;
        }
    }
}

static bool bare_spin(void *guest)
{
    struct bare_guest *g = guest;
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = ignore}, NULL);
    g->thread = pthread_self();
    atomic_store(&g->inside, true);
    bool kicked = enter(g, 0) && ioctl(g->cpu, KVM_RUN, 0) < 0 && errno == EINTR;
    g->run->immediate_exit = 0;
    return kicked;
}

static void bare_kick(void *guest)
{
    struct bare_guest *g = guest;
    while (!atomic_exchange(&g->inside, false))
        usleep(100);
    g->run->immediate_exit = 1;
    pthread_kill(g->thread, SIGUSR1);
}

const struct side bare = {"bare", bare_open, bare_close, bare_run, bare_spin, bare_kick};
