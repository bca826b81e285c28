/* SPDX-License-Identifier: MIT
 * A processor that is chosen by name is the same on kvm and emu: what CPUID tells a guest,
 * by every leaf, of one vCPU and of several, on a bare partition and on a PC. */
#include "../unit/api.h"
#include <stdio.h>

#define ASKED 0x4000ull
#define TOLD  0x6000ull

struct leaf {
    uint32_t eax, ecx;
};
struct answer {
    uint32_t reg[4];
};

/* Each pair at ASKED, whose number is in ebp, gets an answer at TOLD. */
static const uint8_t code[] = {
    0xbe, 0x00, 0x40, 0x00, 0x00,                   /* mov $0x4000, %esi */
    0xbf, 0x00, 0x60, 0x00, 0x00,                   /* mov $0x6000, %edi */
    0x8b, 0x06, 0x8b, 0x4e, 0x04, 0x0f, 0xa2,       /* 1: mov (%rsi), %eax; 4(%rsi), %ecx; cpuid */
    0x89, 0x07, 0x89, 0x5f, 0x04,                   /* mov %eax, (%rdi); %ebx, 4(%rdi) */
    0x89, 0x4f, 0x08, 0x89, 0x57, 0x0c,             /* mov %ecx, 8(%rdi); %edx, 12(%rdi) */
    0x83, 0xc6, 0x08, 0x83, 0xc7, 0x10, 0xff, 0xcd, /* add $8, %esi; $16, %edi; dec %ebp */
    0x75, 0xe4, 0xe6, 0x10, 0xeb, 0xfe,             /* jnz 1b; out %al, $0x10; jmp . */
};

static const struct leaf leaves[] = {
    {0, 0},          {1, 0},          {2, 0},          {4, 0},          {5, 0},
    {6, 0},          {7, 0},          {7, 1},          {0xa, 0},        {0xb, 0},
    {0xb, 1},        {0xb, 2},        {0xd, 0},        {0xd, 1},        {0xd, 2},
    {0xd, 3},        {0xd, 5},        {0xd, 9},        {0x15, 0},       {0x16, 0},
    {0x1000, 0},     {0x40000000, 0}, {0x40000001, 0}, {0x40000010, 0}, {0x80000000, 0},
    {0x80000001, 0}, {0x80000002, 0}, {0x80000003, 0}, {0x80000004, 0}, {0x80000005, 0},
    {0x80000006, 0}, {0x80000007, 0}, {0x80000008, 0}, {0x8000000a, 0}, {0x80000019, 0},
    {0x8000001a, 0}, {0x8000001d, 0}, {0x8000001d, 1}, {0x8000001d, 2}, {0x8000001d, 3},
    {0x8000001d, 4}, {0x8000001e, 0}, {0x80000021, 0}, {0xc0000000, 0},
};
#define LEAVES (sizeof leaves / sizeof *leaves)

static int end(void *ud, struct vc_access *a)
{
    (void)ud;
    return vc_kick(a->cpu);
}

/* What the last of some vCPUs is told. */
static bool ask(const char *backend, const char *model, unsigned cpus, bool pc,
                struct answer told[LEAVES])
{
    const struct vc_vm_opts o = {.size = sizeof o, .cpu_model = model};
    const struct vc_pc_opts p = {.size = sizeof p, .ram = 1 << 20, .cpus = cpus};
    struct vc_exit x = {.size = sizeof x};
    vc_cpu *cpu = NULL;
    vc_errclear();
    vc_vm *vm = vc_open(backend, &o);
    if (!vm) {
        cr_assert_eq(vc_errcode(), VC_ENOTSUP, "%s, %s: %s", backend, model, vc_errmsg());
        cr_assert(strlen(vc_errmsg()) > 8 && strstr(vc_errmsg(), model), "%s", vc_errmsg());
        return false;
    }
    if (pc)
        works(vc_pc(vm, &p));
    else
        works(vc_map(vm, 0, 0x10000, VC_MEM_RWX));
    works(vc_trap(vm, VC_SPACE_PORT, 0x10, 1, end, NULL));
    works(vc_write(vm, CODE, code, sizeof code));
    works(vc_write(vm, ASKED, leaves, sizeof leaves));
    for (unsigned i = 0; i < cpus; i++)
        cr_assert_not_null(cpu = vc_cpu_new(vm, VC_MODE_LONG64, CODE), "%s", vc_errmsg());
    works(vc_reg_set(cpu, VC_REG_RBP, LEAVES));
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_KICK, "%s, %s, %u vCPUs%s: exit %u at %#llx", backend, model, cpus,
                 pc ? ", PC" : "", x.kind, (unsigned long long)x.rip);
    works(vc_read(vm, TOLD, told, LEAVES * sizeof *told));
    works(vc_close(vm));
    return true;
}

static void same(const char *model, unsigned cpus, bool pc)
{
    struct answer emu[LEAVES], kvm[LEAVES];
    if (!ask("emu", model, cpus, pc, emu) || !ask("kvm", model, cpus, pc, kvm))
        return;
    unsigned differ = 0;
    for (unsigned i = 0; i < LEAVES; i++)
        if (memcmp(&emu[i], &kvm[i], sizeof emu[i])) {
            const uint32_t *e = emu[i].reg, *k = kvm[i].reg;
            fprintf(stderr, "%s, %u vCPUs%s: CPUID %#x, %u: %08x %08x %08x %08x, ", model, cpus,
                    pc ? ", PC" : "", leaves[i].eax, leaves[i].ecx, e[0], e[1], e[2], e[3]);
            fprintf(stderr, "on kvm %08x %08x %08x %08x\n", k[0], k[1], k[2], k[3]);
            differ++;
        }
    cr_assert_eq(differ, 0);
}

Test(models, the_same_by_name)
{
    static const char *const models[] = {"x86-64-v2", "x86-64-v3", "x86-64-v2,-sse4_2,-popcnt"};
    for (unsigned i = 0; i < sizeof models / sizeof *models; i++)
        for (unsigned cpus = 1; cpus <= 3; cpus += 2) {
            same(models[i], cpus, false);
            same(models[i], cpus, true);
        }
}

/* The lab's processor has this much. */
Test(models, v2_is_there)
{
    struct answer told[LEAVES];
    cr_assert(ask("kvm", "x86-64-v2", 1, false, told), "%s", vc_errmsg());
    cr_assert(told[1].reg[2] >> 20 & 1, "SSE4.2");
    cr_assert(!(told[1].reg[2] >> 28 & 1), "AVX");
}
