# SPDX-License-Identifier: MIT
"""Partitions: memory, traps, the PC platform."""

from __future__ import annotations

import ctypes as ct
import dataclasses
import enum
import os
from typing import Callable, Optional

from . import _call, _lib
from ._cpu import Cpu, Mode
from ._errors import ECALLBACK, check, last_error
from ._lib import lib
from ._pool import Balloon, Pool

MEM_READ, MEM_WRITE, MEM_EXEC, MEM_LOG = 1, 2, 4, 256
MEM_RWX = MEM_READ | MEM_WRITE | MEM_EXEC
MEM_ROM = MEM_READ | MEM_EXEC

(FEAT_BUDGET_INSNS, FEAT_BUDGET_NS, FEAT_SMP, FEAT_SINGLE_STEP, FEAT_DIRTY_LOG, FEAT_HW,
 FEAT_HCALL) = (1 << bit for bit in range(7))


class Space(enum.IntEnum):
    PORT = 0
    MMIO = 1


class Virt(enum.IntEnum):
    """How a guest is virtualized: as on a PC, or as Xen's PV or PVH (backend "pv")."""

    HVM = 0
    PV = 1
    PVH = 2


class ImageKind(enum.IntEnum):
    AUTO = 0
    BZIMAGE = 1
    PVH = 2
    MULTIBOOT = 3
    ELF = 4
    FLAT = 5


@dataclasses.dataclass(frozen=True)
class Access:
    """A guest's access to a port or to MMIO that a trap is asked to handle."""

    addr: int
    len: int
    write: bool
    data: int  #: what is written
    cpu: Optional[Cpu]


@dataclasses.dataclass(frozen=True)
class Probe:
    """Whether a backend works here, and why or why not."""

    name: str
    usable: bool
    reason: str
    features: int
    max_cpus: int


@dataclasses.dataclass(frozen=True)
class Info:
    """What a partition says of itself; see struct vc_vm_info."""

    backend: str
    why: str
    features: int
    max_cpus: int
    cpus: int
    mem_mapped: int
    mem_quota: int
    tsc_hz: int


TrapCallable = Callable[[Access], Optional[int]]
HcallCallable = Callable[[Cpu, int, "tuple[int, ...]"], Optional[int]]


def version() -> str:
    return lib.vc_version().decode()


def backends() -> list[str]:
    """The names of the backends, in the order "auto" tries them."""
    names = []
    while (name := lib.vc_backend_name(len(names))) is not None:
        names.append(name.decode())
    return names


def elf_symbol(image: bytes, name: str) -> int:
    """The value of a symbol of an ELF program."""
    value = ct.c_uint64()
    check(lib.vc_elf_symbol(image, len(image), name.encode(), value))
    return value.value


def probe(name: str) -> Probe:
    raw = _lib.ProbeInfo()
    check(lib.vc_probe(name.encode(), raw))
    return Probe(name, bool(raw.usable), raw.reason.decode(), raw.features, raw.max_cpus)


class Engine(enum.IntEnum):
    """How the "emu" backend runs code."""

    AUTO = 0
    INTERP = 1
    JIT = 2
    LOCKSTEP = 3  # both, compared: slow, for finding faults of the engine


class IrqChip(enum.IntEnum):
    """Where a PC's interrupt controllers are."""
    AUTO = 0  # in the host's kernel where the backend has them there
    KERNEL = 1
    USER = 2  # in the library
    SPLIT = 3  # local APICs in the host's kernel, the others in the library


class Trap:
    """A registered trap; remove() ends it."""

    def __init__(self, vm: Vm, ident: int) -> None:
        self._vm = vm
        self._id = ident

    def remove(self) -> None:
        check(lib.vc_untrap(self._vm._handle, self._id))
        self._vm._retire(self._id)


class Binding:
    """An event descriptor tied to the guest; remove() unties it."""

    def __init__(self, vm: Vm, ident: int) -> None:
        self._vm = vm
        self._id = ident

    def remove(self) -> None:
        check(lib.vc_unbind_fd(self._vm._handle, self._id))


class Vm:
    """A partition: memory, vCPUs and devices. Usable as a context manager.

    backend: "auto" takes the first that works here; a name takes just that one.
    log:     called with (level, line).
    engine:  how "emu" runs code.
    sample:  look once a millisecond what each vCPU does: Cpu.stats().samples.
    pool:    what its RAM is out of; close the partition first.
    """

    def __init__(self, backend: str = "auto", *, mem_quota: int = 0, max_cpus: int = 0,
                 cpu_model: str | None = None, log: Callable[[int, str], None] | None = None,
                 log_level: int = 2, engine: Engine = Engine.AUTO, sample: bool = False,
                 pool: Pool | None = None) -> None:
        self._handle: int | None = None
        self._cpus: dict[int, Cpu] = {}
        self._raised: dict[int | None, BaseException] = {}
        self._traps: dict[int, object] = {}
        self._retired: list[object] = []
        self._keep: dict[str, object] = {}

        opts = _lib.VmOpts(mem_quota=mem_quota, max_cpus=max_cpus, log_level=log_level,
                           engine=engine, flags=_lib.OPT_SAMPLE if sample else 0)
        if pool is not None:
            opts.pool = pool._handle
            self._keep["pool"] = pool
        if cpu_model is not None:
            opts.cpu_model = cpu_model.encode()
        if log is not None:
            write = log
            opts.log = self._keep["log"] = _lib.LogFn(
                lambda _ud, level, line: write(level, line.decode(errors="replace")))
        self._handle = lib.vc_open(backend.encode(), opts)
        if not self._handle:
            raise last_error()
        self._has_time_budget = bool(self.info().features & FEAT_BUDGET_NS)

    # ---- life ---------------------------------------------------------------

    def close(self) -> None:
        """Ends the partition, its vCPUs and its devices."""
        if self._handle is None:
            return
        check(lib.vc_close(self._handle))
        self._handle = None
        for cpu in self._cpus.values():
            cpu._handle = None
        self._cpus.clear()
        self._traps.clear()
        self._retired.clear()

    def __enter__(self) -> Vm:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            lib.vc_close(self._handle)

    def info(self) -> Info:
        raw = _lib.VmInfo()
        check(lib.vc_info(self._handle, raw))
        return Info(raw.backend.decode(), raw.why.decode(errors="replace"), raw.features,
                    raw.max_cpus, raw.cpus, raw.mem_mapped, raw.mem_quota, raw.tsc_hz)

    def cpu(self, mode: Mode = Mode.RESET, pc: int = 0) -> Cpu:
        """Adds a vCPU whose first instruction is at linear address pc."""
        handle = lib.vc_cpu_new(self._handle, mode, pc)
        if not handle:
            raise last_error()
        cpu = self._cpus[handle] = Cpu(self, handle)
        return cpu

    def _forget(self, cpu: Cpu) -> None:
        self._cpus.pop(cpu._handle or 0, None)

    # ---- memory ----------------------------------------------------------------

    def map(self, gpa: int, length: int, prot: int = MEM_RWX) -> None:
        """Maps zeroed RAM."""
        check(lib.vc_map(self._handle, gpa, length, prot))

    def unmap(self, gpa: int, length: int) -> None:
        check(lib.vc_unmap(self._handle, gpa, length))

    def read(self, gpa: int, length: int) -> bytes:
        buf = ct.create_string_buffer(length)
        check(lib.vc_read(self._handle, gpa, buf, length))
        return buf.raw

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        raw = bytes(data)
        check(lib.vc_write(self._handle, gpa, raw, len(raw)))

    def dirty_log(self, gpa: int, length: int) -> bytes:
        """Fetches and clears the dirty bits of a MEM_LOG region."""
        size = (length // 4096 + 7) // 8
        buf = ct.create_string_buffer(size)
        check(lib.vc_dirty_log(self._handle, gpa, length, buf, size))
        return buf.raw

    # ---- traps -------------------------------------------------------------------

    def _note(self, cpu: int | None, e: BaseException) -> int:
        """Keeps a callback's exception for the run that it ends."""
        self._raised.setdefault(cpu, e)
        return ECALLBACK

    def _take_exception(self, cpu: int | None) -> BaseException | None:
        return self._raised.pop(cpu, None)

    def _retire(self, ident: int) -> None:
        # Not freed yet: it may be the handler that runs now.
        self._retired.append(self._traps.pop(ident, None))

    def trap(self, space: Space, base: int, length: int, fn: TrapCallable) -> Trap:
        """Calls fn(access) for every access that starts in the range. What it
        returns is the value of a read. What it raises comes out of Cpu.run()."""

        def handler(_ud: object, pointer: int) -> int:
            raw = ct.cast(pointer, ct.POINTER(_lib.Access)).contents
            try:
                access = Access(raw.addr, raw.len, bool(raw.write),
                                raw.data & ((1 << 8 * raw.len) - 1), self._cpus.get(raw.cpu))
                value = fn(access)
                if not raw.write:
                    raw.data = (value or 0) & 0xFFFF_FFFF_FFFF_FFFF
            except BaseException as e:  # comes out of run()
                return self._note(raw.cpu, e)
            return 0

        callback = _lib.TrapFn(handler)
        ident = check(lib.vc_trap(self._handle, space, base, length, callback, None))
        self._traps[ident] = callback
        return Trap(self, ident)

    def trap_port(self, port: int, fn: TrapCallable, length: int = 1) -> Trap:
        return self.trap(Space.PORT, port, length, fn)

    def trap_mmio(self, gpa: int, length: int, fn: TrapCallable) -> Trap:
        return self.trap(Space.MMIO, gpa, length, fn)

    def hypercalls(self, fn: HcallCallable | None) -> None:
        """Calls fn(cpu, number, args) for VMCALL and VMMCALL; what it returns
        goes to RAX. None removes it."""
        if fn is None:
            check(lib.vc_hcall_set(self._handle, _lib.HcallFn(), None))
            return
        function = fn

        def handler(_ud: object, cpu: int, nr: int, args: object, ret: object) -> int:
            try:
                value = function(self._cpus[cpu], nr, tuple(args[i] for i in range(6)))
                ret[0] = (value or 0) & 0xFFFF_FFFF_FFFF_FFFF
            except BaseException as e:  # comes out of run()
                return self._note(cpu, e)
            return 0

        callback = _lib.HcallFn(handler)
        check(lib.vc_hcall_set(self._handle, callback, None))
        self._retired.append(self._keep.get("hcall"))
        self._keep["hcall"] = callback

    def hypercall(self, nr: int, signature: str | None = None) -> Callable:
        """Decorates the function that answers hypercall nr. Its annotations are the
        signature: U32 and the like, int (I64), float (F64), str, bytes (CBUF), bytearray
        (BUF); a first parameter `cpu` gets the vCPU. What it raises comes out of run().

            @vm.hypercall(7)
            def add(a: virtcore.U32, b: virtcore.U32) -> virtcore.U64: return a + b
        """

        def register(fn: Callable) -> Callable:
            text, wants_cpu = _call.of_function(fn) if signature is None else (signature, False)
            text, function = _call.c_function(text, fn, wants_cpu, self._cpus, self._note)
            check(lib.vc_hcall(self._handle, nr, text.encode(), ct.cast(function, ct.c_void_p),
                               None))
            self._retired.append(self._keep.get(f"hcall {nr}"))
            self._keep[f"hcall {nr}"] = function
            return fn

        return register

    def remove_hypercall(self, nr: int) -> None:
        check(lib.vc_hcall_del(self._handle, nr))

    def load_elf(self, image: bytes) -> int:
        """Copies a static ELF program into mapped memory; returns its entry point."""
        entry = ct.c_uint64()
        check(lib.vc_elf_load(self._handle, image, len(image), entry))
        return entry.value

    def irq_line(self, gsi: int, level: bool) -> None:
        check(lib.vc_irq_line(self._handle, gsi, level))

    def msi(self, address: int, data: int) -> None:
        check(lib.vc_msi(self._handle, address, data))

    def bind_write(self, space: Space, addr: int, length: int, fd: int,
                   value: int | None = None) -> Binding:
        """The guest's writes of so many bytes at addr, or those of that value, signal the
        eventfd and do nothing else. The library has its own copy of the descriptor."""
        bind = _lib.Bind(kind=1, space=space, addr=addr, len=length, fd=fd)
        if value is not None:
            bind.flags, bind.data = 1, value
        return Binding(self, check(lib.vc_bind_fd(self._handle, bind)))

    def bind_irq(self, gsi: int, fd: int) -> Binding:
        """Signalling the eventfd makes an edge on an interrupt line of the PC."""
        return Binding(self, check(lib.vc_bind_fd(self._handle, _lib.Bind(kind=2, gsi=gsi, fd=fd))))

    # ---- the PC --------------------------------------------------------------------

    def pc(self, ram: int, cpus: int = 1, serial: Callable[[bytes], None] | None = None,
           testdev: bool = False, irqchip: IrqChip = IrqChip.AUTO) -> None:
        """Makes the partition a PC. serial gets what the guest sends to COM1; what
        it raises is printed, not passed on."""
        opts = _lib.PcOpts(ram=ram, cpus=cpus, flags=int(testdev), irqchip=irqchip)
        if serial is not None:
            out = serial
            opts.serial_out = self._keep["serial"] = _lib.SerialFn(
                lambda _ud, data, n: out(ct.string_at(data, n)))
        check(lib.vc_pc(self._handle, opts))

    def disk(self, path: str | os.PathLike[str], read_only: bool = False) -> int:
        """Adds a raw image as the next disk (xvda, xvdb...) of PV guests."""
        opts = _lib.DiskOpts(path=os.fsencode(path), flags=int(read_only))
        return check(lib.vc_disk_add(self._handle, opts))

    def net(self, link: str, mac: bytes = bytes(6)) -> int:
        """Adds a network link (eth0, eth1...) for PV guests: "user,hostfwd=...",
        "tap,ifname=NAME", "stream,path=PATH" or "dgram,local=PATH,remote=PATH"."""
        opts = _lib.NetOpts(link=os.fsencode(link))
        opts.mac[:] = mac
        return check(lib.vc_net_add(self._handle, opts))

    def serial_in(self, data: bytes) -> int:
        """Bytes for COM1; returns how many were taken."""
        return check(lib.vc_serial_in(self._handle, data, len(data)))

    def serial_wait(self, timeout_ms: int = -1) -> bool:
        """Waits until serial_in() would take a byte."""
        return bool(check(lib.vc_serial_wait(self._handle, timeout_ms)))

    def boot(self, kernel: bytes, initrd: bytes | None = None, cmdline: str = "",
             kind: ImageKind = ImageKind.AUTO, virt: Virt = Virt.HVM) -> None:
        """Loads an image and sets the first state of vCPU 0."""
        opts = _lib.BootOpts(kind=kind, virt=virt, kernel=kernel, kernel_len=len(kernel), initrd=initrd,
                             initrd_len=len(initrd or b""), cmdline=cmdline.encode())
        check(lib.vc_boot(self._handle, opts))

    def balloon(self) -> Balloon:
        """How much of its RAM a guest of Xen's has, and may have."""
        raw = _lib.BalloonInfo()
        check(lib.vc_balloon_info(self._handle, raw))
        return Balloon(raw.ram, raw.now, raw.target, raw.limit)

    def balloon_target(self, size: int) -> None:
        """Asks the guest's balloon driver to have so many bytes; returns at once."""
        check(lib.vc_balloon_target(self._handle, size))

    def balloon_limit(self, size: int) -> None:
        """The guest gets no more than that from now on; what it has it keeps."""
        check(lib.vc_balloon_limit(self._handle, size))

    def resume(self) -> None:
        """Lets a guest go on that suspended itself (Power.SUSPEND)."""
        check(lib.vc_resume(self._handle))
