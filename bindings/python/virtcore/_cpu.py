# SPDX-License-Identifier: MIT
"""Virtual CPUs: running them, and their registers."""

from __future__ import annotations

import ctypes as ct
import dataclasses
import enum
import threading
import time
from typing import TYPE_CHECKING

from . import _call, _lib
from ._errors import ECALLBACK, VcError, check, last_error
from ._lib import lib

if TYPE_CHECKING:
    from ._vm import Vm


class Mode(enum.IntEnum):
    """First states of a vCPU."""

    RESET = 0
    REAL16 = 1
    FLAT32 = 2
    LONG64 = 3
    WAIT_SIPI = 4


class ExitKind(enum.IntEnum):
    """Why Cpu.run() came back."""

    NONE = 0
    BUDGET = 1
    KICK = 2
    PORT = 3
    MMIO = 4
    HLT = 5
    SHUTDOWN = 6
    POWER = 7
    DEBUG = 8
    HCALL = 9
    FAILED = 10


class Doing(enum.IntEnum):
    """What a vCPU's thread was found doing: Stats.samples."""

    TRANSLATED = 0
    INTERPRETER = 1
    TRANSLATOR = 2
    DEVICES = 3
    IDLE = 4


class Power(enum.IntEnum):
    """How the machine went down."""

    OFF = 1
    RESET = 2
    PANIC = 3
    EXIT = 4
    SUSPEND = 5


class Reg(enum.IntEnum):
    """Registers that are also attributes of Cpu, in lower case."""

    RAX = 0
    RCX = 1
    RDX = 2
    RBX = 3
    RSP = 4
    RBP = 5
    RSI = 6
    RDI = 7
    R8 = 8
    R9 = 9
    R10 = 10
    R11 = 11
    R12 = 12
    R13 = 13
    R14 = 14
    R15 = 15
    RIP = 16
    RFLAGS = 17
    CR0 = 32
    CR2 = 33
    CR3 = 34
    CR4 = 35
    CR8 = 36
    EFER = 37
    XCR0 = 38
    PKRU = 39
    DR0 = 48
    DR1 = 49
    DR2 = 50
    DR3 = 51
    DR6 = 52
    DR7 = 53


class Exit:
    """Why a run ended. Valid until the next run of the same vCPU.

    The answer to a read (PORT, MMIO) is given by setting `data`, that of a
    hypercall by setting `ret`, before the next run.
    """

    def __init__(self, raw: _lib.Exit) -> None:
        self._raw = raw

    def _of(self, *kinds: ExitKind) -> ct.Structure:
        if self.kind not in kinds:
            raise AttributeError(f"an exit of kind {self.kind.name} has no such field")
        return getattr(self._raw.u, self.kind.name.lower())

    @property
    def kind(self) -> ExitKind:
        return ExitKind(self._raw.kind)

    @property
    def rip(self) -> int:
        """The instruction that exits."""
        return self._raw.rip

    @property
    def port(self) -> int:
        return self._of(ExitKind.PORT).port

    @property
    def gpa(self) -> int:
        """MMIO: the guest-physical address."""
        return self._of(ExitKind.MMIO).gpa

    @property
    def len(self) -> int:
        return self._of(ExitKind.PORT, ExitKind.MMIO).len

    @property
    def write(self) -> bool:
        return bool(self._of(ExitKind.PORT, ExitKind.MMIO).write)

    @property
    def data(self) -> int:
        return self._of(ExitKind.PORT, ExitKind.MMIO).data

    @data.setter
    def data(self, value: int) -> None:
        self._of(ExitKind.PORT, ExitKind.MMIO).data = value

    @property
    def power(self) -> Power:
        return Power(self._of(ExitKind.POWER).kind)

    @property
    def code(self) -> int:
        """POWER: the code of isa-debug-exit."""
        return self._of(ExitKind.POWER).code

    @property
    def dr6(self) -> int:
        return self._of(ExitKind.DEBUG).dr6

    @property
    def nr(self) -> int:
        """HCALL: the hypercall's number."""
        return self._of(ExitKind.HCALL).nr

    @property
    def args(self) -> tuple[int, ...]:
        return tuple(self._of(ExitKind.HCALL).args)

    @property
    def ret(self) -> int:
        return self._of(ExitKind.HCALL).ret

    @ret.setter
    def ret(self, value: int) -> None:
        self._of(ExitKind.HCALL).ret = value

    def __repr__(self) -> str:
        return f"<Exit {self.kind.name} at {self.rip:#x}>"


@dataclasses.dataclass(frozen=True)
class Stats:
    """Counts since the vCPU was made; see struct vc_stats."""

    insns: int
    blocks: int
    decoded: int
    tlb_misses: int
    tlb_flushes: int
    port_exits: int
    mmio_exits: int
    irqs: int
    exceptions: int
    hlts: int
    smc: int
    run_ns: int
    idle_ns: int
    lockstep_insns: int
    lockstep_pieces: int
    lockstep_taken: int
    translated: int
    check_misses: int
    check_hits: int
    callouts: int
    callouts_slow: int
    exits: dict[ExitKind, int]  # returns of the C library's vc_run
    samples: dict[Doing, int]  # with Vm(sample=True)
    steps: dict[str, int]  # instructions that are not translated, most frequent first


# On the main thread a run is cut into parts of this length: only between two
# calls can Python act on Ctrl-C.
_PART_NS = 100_000_000

READ, WRITE, FETCH, USER = 0, 1, 2, 4


class Cpu:
    """A virtual CPU, made by Vm.cpu(). Used by one thread at a time."""

    rax: int
    rcx: int
    rdx: int
    rbx: int
    rsp: int
    rbp: int
    rsi: int
    rdi: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rip: int
    rflags: int
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    efer: int
    xcr0: int

    def __init__(self, vm: Vm, handle: int) -> None:
        self._vm = vm
        self._handle: int | None = handle
        self._exit = _lib.Exit()

    @property
    def vm(self) -> Vm:
        return self._vm

    @property
    def index(self) -> int:
        return check(lib.vc_cpu_index(self._handle))

    # ---- running ------------------------------------------------------------

    def _part(self, insns: int, ns: int) -> None:
        budget = _lib.Budget(insns=insns, ns=ns)
        rc = lib.vc_run(self._handle, budget, self._exit)
        raised = self._vm._take_exception(self._handle)
        if rc == ECALLBACK and raised is not None:
            raise raised
        check(rc)

    def run(self, insns: int = 0, seconds: float = 0) -> Exit:
        """Runs until something happens that nobody handles.

        insns, seconds: the budget, after which the exit is BUDGET; 0: none.
        Raises what a trap raised, and VcError.
        """
        limit = time.monotonic_ns() + int(seconds * 1e9) if seconds > 0 else 0
        parts = (threading.current_thread() is threading.main_thread() and
                 self._vm._has_time_budget)
        done = self.stats().insns if insns and parts else 0
        while True:
            ns = max(limit - time.monotonic_ns(), 1) if limit else 0
            part = parts and (not ns or ns > _PART_NS)
            self._part(insns, _PART_NS if part else ns)
            if not part or self._exit.kind != ExitKind.BUDGET:
                return Exit(self._exit)
            if insns:
                now = self.stats().insns
                insns -= min(now - done, insns)
                done = now
                if not insns:
                    return Exit(self._exit)

    def call(self, address: int, signature: str, *args: object, insns: int = 0,
             seconds: float = 0, stack: int = 0, ret: int = 0) -> object:
        """Calls a function of the guest's: cpu.call(addr, "i64(u32,cstr)", 5, "text").

        A bytearray for buf or obuf gets what the function left there. The state is as
        before afterwards. Raises what a hypercall or trap raised, and VcError. Ctrl-C is
        seen when the call is over: give it a budget.
        """
        kind, types = _call.split(signature)
        raw, keep = _call.guest_args(types, args)
        opts = _lib.CallOpts(insns=insns, ns=int(seconds * 1e9), stack=stack, ret=ret)
        result = _lib.Value()
        rc = lib.vc_call(self._handle, address, signature.encode(), raw, len(types), result, opts)
        if rc == ECALLBACK:
            message = last_error()
            raised = self._vm._take_exception(self._handle)
            if raised is not None:
                raise raised
            raise message
        check(rc)
        return _call.guest_result(kind, types, args, keep, result)

    def kick(self) -> None:
        """Makes the current run, or the next one, return with KICK. From any
        thread."""
        check(lib.vc_kick(self._handle))

    def single_step(self, on: bool = True) -> None:
        """Exits with DEBUG after every instruction."""
        check(lib.vc_single_step(self._handle, on))

    def reset(self, mode: Mode = Mode.RESET, pc: int = 0) -> None:
        check(lib.vc_cpu_reset(self._handle, mode, pc))

    def free(self) -> None:
        """Takes the vCPU out of its partition."""
        check(lib.vc_cpu_free(self._handle))
        self._vm._forget(self)
        self._handle = None

    # ---- registers ------------------------------------------------------------

    def get(self, reg: Reg) -> int:
        value = ct.c_uint64()
        check(lib.vc_reg_get(self._handle, reg, value))
        return value.value

    def set(self, reg: Reg, value: int) -> None:
        check(lib.vc_reg_set(self._handle, reg, value))

    def regs(self) -> dict[str, int]:
        """All general registers, RIP and RFLAGS by name, in one call."""
        raw = _lib.Gprs()
        check(lib.vc_gprs_get(self._handle, raw))
        values = list(raw.gpr) + [raw.rip, raw.rflags]
        return {Reg(i).name.lower(): v for i, v in enumerate(values)}

    def sregs(self) -> _lib.Sregs:
        """Segments, descriptor tables and control registers: struct vc_sregs."""
        raw = _lib.Sregs()
        check(lib.vc_sregs_get(self._handle, raw))
        return raw

    def set_sregs(self, sregs: _lib.Sregs) -> None:
        check(lib.vc_sregs_set(self._handle, sregs))

    def msr(self, index: int) -> int:
        value = ct.c_uint64()
        check(lib.vc_msr_get(self._handle, index, value))
        return value.value

    def set_msr(self, index: int, value: int) -> None:
        check(lib.vc_msr_set(self._handle, index, value))

    def translate(self, linear: int, access: int = READ) -> int:
        """The guest-physical address behind a linear one."""
        gpa = ct.c_uint64()
        check(lib.vc_translate(self._handle, linear, access, gpa))
        return gpa.value

    # ---- events -------------------------------------------------------------------

    def inject_irq(self, vector: int) -> None:
        """An external interrupt, in a partition without interrupt controllers."""
        check(lib.vc_inject_irq(self._handle, vector))

    def inject_nmi(self) -> None:
        check(lib.vc_inject_nmi(self._handle))

    def inject_exception(self, vector: int, error_code: int = 0, cr2: int = 0) -> None:
        check(lib.vc_inject_exception(self._handle, vector, error_code, cr2))

    def stats(self) -> Stats:
        raw = _lib.Stats()
        check(lib.vc_cpu_stats(self._handle, raw))
        counts = {f.name: getattr(raw, f.name) for f in dataclasses.fields(Stats)}
        counts["exits"] = {kind: raw.exits[kind] for kind in ExitKind if raw.exits[kind]}
        counts["samples"] = {what: raw.samples[what] for what in Doing if raw.samples[what]}
        counts["steps"] = {s.name.decode(): s.count for s in raw.steps if s.name}
        return Stats(**counts)


def _register(reg: Reg) -> property:
    return property(lambda self: self.get(reg), lambda self, value: self.set(reg, value))


for _reg in Reg:
    setattr(Cpu, _reg.name.lower(), _register(_reg))

__all__ = ["Cpu", "Exit", "ExitKind", "Mode", "Power", "Reg", "Stats", "VcError"]
