/* SPDX-License-Identifier: MIT
 * What can go wrong with a real /dev/kvm: each has a code and a sentence, and leaves
 * nothing behind. For the lab: it renames the device and changes its mode. */
#include "../unit/api.h"
#include "cpu/kvm/engine.h"
#include "vm/vm.h"
#include <dirent.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define AWAY "/dev/kvm-away"

static unsigned open_files(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    cr_assert_not_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* kvm is refused with this code and these words; auto takes emu, and says why. */
static bool refused_as(int code, const char *says)
{
    struct vc_probe_info info = {.size = sizeof info};
    struct vc_vm_info vi = {.size = sizeof vi};
    vc_errclear();
    bool ok = !vc_probe("kvm", &info) && !info.usable && strstr(info.reason, says);
    ok &= !vc_open("kvm", NULL) && vc_errcode() == code && strstr(vc_errmsg(), says);
    vc_vm *vm = vc_open("auto", NULL);
    ok &= vm && !vc_info(vm, &vi) && !strcmp(vi.backend, "emu") && strstr(vi.why, "/dev/kvm");
    if (!ok)
        fprintf(stderr, "%s; %s; %s\n", info.reason, vc_errmsg(), vi.why);
    return ok && !vc_close(vm);
}

Test(faults, the_device_is_not_there)
{
    works(rename(KVM_DEVICE, AWAY));
    bool ok = refused_as(VC_ENOTSUP, "does not exist");
    ok &= !symlink("/dev/null", KVM_DEVICE) && refused_as(VC_ENOTSUP, "is not KVM");
    unlink(KVM_DEVICE);
    works(rename(AWAY, KVM_DEVICE));
    cr_assert(ok);
}

Test(faults, no_permission)
{
    struct stat was;
    works(stat(KVM_DEVICE, &was));
    works(chmod(KVM_DEVICE, 0600));
    pid_t child = fork();
    if (!child)
        _exit(setuid(65534) || !refused_as(VC_EPERM, "group, kvm"));
    int status = -1;
    waitpid(child, &status, 0);
    works(chmod(KVM_DEVICE, was.st_mode & 07777));
    cr_assert_eq(status, 0);
}

Test(faults, auto_takes_it)
{
    struct vc_vm_info vi = {.size = sizeof vi};
    vc_vm *vm = vc_open("auto", NULL);
    cr_assert_not_null(vm, "%s", vc_errmsg());
    works(vc_info(vm, &vi));
    cr_assert_eq(strcmp(vi.backend, "kvm"), 0, "%s: %s", vi.backend, vi.why);
    works(vc_close(vm));
}

/* As much of a machine as the limit allows; what fails says how to get further. */
static bool limited(unsigned files)
{
    static const uint8_t code[] = {0xf4};
    struct rlimit was, few;
    struct vc_pc_opts pc = {.size = sizeof pc, .ram = 1 << 20, .cpus = 1};
    getrlimit(RLIMIT_NOFILE, &was);
    few = was;
    few.rlim_cur = files;
    setrlimit(RLIMIT_NOFILE, &few);
    vc_errclear();
    vc_vm *vm = vc_open("kvm", NULL);
    bool ok = vm && !vc_pc(vm, &pc) && !vc_write(vm, 0x1000, code, 1) &&
              vc_cpu_new(vm, VC_MODE_REAL16, 0x1000);
    int error = vc_errcode();
    bool says = strstr(vc_errmsg(), "ulimit");
    setrlimit(RLIMIT_NOFILE, &was);
    if (!ok && (error != VC_ELIMIT || !says))
        fprintf(stderr, "%u files: %s\n", files, vc_errmsg());
    cr_assert(ok || (error == VC_ELIMIT && says));
    works(vc_close(vm));
    return ok;
}

Test(faults, files_run_out)
{
    works(vc_close(open_vm())); /* what is opened once and for all */
    unsigned before = open_files(), first = before, n;
    for (n = 3; n < first + 64 && !limited(n); n++)
        cr_assert_eq(open_files(), before);
    cr_assert(n > 5 && n < first + 64, "%u files are enough", n);
    cr_assert_eq(open_files(), before);
}

Test(faults, slots_run_out)
{
    vc_vm *vm = open_vm();
    works(vc_map(vm, 0x10000, 0x1000, VC_MEM_RWX));
    struct kvm_vm *k = kvm_vm(vm->bvm);
    k->nslots = 2; /* there are thousands: as if there were these */
    works(vc_map(vm, 0x20000, 0x1000, VC_MEM_RWX));
    fails(vc_map(vm, 0x30000, 0x1000, VC_MEM_RWX), VC_ELIMIT);
    cr_assert(strstr(vc_errmsg(), "slots"), "%s", vc_errmsg());
    fails(vc_write(vm, 0x30000, "x", 1), VC_EFAULT);
    works(vc_unmap(vm, 0x20000, 0x1000));
    works(vc_map(vm, 0x30000, 0x1000, VC_MEM_RWX));
    works(vc_close(vm));
}

/* CS is 64-bit and 32-bit at once: VMRUN and VM entry refuse that (APM 15.5.1, SDM
 * 26.3.1.2). */
Test(faults, the_processor_refuses)
{
    static const uint8_t code[] = {0x90, 0x0f, 0x1f, 0x00, 0xf4};
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    struct vc_sregs s = {.size = sizeof s};
    works(vc_sregs_get(cpu, &s));
    s.cs.attr |= 1 << 10;
    works(vc_sregs_set(cpu, &s));
    struct vc_exit x = {.size = sizeof x};
    fails(vc_run(cpu, NULL, &x), VC_EINTERNAL);
    cr_assert_eq(x.kind, VC_EXIT_FAILED);
    cr_assert(strstr(vc_errmsg(), "refused to enter the guest"), "%s", vc_errmsg());
    cr_assert(strstr(vc_errmsg(), "rip 0x"), "%s", vc_errmsg());
    cr_assert_leq(x.u.failed.nbytes, 16);
    cr_assert_lt(vc_run(cpu, NULL, &x), 0); /* the machine is not to be trusted */
    works(vc_close(vm));
}

/* Code where nothing is: KVM has no instruction to decode, nor has the interpreter. */
Test(faults, code_where_nothing_is)
{
    static const uint8_t code[] = {0xb8, 0, 0, 0, 0x40, 0xff, 0xe0}; /* mov; jmp rax */
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    struct vc_budget b = {.size = sizeof b, .ns = 2000000000};
    struct vc_exit x = {.size = sizeof x};
    int rc = vc_run(cpu, &b, &x);
    if (rc)
        cr_assert_eq(x.kind, VC_EXIT_FAILED, "exit %u", x.kind);
    else
        cr_assert(x.kind == VC_EXIT_SHUTDOWN || x.kind == VC_EXIT_MMIO, "exit %u", x.kind);
    works(vc_close(vm));
}

/* ---- KVM_RUN fails --------------------------------------------------------------------- */

/* The library's system calls go through here: the next KVM_RUN may be one that a kernel
 * gives up, as only some processors do. */
static struct kvm_run *gives_up;

int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    va_start(ap, request);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    if (request != KVM_RUN || !gives_up)
        return (int)syscall(SYS_ioctl, fd, request, arg);
    gives_up->exit_reason = KVM_EXIT_INTERNAL_ERROR;
    gives_up->internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
    gives_up->internal.ndata = 2;
    gives_up->internal.data[0] = 0x80000b0e;
    gives_up->internal.data[1] = 0x31;
    gives_up = NULL;
    return 0;
}

static char logged[2000];
static void note(void *ud, int level, const char *text)
{
    (void)ud;
    size_t n = strlen(logged);
    if (level <= VC_LOG_ERROR)
        snprintf(logged + n, sizeof logged - n, "%s\n", text);
}

static vc_vm *open_logged(void)
{
    const struct vc_vm_opts o = {.size = sizeof o, .log = note, .log_level = VC_LOG_ERROR};
    logged[0] = 0;
    vc_vm *vm = vc_open("kvm", &o);
    cr_assert_not_null(vm, "%s", vc_errmsg());
    return vm;
}

/* Registers and code are told, in the exit, the sentence and the log; the partition goes
 * on after a reset. */
static void tells(vc_cpu *cpu, const char *why, uint64_t rip, const uint8_t *code, size_t len)
{
    struct vc_exit x = {.size = sizeof x};
    char words[48];
    fails(vc_run(cpu, NULL, &x), VC_EINTERNAL);
    cr_assert_eq(x.kind, VC_EXIT_FAILED);
    cr_assert_eq(x.rip, rip);
    cr_assert_eq(x.u.failed.nbytes, 16);
    cr_assert(!memcmp(x.u.failed.bytes, code, len));
    cr_assert(strstr(vc_errmsg(), why), "%s", vc_errmsg());
    snprintf(words, sizeof words, "rip %#llx, code %02x %02x", (unsigned long long)rip, code[0],
             code[1]);
    cr_assert(strstr(vc_errmsg(), words), "%s", vc_errmsg());
    cr_assert(strstr(logged, why) && strstr(logged, "rbx 1234567") && strstr(logged, "cr3 "), "%s",
              logged);
    fails(vc_run(cpu, NULL, &x), VC_ESTATE);
    works(vc_cpu_reset(cpu, VC_MODE_LONG64, CODE));
}

Test(faults, the_kernel_gives_up)
{
    static const uint8_t code[] = {0xf4, 0x90, 0x0f, 0x1f, 0x00};
    vc_vm *vm = open_logged();
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    works(vc_reg_set(cpu, VC_REG_RBX, 0x1234567));
    gives_up = kvm_cpu(cpu->bcpu)->run;
    tells(cpu, "internal error 3, data 0x80000b0e 0x31", CODE, code, sizeof code);
    struct vc_exit x = {.size = sizeof x};
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HLT);
    works(vc_close(vm));
}

/* The embedder takes memory away that it gave. */
Test(faults, memory_goes_away)
{
    static const uint8_t code[] = {0xa0, 0x00, 0x00, 0x02, 0, 0, 0, 0, 0, 0xf4}; /* mov al, [..] */
    vc_vm *vm = open_logged();
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(page, MAP_FAILED);
    works(vc_map_host(vm, 0x20000, 0x1000, VC_MEM_RWX, page));
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    works(vc_reg_set(cpu, VC_REG_RBX, 0x1234567));
    munmap(page, 4096);
    tells(cpu, "host memory of the partition went away", CODE, code, sizeof code);
    works(vc_close(vm));
}

/* ---- threads ---------------------------------------------------------------------------- */

struct turn {
    vc_cpu *cpu;
    struct vc_exit exit;
    int rc;
};

static void *run_once(void *ud)
{
    struct turn *t = ud;
    t->rc = vc_run(t->cpu, NULL, &t->exit);
    return NULL;
}

/* Its thread is gone; a kick reaches nobody, and the next thread's run. */
Test(faults, threads_end_and_their_vcpu_lives)
{
    static const uint8_t code[] = {0xe6, 0x10, 0xeb, 0xfc}; /* out 0x10, al; jmp */
    vc_vm *vm = open_vm();
    struct turn t = {.cpu = code_cpu(vm, code, sizeof code), .exit = {.size = sizeof t.exit}};
    for (unsigned i = 0; i < 8; i++) {
        pthread_t thread;
        if (i & 1)
            works(vc_kick(t.cpu));
        cr_assert_eq(pthread_create(&thread, NULL, run_once, &t), 0);
        pthread_join(thread, NULL);
        cr_assert_eq(t.rc, 0);
        cr_assert_eq(t.exit.kind, i & 1 ? VC_EXIT_KICK : VC_EXIT_PORT);
    }
    works(vc_close(vm));
}
