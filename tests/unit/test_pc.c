/* SPDX-License-Identifier: MIT
 * The whole platform: reset, power, PM timer, fw_cfg, legacy ports, test device. */
#include "pc_rig.h"

static void setup(void)
{
    struct vc_pc_opts opts = {
        .size = sizeof opts, .ram = 16 << 20, .cpus = 3, .flags = VC_PC_TESTDEV};
    rig_init(opts.ram);
    rig.pc = pc_new(&rig.host, &opts);
    cr_assert(rig.pc, "%s", vc_errmsg());
}
static void teardown(void)
{
    rig_fini();
}
TestSuite(pc, .init = setup, .fini = teardown, .timeout = 60);

#define expect_power(kind, value)                                                                  \
    do {                                                                                           \
        cr_expect_eq(rig.powers, 1);                                                               \
        cr_expect_eq(rig.power_kind, (kind));                                                      \
        cr_expect_eq(rig.power_code, (value));                                                     \
        rig.powers = 0;                                                                            \
    } while (0)

Test(pc, refuses_bad_options)
{
    struct vc_pc_opts opts = {.size = sizeof opts, .ram = 16 << 20, .cpus = 0};
    cr_expect_null(pc_new(&rig.host, &opts));
    cr_expect_eq(vc_errcode(), VC_EINVAL);
    opts.cpus = 65;
    cr_expect_null(pc_new(&rig.host, &opts));
    opts.cpus = 1;
    opts.ram = 4096;
    cr_expect_null(pc_new(&rig.host, &opts));
    opts.ram = (1 << 20) + 1;
    cr_expect_null(pc_new(&rig.host, &opts));
    vc_errclear();
    opts.ram = 16 << 20; /* a second PC finds its ports taken, and leaves no trace */
    cr_expect_null(pc_new(&rig.host, &opts));
    cr_expect_eq(vc_errcode(), VC_EEXIST);
    vc_errclear();
    cr_expect_eq(pc_serial_in(rig.pc, NULL, 1), VC_EINVAL);
    cr_expect_eq(pc_serial_in(rig.pc, "a", 1), 1);
    cr_expect_eq(pc_serial_wait(rig.pc, 0), 1);
    pc_down(rig.pc);
    cr_expect_eq(pc_serial_wait(rig.pc, -1), 0);
}

Test(pc, floats_where_nothing_is)
{
    out(0x80, 1, 0x42);
    cr_expect_eq(in(0x80, 1), 0xff);
    cr_expect_eq(in(0x2f8, 4), 0xffffffff, "COM2");
    cr_expect_eq(in(0xffff, 4), 0xffffffff);
    rig_write(VC_SPACE_MMIO, 0xd0000000, 8, 1);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, 0xd0000000, 8), ~0ull);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, MEM_GPA_MAX - 1, 4), 0xffffffff);
    cr_expect_eq(in(0xe9, 1), 0xe9);
}

Test(pc, ways_to_reset)
{
    out(0x64, 1, 0xfe);
    expect_power(VC_POWER_RESET, 0);
    out(0x64, 1, 0xd1);
    out(0x60, 1, 0xfe);
    expect_power(VC_POWER_RESET, 0);
    out(0x92, 1, in(0x92, 1) | 1);
    expect_power(VC_POWER_RESET, 0);
    out(0xcf9, 1, 2);
    cr_expect_eq(rig.powers, 0);
    out(0xcf9, 1, 6);
    expect_power(VC_POWER_RESET, 0);
    out(0xcf8, 4, 0x80000600); /* CONFIG_ADDRESS, not reset control */
    cr_expect_eq(rig.powers, 0);
}

Test(pc, exit_and_panic)
{
    out(0xf4, 1, 0x21);
    expect_power(VC_POWER_EXIT, 0x43);
    out(0xf4, 4, 0x80000001);
    expect_power(VC_POWER_EXIT, 3);
    cr_expect_eq(in(0x505, 1), 3);
    out(0x505, 1, 2);
    cr_expect_eq(rig.powers, 0);
    out(0x505, 1, 1);
    expect_power(VC_POWER_PANIC, 1);
}

Test(pc, acpi_power_off)
{
    cr_expect_eq(in(0x604, 2), 1, "SCI_EN");
    out(0x604, 2, 0x2400); /* S3 is not offered */
    cr_expect_eq(rig.powers, 0);
    out(0x605, 1, 0x24);
    cr_expect_eq(rig.powers, 0);
    out(0x604, 2, 0x2001);
    expect_power(VC_POWER_OFF, 0);
}

Test(pc, pm_timer_runs_at_its_rate)
{
    uint64_t t0 = host_now_ns();
    uint32_t a = in(0x608, 4);
    sleep_ms(100);
    uint32_t b = in(0x608, 4);
    uint64_t ns = host_now_ns() - t0;
    cr_expect_leq(b - a, ns * 3579545 / 1000000000);
    cr_expect_geq(b - a, 357954);
    out(0x608, 4, 0);
    cr_expect_gt(in(0x608, 4), a);
    cr_expect_eq(in(0x60a, 4) >> 16, 0xffff);
}

Test(pc, keyboard_controller)
{
    cr_expect_eq(in(0x64, 1), 0x14);
    out(0x64, 1, 0xaa);
    cr_expect_eq(in(0x64, 1) & 1, 1);
    cr_expect_eq(in(0x60, 1), 0x55);
    out(0x64, 1, 0x60);
    out(0x60, 1, 0x47);
    out(0x64, 1, 0x20);
    cr_expect_eq(in(0x60, 1), 0x47);
    out(0x64, 1, 0xd3); /* loop through the second port */
    out(0x60, 1, 0x5a);
    cr_expect_eq(in(0x64, 1) & 0x21, 0x21);
    cr_expect_eq(in(0x60, 1), 0x5a);
    out(0x60, 1, 0xf2); /* the keyboard says who it is */
    cr_expect_eq(in(0x60, 1), 0xfa);
    cr_expect_eq(in(0x60, 1), 0xab);
    cr_expect_eq(in(0x60, 1), 0x83);
    cr_expect_eq(in(0x64, 1) & 1, 0);
    out(0x64, 1, 0xd4); /* nobody there */
    out(0x60, 1, 0xff);
    cr_expect_eq(in(0x64, 1) & 0x61, 0x61);
    cr_expect_eq(in(0x60, 1), 0xfe);
    for (int i = 0; i < 100; i++)
        out(0x60, 1, 0xff);
    int n = 0;
    while ((in(0x64, 1) & 1) && n < 100)
        in(0x60, 1), n++;
    cr_expect_eq(n, 16);
    out(0x64, 1, 0xd0);
    cr_expect_eq(in(0x60, 1) & 3, 3, "A20 on, not in reset");
}

static void select_item(unsigned key)
{
    out(0x510, 2, key);
}

Test(pc, fw_cfg_by_ports)
{
    char sig[4];
    select_item(0);
    for (int i = 0; i < 4; i++)
        sig[i] = (char)in(0x511, 1);
    cr_expect_arr_eq(sig, "QEMU", 4);
    cr_expect_eq(in(0x511, 1), 0);
    select_item(1);
    cr_expect_eq(in(0x511, 1), 3);
    select_item(5);
    cr_expect_eq(in(0x511, 1), 3, "processors");
    select_item(0xffff);
    cr_expect_eq(in(0x511, 1), 0);
    cr_expect_eq(in(0x514, 4), __builtin_bswap32(0x51454d55));
    cr_expect_eq(in(0x518, 4), __builtin_bswap32(0x20434647));
    select_item(0x19);
    cr_expect_eq(in(0x511, 1) << 24 | in(0x511, 1) << 16 | in(0x511, 1) << 8 | in(0x511, 1), 1);
}

static uint32_t dma(uint32_t control, uint32_t len, uint64_t to, uint64_t desc)
{
    uint8_t d[16];
    uint32_t result = 0x77777777;
    put_le32(d, __builtin_bswap32(control));
    put_le32(d + 4, __builtin_bswap32(len));
    put_le64(d + 8, __builtin_bswap64(to));
    mem_copy_in(&rig.mem, desc, d, sizeof d);
    out(0x514, 4, __builtin_bswap32((uint32_t)(desc >> 32)));
    out(0x518, 4, __builtin_bswap32((uint32_t)desc));
    mem_copy_out(&rig.mem, desc, &result, sizeof result);
    return __builtin_bswap32(result);
}

Test(pc, fw_cfg_by_dma)
{
    uint8_t got[8], want[8] = {'E', 'M', 'U', 0, 0, 0, 0, 0};
    cr_expect_eq(dma(0x0008, 0, 0, 0x10000), 0, "select signature");
    cr_expect_eq(dma(0x0004, 1, 0, 0x10000), 0, "skip");
    memset(got, 0xcc, sizeof got);
    mem_copy_in(&rig.mem, 0x20000, got, sizeof got);
    cr_expect_eq(dma(0x0002, 8, 0x20000, 0x10000), 0);
    mem_copy_out(&rig.mem, 0x20000, got, sizeof got);
    cr_expect_arr_eq(got, want, 8, "what is past the item reads as zeros");
    cr_expect_eq(dma(0x50008 | 2, 2, 0x20000, 0x10000), 0);
    mem_copy_out(&rig.mem, 0x20000, got, 2);
    cr_expect_eq(got[0], 3);

    cr_expect_eq(dma(0x0010, 2, 0x20000, 0x10000), 1, "nothing is writable");
    cr_expect_eq(dma(0x000a, 4, 16 << 20, 0x10000), 1, "no memory there");
    cr_expect_eq(dma(0x000a, 4, ~0ull - 1, 0x10000), 1, "the address wraps");
    cr_expect_eq(dma(0x000a, 0xffffffff, 0x20000, 0x10000), 1, "runs off the end of RAM");
    cr_expect_eq(dma(0x000a, 4, 0, 0xfffffffffffffff8), 0x77777777, "no descriptor there");
    cr_expect_eq(dma(0x0004, 0xffffffff, 0, 0x10000), 0);
    cr_expect_eq(dma(0x0004, 0xffffffff, 0, 0x10000), 0);
    cr_expect_eq(in(0x511, 1), 0);
}

Test(pc, fw_cfg_files)
{
    struct fw_cfg *f = pc_fw_cfg(rig.pc);
    char name[64];
    cr_expect_eq(fw_cfg_add_file(f, "opt/test", "abc", 3), 0);
    select_item(0x21);
    cr_expect_eq(in(0x511, 1), 'a');
    memset(name, 'x', sizeof name);
    name[56] = 0;
    cr_expect_eq(fw_cfg_add_file(f, name, "abc", 3), VC_EINVAL);
    name[55] = 0;
    int rc = 0;
    for (int i = 0; i < 100 && !rc; i++)
        rc = fw_cfg_add_file(f, name, "abc", 3);
    cr_expect_eq(rc, VC_ELIMIT);
    select_item(0x19);
    for (int i = 0; i < 3; i++)
        in(0x511, 1);
    cr_expect_eq(in(0x511, 1), FW_CFG_FILES);
}

Test(pc, test_device)
{
    out(0xe0, 4, 0x12345678);
    cr_expect_eq(in(0xe0, 4), 0x12345678);
    out(0xe0, 1, 0xff);
    cr_expect_eq(in(0xe0, 2), 0x56ff);
    cr_expect_eq(in(0xe2, 2), 0x1234);
    out(0xe4, 4, 0x1000);
    rig_write(VC_SPACE_MMIO, 0xff000000, 8, 0x1122334455667788);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, 0xff000002, 2), 0x5566);
    rig_write(VC_SPACE_MMIO, 0xff00fffe, 4, 0xaabbccdd);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, 0xff00fffe, 4), 0xffffccdd);
    out(0x2000 + 14, 1, 1);
    out(0x2000 + 14, 1, 0);
    out(0x20, 1, 0x0a); /* OCW3: read IRR */
    out(0xa0, 1, 0x0a);
}

/* Every register at every size and alignment, written with ones and zeros. */
Test(pc, any_access_is_survived)
{
    static const uint32_t bases[][2] = {
        {0x20, 2},  {0x40, 4},  {0x60, 5},   {0x70, 2},   {0x92, 1},  {0xe0, 12}, {0xf4, 4},
        {0x3f8, 8}, {0x505, 1}, {0x510, 12}, {0x600, 12}, {0xcf8, 8}, {0x4d0, 2}, {0x2000, 24}};
    for (size_t b = 0; b < ARRAY_LEN(bases); b++)
        for (uint32_t p = bases[b][0]; p < bases[b][0] + bases[b][1]; p++)
            for (unsigned len = 1; len <= 8; len++) {
                rig_read(VC_SPACE_PORT, p, len);
                rig_write(VC_SPACE_PORT, p, len, ~0ull);
                rig_write(VC_SPACE_PORT, p, len, 0);
                rig_read(VC_SPACE_PORT, p, len);
            }
}
