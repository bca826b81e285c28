/* SPDX-License-Identifier: MIT
 * Hosts that refuse what generated code needs: each test runs in a child whose
 * system calls a seccomp filter refuses. */
#include "api.h"
#include <asm/prctl.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Refuses the system call `nr` with EACCES when its argument `arg` has a bit of
 * `mask`, or always (mask 0). */
static bool refuse(unsigned nr, unsigned arg, unsigned mask)
{
    const struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[arg])),
        BPF_JUMP(BPF_JMP | (mask ? BPF_JSET : BPF_JGE) | BPF_K, mask, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = sizeof code / sizeof *code,
                              .filter = (struct sock_filter *)(uintptr_t)code};
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
           !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog);
}

/* ---- a guest ---------------------------------------------------------------- */

/* Integers, a vector and x87, in a loop long enough to be translated:
 *     mov rax, cr4; or eax, 0x600; mov cr4, rax; mov ecx, 1000; xor eax, eax; fninit; fldz
 *   1: inc eax; movd xmm0, eax; paddd xmm1, xmm0; fld1; faddp; dec ecx; jnz 1b
 *     movd eax, xmm1; fistp qword [0x3000]; add rax, [0x3000]; hlt */
static const uint8_t adds[] = {
    0x0f, 0x20, 0xe0, 0x0d, 0x00, 0x06, 0x00, 0x00, 0x0f, 0x22, 0xe0,       /* */
    0xb9, 0xe8, 0x03, 0x00, 0x00, 0x31, 0xc0, 0xdb, 0xe3, 0xd9, 0xee,       /* */
    0xff, 0xc0, 0x66, 0x0f, 0x6e, 0xc0, 0x66, 0x0f, 0xfe, 0xc8, 0xd9, 0xe8, /* */
    0xde, 0xc1, 0xff, 0xc9, 0x75, 0xee,                                     /* */
    0x66, 0x0f, 0x7e, 0xc8, 0xdf, 0x3c, 0x25, 0x00, 0x30, 0x00, 0x00,       /* */
    0x48, 0x03, 0x04, 0x25, 0x00, 0x30, 0x00, 0x00, 0xf4,
};
#define ADDED (1000u * 1001 / 2 + 1000)

static unsigned warnings;
static void count_log(void *ud, int level, const char *line)
{
    (void)ud;
    warnings += level == VC_LOG_WARN && strstr(line, "interpreted") != NULL;
}

/* What the guest comes to; 0 when the partition cannot be opened. */
static uint64_t run_guest(uint32_t engine)
{
    warnings = 0;
    struct vc_vm_opts opts = {
        .size = sizeof opts, .engine = engine, .log = count_log, .log_level = VC_LOG_WARN};
    vc_vm *vm = vc_open("emu", &opts);
    if (!vm)
        return 0;
    uint64_t rax = 0;
    struct vc_exit exit = {.size = sizeof exit};
    vc_cpu *cpu = NULL;
    if (!vc_map(vm, 0, 0x10000, VC_MEM_RWX) && !vc_write(vm, CODE, adds, sizeof adds))
        cpu = vc_cpu_new(vm, VC_MODE_LONG64, CODE);
    if (!cpu || vc_run(cpu, NULL, &exit) || exit.kind != VC_EXIT_HLT ||
        vc_reg_get(cpu, VC_REG_RAX, &rax))
        fprintf(stderr, "exit %d at %#llx: %s\n", (int)exit.kind, (unsigned long long)exit.rip,
                vc_errmsg());
    vc_close(vm);
    return rax;
}

/* ---- the tests ---------------------------------------------------------------- */

#define expect(cond)                                                                               \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%d: not %s; %s\n", __LINE__, #cond, vc_errmsg());                     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* A child in which something is refused; it exits with 2 where no filter can be. */
static void in_child(void (*fn)(void))
{
    int status = 0;
    pid_t pid = fork();
    if (!pid) {
        fn();
        _exit(0);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status), "ended by signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) == 2)
        fprintf(stderr, "skipped: the host has no seccomp filters\n");
    else
        cr_assert_eq(WEXITSTATUS(status), 0);
}

static void no_gs_base(void)
{
    if (!refuse(SYS_arch_prctl, 0, 0))
        _exit(2);
    expect(run_guest(VC_ENGINE_INTERP) == ADDED && warnings == 0);
    expect(run_guest(VC_ENGINE_AUTO) == ADDED && warnings == 1);
    expect(run_guest(VC_ENGINE_JIT) == 0 && vc_errcode() == VC_ENOTSUP);
    expect(strstr(vc_errmsg(), "arch_prctl") && strstr(vc_errmsg(), "interpreter"));
}

/* Translated code needs the GS base; the interpreter does not. */
Test(refused, gs_base)
{
    in_child(no_gs_base);
}

static void no_memfd(void)
{
    if (!refuse(SYS_memfd_create, 1, 0x10 /* MFD_EXEC */))
        _exit(2);
    expect(run_guest(VC_ENGINE_INTERP) == ADDED);
    expect(run_guest(VC_ENGINE_JIT) == ADDED && warnings == 0);
}

/* As with vm.memfd_noexec = 2: code lies in other memory. */
Test(refused, memfd)
{
    in_child(no_memfd);
}

static void no_mprotect(void)
{
    if (!refuse(SYS_mprotect, 2, PROT_EXEC))
        _exit(2);
    expect(run_guest(VC_ENGINE_INTERP) == ADDED);
    expect(run_guest(VC_ENGINE_JIT) == ADDED && warnings == 0);
}

/* As with systemd's MemoryDenyWriteExecute: memory is mapped executable at once. */
Test(refused, mprotect)
{
    in_child(no_mprotect);
}

static void no_executable_memory(void)
{
    if (!refuse(SYS_mprotect, 2, PROT_EXEC) || !refuse(SYS_mmap, 2, PROT_EXEC))
        _exit(2);
    expect(run_guest(VC_ENGINE_JIT) == 0);
    expect(strstr(vc_errmsg(), "executable memory"));
}

Test(refused, executable_memory)
{
    in_child(no_executable_memory);
}
