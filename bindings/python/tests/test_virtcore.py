# SPDX-License-Identifier: MIT
"""The Python package against the library, on the backend that the environment's
VC_TEST_BACKEND names, or the one that always works."""

import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import virtcore
from virtcore import Engine, ExitKind, Mode, Reg, Vm

HERE = pathlib.Path(__file__).resolve().parent.parent
BACKEND = os.environ.get("VC_TEST_BACKEND") or "emu"
HLT = b"\xf4"
OUT_10 = b"\xe6\x10"  # out 0x10, al
IN_10 = b"\xe4\x10"  # in al, 0x10
SPIN = b"\xeb\xfe"  # jmp $


class Guest(unittest.TestCase):
    def setUp(self):
        self.vm = virtcore.Vm(BACKEND)
        self.addCleanup(self.vm.close)

    def cpu(self, code, mode=Mode.LONG64):
        self.vm.map(0x1000, 0x2000)
        self.vm.write(0x1000, code)
        return self.vm.cpu(mode, 0x1000)


class TestRun(Guest):
    def test_port_exit_and_answer(self):
        cpu = self.cpu(IN_10 + OUT_10 + HLT)
        exit = cpu.run()
        self.assertIs(exit.kind, ExitKind.PORT)
        self.assertFalse(exit.write)
        exit.data = 0x5A
        exit = cpu.run()
        self.assertEqual((exit.kind, exit.port, exit.write, exit.data & 0xFF),
                         (ExitKind.PORT, 0x10, True, 0x5A))
        self.assertIs(cpu.run().kind, ExitKind.HLT)
        self.assertEqual(cpu.stats().exits[ExitKind.PORT], 2)

    def test_engines_and_stats(self):
        loop = b"\xb9\x00\x00\x04\x00\x0f\xa2\xb9\x01\x00\x00\x00\xff\xc6\x81\xfe\x00\x00\x02\x00\x75\xef"
        for engine in Engine:
            with Vm("emu", engine=engine, sample=True) as vm:
                vm.map(0x1000, 0x1000)
                vm.write(0x1000, loop + HLT)
                cpu = vm.cpu(Mode.LONG64, 0x1000)
                self.assertIs(cpu.run().kind, ExitKind.HLT)
                stats = cpu.stats()
                self.assertGreater(stats.insns, 0x20000)
                self.assertEqual(stats.exits[ExitKind.HLT], 1)
                if engine in (Engine.JIT, Engine.LOCKSTEP):
                    self.assertGreater(stats.translated, 0)
                    self.assertGreater(stats.steps["cpuid"], 1000)
                if engine is Engine.LOCKSTEP:
                    self.assertEqual(stats.lockstep_insns, stats.insns)

    def test_registers(self):
        cpu = self.cpu(HLT)
        cpu.rax = 0x1122334455667788
        cpu.set(Reg.R15, 7)
        self.assertEqual(cpu.rax, 0x1122334455667788)
        self.assertEqual(cpu.regs()["r15"], 7)
        self.assertEqual(cpu.rip, 0x1000)
        self.assertEqual(cpu.sregs().cs.selector, 8)
        self.assertEqual(cpu.translate(0x1234), 0x1234)

    def test_budget(self):
        cpu = self.cpu(SPIN)
        if self.vm.info().features & virtcore.FEAT_BUDGET_INSNS:
            self.assertIs(cpu.run(insns=1000).kind, ExitKind.BUDGET)
            self.assertEqual(cpu.stats().insns, 1000)
        else:
            with self.assertRaises(virtcore.VcError) as caught:
                cpu.run(insns=1000)
            self.assertEqual(caught.exception.name, "VC_ENOTSUP")
        start = time.monotonic()
        self.assertIs(cpu.run(seconds=0.05).kind, ExitKind.BUDGET)
        self.assertGreaterEqual(time.monotonic() - start, 0.045)

    def test_kick_from_another_thread(self):
        cpu = self.cpu(SPIN)
        timer = threading.Timer(0.05, cpu.kick)
        timer.start()
        self.assertIs(cpu.run(seconds=20).kind, ExitKind.KICK)
        timer.join()

    def test_single_step(self):
        cpu = self.cpu(b"\x90\x90" + HLT)
        cpu.single_step()
        exit = cpu.run()
        self.assertIs(exit.kind, ExitKind.DEBUG)
        self.assertEqual(cpu.rip, 0x1001)

    def test_disks_and_links(self):
        with virtcore.Vm("emu") as vm:
            with self.assertRaises(virtcore.VcError) as caught:
                vm.disk("/nonexistent")
            self.assertEqual(caught.exception.name, "VC_ENOTSUP")
        try:
            vm = virtcore.Vm("pv")
        except virtcore.VcError as error:
            self.skipTest(str(error))
        with vm:
            vm.pc(16 << 20)
            for wrong, name in ((lambda: vm.disk("/nonexistent"), "VC_ENOENT"),
                                (lambda: vm.net("nothing"), "VC_EINVAL"),
                                (lambda: vm.net("user", b"\1\0\0\0\0\0"), "VC_EINVAL")):
                with self.assertRaises(virtcore.VcError) as caught:
                    wrong()
                self.assertEqual(caught.exception.name, name)
            with tempfile.NamedTemporaryFile() as image:
                image.truncate(1 << 20)
                self.assertEqual(vm.disk(image.name), 0)
                with self.assertRaises(virtcore.VcError) as caught:
                    vm.disk(image.name, read_only=True)  # somebody writes it
                self.assertEqual(caught.exception.name, "VC_EBUSY")



class TestVirt(unittest.TestCase):
    def test_no_pv_kernel(self):
        try:
            vm = virtcore.Vm("pv")
        except virtcore.VcError as error:
            self.skipTest(str(error))
        with vm:
            vm.pc(16 << 20)
            vm.cpu(Mode.LONG64, 0)
            for virt in (virtcore.Virt.PV, virtcore.Virt.PVH):
                with self.assertRaises(virtcore.VcError) as caught:
                    vm.boot(b"no kernel at all", virt=virt)
                self.assertEqual(caught.exception.name, "VC_EFORMAT")


class TestPool(unittest.TestCase):
    def test_partitions_share_one(self):
        with virtcore.Pool(1 << 20) as pool:
            with Vm(BACKEND, pool=pool) as a, Vm(BACKEND, pool=pool) as b:
                a.map(0, 0xC0000)
                with self.assertRaises(virtcore.VcError) as caught:
                    b.map(0, 0x80000)
                self.assertEqual(caught.exception.name, "VC_ELIMIT")
                a.unmap(0, 0xC0000)
                b.map(0, 0x80000)
                self.assertEqual(pool.info(), virtcore.PoolInfo(1 << 20, 0x80000, 2))
                with self.assertRaises(virtcore.VcError):
                    pool.close()
                with self.assertRaises(virtcore.VcError):
                    a.balloon_target(4096)  # it has no guest
            self.assertEqual(pool.info(), virtcore.PoolInfo(1 << 20, 0, 0))


class TestScheduler(Guest):
    def test_turns(self):
        first = min(os.sched_getaffinity(0))
        if first > 63:
            self.skipTest("no host CPU of the first 64")
        with virtcore.Scheduler(1 << first, 0.001) as sched:
            cpus = [self.cpu(b"\xeb\xfe"), None]
            other = virtcore.Vm(BACKEND)
            other.map(0x1000, 0x1000)
            other.write(0x1000, b"\xeb\xfe")
            cpus[1] = other.cpu(Mode.LONG64, 0x1000)
            for cpu in cpus:
                sched.set(cpu, weight=512, pin=1 << first)
            threads = [threading.Thread(target=cpu.run) for cpu in cpus]
            for t in threads:
                t.start()
            while min(sched.time(cpu).turns for cpu in cpus) < 3:
                time.sleep(0.001)
            for cpu in cpus:
                cpu.kick()
            for t in threads:
                t.join()
            self.assertGreater(sched.time(cpus[0]).ran, 0)
            self.assertGreater(sched.time(cpus[0]).waited, 0)
            with self.assertRaises(virtcore.VcError) as caught:
                sched.close()
            self.assertEqual(caught.exception.name, "VC_EBUSY")
            other.close()
            sched.remove(cpus[0])


class TestTraps(Guest):
    def test_port_trap(self):
        seen = []

        def trap(access):
            seen.append((access.write, access.data if access.write else None, access.cpu))
            return 0x33

        cpu = self.cpu(IN_10 + OUT_10 + HLT)
        self.vm.trap_port(0x10, trap)
        self.assertIs(cpu.run().kind, ExitKind.HLT)
        self.assertEqual(seen, [(False, None, cpu), (True, 0x33, cpu)])

    def test_exception_comes_out_of_run(self):
        class Mine(Exception):
            pass

        def trap(_access):
            raise Mine("from the trap")

        cpu = self.cpu(OUT_10 + HLT)
        registered = self.vm.trap_port(0x10, trap)
        with self.assertRaisesRegex(Mine, "from the trap"):
            cpu.run()
        registered.remove()
        self.assertIs(cpu.run().kind, ExitKind.PORT)  # the instruction runs again

    def test_trap_that_removes_itself(self):
        def trap(_access):
            registered.remove()

        cpu = self.cpu(OUT_10 + OUT_10 + HLT)
        registered = self.vm.trap_port(0x10, trap)
        exit = cpu.run()
        self.assertIs(exit.kind, ExitKind.PORT)
        self.assertEqual(exit.rip, 0x1002)

    def test_mmio_trap(self):
        cpu = self.cpu(b"\xa1" + (0x8000_0000).to_bytes(8, "little") + HLT)  # mov eax, [moffs]
        self.vm.trap_mmio(0x8000_0000, 0x1000, lambda a: 0xCAFE_0000 | a.len)
        self.assertIs(cpu.run().kind, ExitKind.HLT)
        self.assertEqual(cpu.rax, 0xCAFE_0004)


@unittest.skipUnless(hasattr(os, "eventfd"), "Python 3.10 has os.eventfd")
class TestBindings(Guest):
    def test_writes_signal(self):
        cpu = self.cpu(b"\xb0\x07" + OUT_10 + b"\xb0\x08" + OUT_10 + HLT)
        fd = os.eventfd(0, os.EFD_NONBLOCK)
        binding = self.vm.bind_write(virtcore.Space.PORT, 0x10, 1, fd, value=7)
        exit = cpu.run()
        self.assertEqual((exit.kind, exit.data & 0xFF), (ExitKind.PORT, 8))
        self.assertEqual(os.eventfd_read(fd), 1)
        binding.remove()
        with self.assertRaises(virtcore.VcError):
            binding.remove()
        with self.assertRaises(virtcore.VcError):
            self.vm.bind_irq(4, fd)  # no PC
        os.close(fd)


class TestErrors(unittest.TestCase):
    def test_error_has_code_name_and_sentence(self):
        with virtcore.Vm(BACKEND) as vm:
            with self.assertRaises(virtcore.VcError) as caught:
                vm.map(0x1001, 0x1000)
        self.assertEqual(caught.exception.name, "VC_ERANGE")
        self.assertIn("4096", caught.exception.message)

    def test_backend_that_is_not_there(self):
        with self.assertRaises(virtcore.VcError) as caught:
            virtcore.Vm("pv:kvm")
        self.assertEqual(caught.exception.name, "VC_ENOTSUP")
        with self.assertRaises(virtcore.VcError) as caught:
            virtcore.Vm("vax")
        self.assertEqual(caught.exception.name, "VC_ENOENT")

    def test_after_close(self):
        vm = virtcore.Vm(BACKEND)
        vm.map(0, 0x1000)
        cpu = vm.cpu(Mode.REAL16, 0)
        vm.close()
        vm.close()
        for call in (cpu.run, cpu.stats, vm.info, lambda: vm.read(0, 1)):
            with self.assertRaises(virtcore.VcError) as caught:
                call()
            self.assertEqual(caught.exception.name, "VC_EINVAL")

    def test_probe(self):
        self.assertEqual(virtcore.backends(), ["kvm", "emu", "pv"])
        for name in virtcore.backends():
            self.assertTrue(virtcore.probe(name).reason)
        self.assertTrue(virtcore.probe("emu").usable)

    def test_auto(self):
        with virtcore.Vm("auto") as vm:
            info = vm.info()
        kvm = virtcore.probe("kvm")
        self.assertEqual(info.backend, "kvm" if kvm.usable else "emu")
        if not kvm.usable:
            self.assertIn(kvm.reason[:40], info.why)


class TestHello(unittest.TestCase):
    def test_hello(self):
        out = subprocess.run([sys.executable, "hello.py", BACKEND], cwd=HERE, timeout=60, check=True,
                             capture_output=True, text=True)
        self.assertEqual(out.stdout, "the guest writes 42 to port 0x10\n")


class TestCalls(Guest):
    """Hypercalls by annotations, and functions of the guest's."""

    # push rax; out 0xbc, eax; pop rax; hlt
    HOST = b"\x50\xe7\xbc\x58" + HLT

    def setUp(self):
        super().setUp()
        self.c = self.cpu(self.HOST)
        self.vm.write(0x1100, b"\x48\x8d\x04\x37\xc3")  # lea rax, [rdi+rsi]; ret
        self.vm.write(0x1120, b"\xfe\x07\x48\x89\xf0\xc3")  # inc byte [rdi]; mov rax, rsi; ret
        self.vm.write(0x1140, b"\xf2\x0f\x58\xc1\xc3")  # addsd xmm0, xmm1; ret
        self.vm.write(0x1160, b"\x0f\x0b")  # ud2
        self.vm.write(0x1180, SPIN)
        # mov eax, edi; mov rdi, rsi; push rax; out 0xbc, eax; pop rax; ret
        self.vm.write(0x11A0, b"\x89\xf8\x48\x89\xf7" + self.HOST[:4] + b"\xc3")
        self.c.rsp = 0x3000

        try:
            self.vm.hypercall(200)(lambda: None)
        except virtcore.VcError as e:
            if e.name == "VC_ENOTSUP":
                self.skipTest(e.message)
            raise

    def host(self, nr, *args):
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), args):
            setattr(self.c, name, value & (1 << 64) - 1)
        self.c.rax, self.c.rip = nr, 0x1000
        self.assertIs(self.c.run().kind, ExitKind.HLT)
        return self.c.rax

    def test_annotations(self):
        @self.vm.hypercall(1)
        def add(a: virtcore.U8, b: virtcore.I32) -> virtcore.I64:
            return a + b

        @self.vm.hypercall(2)
        def text(cpu, s: str, data: bytearray) -> int:
            self.assertIs(cpu, self.c)
            data[0] = ord("X")
            return len(s) * 100 + len(data)

        self.assertEqual(self.host(1, 0x1FF, -256), (1 << 64) - 1)
        self.vm.write(0x1800, b"name\0data")
        self.assertEqual(self.host(2, 0x1800, 0x1805, 4), 404)
        self.assertEqual(self.vm.read(0x1804, 6), b"\0Xata\0")
        self.assertEqual(self.host(2, 0x1800, 0x2FFF, 2), 0xFFFFFFFF80564303)
        self.vm.remove_hypercall(1)
        self.assertEqual(self.host(1, 1, 1), 0xFFFFFFFF80564301)
        with self.assertRaises(TypeError):
            self.vm.hypercall(3)(lambda *a: 0)
        with self.assertRaises(virtcore.VcError):
            self.vm.hypercall(2)(add)

    def test_exceptions_come_out(self):
        @self.vm.hypercall(1)
        def fail(a: int) -> int:
            raise KeyError(a)

        self.c.rax, self.c.rdi, self.c.rip = 1, 5, 0x1000
        with self.assertRaisesRegex(KeyError, "5"):
            self.c.run()
        self.assertIs(self.c.run().kind, ExitKind.HLT)
        self.assertEqual(self.c.rax, 0xFFFFFFFF80564307)
        with self.assertRaisesRegex(KeyError, "6"):
            self.c.call(0x11A0, "i64(u32,i64)", 1, 6)

    def test_guest_functions(self):
        call = self.c.call
        before = self.c.regs()
        self.assertEqual(call(0x1100, "i64(i64,i64)", -7, 2), -5)
        self.assertEqual(call(0x1140, "f64(f64,f64)", 1.5, 2), 3.5)
        data = bytearray(b"abc")
        self.assertEqual(call(0x1120, "u64(buf)", data), 3)
        self.assertEqual(data, b"bbc")
        self.assertIsNone(call(0x1100, "void()"))
        with self.assertRaisesRegex(virtcore.VcError, "0f 0b|state is lost"):
            call(0x1160, "void()")
        with self.assertRaises(virtcore.VcError) as e:
            call(0x1180, "void()", seconds=0.01)
        self.assertEqual(e.exception.name, "VC_ELIMIT")
        with self.assertRaises(TypeError):
            call(0x1100, "i64(i64,i64)", 1)
        self.assertEqual(self.c.regs(), before)

    def test_nested(self):
        @self.vm.hypercall(1)
        def down(cpu, n: int) -> int:
            return 0 if n == 0 else 1 + cpu.call(0x11A0, "i64(u32,i64)", 1, n - 1)

        self.assertEqual(self.c.call(0x11A0, "i64(u32,i64)", 1, 9), 9)


class TestInspect(unittest.TestCase):
    def test_kernel_of_bytes(self):
        # A 64-bit ELF with one segment and a PVH entry's note, as small as it can be.
        note = struct.pack("<III4sQ", 4, 8, 18, b"Xen", 0x100010)
        ehdr = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0x100000, 64, 0, 0,
                           64, 56, 2, 64, 0, 0)
        load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x100000, 0x100000, 64, 4096, 4096)
        notes = struct.pack("<IIQQQQQQ", 4, 4, 176, 0, 0, len(note), len(note), 4)
        report = virtcore.inspect(ehdr + load + notes + note)
        self.assertIs(report.kind, virtcore.FileKind.KERNEL)
        self.assertEqual((report.parts, len(report.kernels)), ((), 1))
        kernel = report.kernels[0]
        self.assertEqual((kernel.kind, kernel.pvh_entry, kernel.pv_entry),
                         (virtcore.ImageKind.PVH, 0x100010, 0))
        self.assertTrue(report.virt[virtcore.Virt.PVH])
        self.assertFalse(report.virt[virtcore.Virt.PV])
        self.assertIn("XEN_ELFNOTE_ENTRY", report.virt[virtcore.Virt.PV].reasons[0])

    def test_disk_by_path(self):
        disk = bytearray(1 << 20)
        disk[446:462] = struct.pack("<B3xB3xII", 0x80, 0x83, 64, 128)
        disk[510:512] = b"\x55\xaa"
        with tempfile.NamedTemporaryFile() as file:
            file.write(disk)
            file.flush()
            report = virtcore.inspect(pathlib.Path(file.name))
        self.assertIs(report.kind, virtcore.FileKind.DISK)
        part = report.parts[0]
        self.assertEqual((part.name, part.start, part.bytes, part.flags),
                         ("(hd0,msdos1)", 32768, 65536, virtcore.PartFlag.ACTIVE))
        self.assertIs(report.virt[virtcore.Virt.PV].answer, virtcore.Answer.UNKNOWN)

    def test_failures(self):
        with self.assertRaises(virtcore.VcError) as caught:
            virtcore.inspect("/nowhere/at/all")
        self.assertEqual(caught.exception.name, "VC_ENOENT")
        with self.assertRaises(virtcore.VcError):
            virtcore.inspect(b"")


if __name__ == "__main__":
    unittest.main()
