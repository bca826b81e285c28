# SPDX-License-Identifier: MIT
"""Run x86-64 guests in hardware or in pure emulation, with libvirtcore.

    with virtcore.Vm("auto") as vm:
        vm.map(0x1000, 0x1000)
        vm.write(0x1000, b"\\xb0\\x2a\\xe6\\x10\\xf4")  # mov al, 42; out 0x10, al; hlt
        cpu = vm.cpu(virtcore.Mode.LONG64, 0x1000)
        print(cpu.run())
"""

from ._call import (ADDR, BUF, CBUF, CSTR, F32, F64, I8, I16, I32, I64, OBUF, U8, U16, U32, U64)
from ._cpu import FETCH, READ, USER, WRITE, Cpu, Doing, Exit, ExitKind, Mode, Power, Reg, Stats
from ._errors import VcError
from ._inspect import (Answer, FileKind, Kernel, KernelFlag, Part, PartFlag, Report, Start,
                       Verdict, inspect)
from ._pool import Balloon, Pool, PoolInfo
from ._sched import Scheduler, Time
from ._vm import (FEAT_BUDGET_INSNS, FEAT_BUDGET_NS, FEAT_DIRTY_LOG, FEAT_HW, FEAT_SINGLE_STEP,
                  FEAT_SMP, MEM_EXEC, MEM_LOG, MEM_READ, MEM_ROM, MEM_RWX, MEM_WRITE, Access,
                  FEAT_HCALL, Binding, Engine, ImageKind, Info, IrqChip, Probe, Space, Trap, Virt,
                  Vm, backends, elf_symbol, probe, version)

__version__ = version()

__all__ = [
    "Answer", "FileKind", "Kernel", "KernelFlag", "Part", "PartFlag", "Report", "Start",
    "Verdict", "inspect",
    "Access", "Balloon", "Binding", "Cpu", "Doing", "Engine", "Exit", "ExitKind", "ImageKind", "Info",
    "IrqChip", "Mode", "Pool", "PoolInfo", "Power", "Probe", "Reg",
    "Scheduler", "Space", "Stats", "Time", "Trap", "VcError", "Virt", "Vm", "backends", "elf_symbol", "probe", "version",
    "ADDR", "BUF", "CBUF", "CSTR", "F32", "F64", "I8", "I16", "I32", "I64", "OBUF", "U8", "U16",
    "U32", "U64",
    "FEAT_BUDGET_INSNS", "FEAT_BUDGET_NS", "FEAT_DIRTY_LOG", "FEAT_HCALL", "FEAT_HW", "FEAT_SINGLE_STEP",
    "FEAT_SMP", "MEM_EXEC", "MEM_LOG", "MEM_READ", "MEM_ROM", "MEM_RWX", "MEM_WRITE",
    "FETCH", "READ", "USER", "WRITE",
]
