# SPDX-License-Identifier: MIT
"""libvirtcore's C interface by ctypes: include/virtcore/*.h, name by name."""

from __future__ import annotations

import ctypes as ct
import ctypes.util
import os
import pathlib
from ctypes import POINTER, c_char, c_char_p, c_int, c_long, c_size_t, c_uint, c_void_p
from ctypes import c_uint8 as u8
from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64


class Sized(ct.Structure):
    """A structure that begins with its size, which is set when it is made."""

    def __init__(self, **fields: object) -> None:
        super().__init__(size=ct.sizeof(self), **fields)


class ProbeInfo(Sized):
    _fields_ = [("size", c_size_t), ("usable", c_int), ("features", u32), ("max_cpus", u32),
                ("reason", c_char * 256)]


LogFn = ct.CFUNCTYPE(None, c_void_p, c_int, c_char_p)
TrapFn = ct.CFUNCTYPE(c_int, c_void_p, c_void_p)
HcallFn = ct.CFUNCTYPE(c_int, c_void_p, c_void_p, u64, POINTER(u64), POINTER(u64))
SerialFn = ct.CFUNCTYPE(None, c_void_p, c_void_p, c_size_t)


OPT_SAMPLE = 1


class VmOpts(Sized):
    _fields_ = [("size", c_size_t), ("mem_quota", u64), ("max_cpus", u32), ("cpu_model", c_char_p),
                ("log", LogFn), ("log_ud", c_void_p), ("log_level", c_int), ("engine", u32),
                ("flags", u32), ("perf_symbols", c_char_p), ("pool", c_void_p)]


class VmInfo(Sized):
    _fields_ = [("size", c_size_t), ("backend", c_char * 16), ("why", c_char * 256),
                ("features", u32), ("max_cpus", u32), ("cpus", u32), ("mem_mapped", u64),
                ("mem_quota", u64), ("tsc_hz", u64)]


class Access(ct.Structure):
    _fields_ = [("addr", u64), ("data", u64), ("len", u32), ("write", u32), ("cpu", c_void_p)]


class ExitPort(ct.Structure):
    _fields_ = [("port", u16), ("len", u8), ("write", u8), ("data", u32)]


class ExitMmio(ct.Structure):
    _fields_ = [("gpa", u64), ("len", u32), ("write", u32), ("data", u64)]


class ExitPower(ct.Structure):
    _fields_ = [("kind", u32), ("code", u32)]


class ExitDebug(ct.Structure):
    _fields_ = [("dr6", u64)]


class ExitHcall(ct.Structure):
    _fields_ = [("nr", u64), ("args", u64 * 6), ("ret", u64)]


class ExitFailed(ct.Structure):
    _fields_ = [("reason", u32), ("nbytes", u32), ("bytes", u8 * 16)]


class ExitUnion(ct.Union):
    _fields_ = [("port", ExitPort), ("mmio", ExitMmio), ("power", ExitPower),
                ("debug", ExitDebug), ("hcall", ExitHcall), ("failed", ExitFailed),
                ("room", u8 * 96)]


class Exit(Sized):
    _fields_ = [("size", c_size_t), ("kind", u32), ("pad", u32), ("rip", u64), ("u", ExitUnion)]


class Budget(Sized):
    _fields_ = [("size", c_size_t), ("insns", u64), ("ns", u64)]


class Gprs(Sized):
    _fields_ = [("size", c_size_t), ("gpr", u64 * 16), ("rip", u64), ("rflags", u64)]


class ValueUnion(ct.Union):
    _fields_ = [("i", ct.c_int64), ("u", u64), ("f", ct.c_double), ("p", c_void_p)]


class DiskOpts(Sized):
    _fields_ = [("size", c_size_t), ("path", c_char_p), ("ops", c_void_p), ("ud", c_void_p),
                ("bytes", u64), ("flags", u32)]


class NetOpts(Sized):
    _fields_ = [("size", c_size_t), ("link", c_char_p), ("mac", u8 * 6)]


class InspectOpts(Sized):
    _fields_ = [("size", c_size_t), ("path", c_char_p), ("bytes", c_char_p), ("len", c_size_t)]


class ReportInfo(Sized):
    _fields_ = [("size", c_size_t), ("bytes", u64), ("kind", u32), ("parts", u32),
                ("kernels", u32), ("facts", u32), ("what", c_char_p)]


class ReportVirt(Sized):
    _fields_ = [("size", c_size_t), ("answer", u32), ("start", u32), ("startable", u32),
                ("reasons", u32)]


class ReportPart(Sized):
    _fields_ = [("size", c_size_t), ("start", u64), ("bytes", u64), ("number", u32),
                ("flags", u32), ("name", c_char_p), ("type", c_char_p), ("label", c_char_p),
                ("fs", c_char_p)]


class ReportKernel(Sized):
    _fields_ = [("size", c_size_t), ("bytes", u64), ("kind", u32), ("flags", u32),
                ("protocol", u32), ("facts", u32), ("entry", u64), ("pv_entry", u64),
                ("pvh_entry", u64), ("name", c_char_p), ("version", c_char_p),
                ("packed", c_char_p)]


class Value(ct.Structure):
    _fields_ = [("v", ValueUnion), ("len", c_size_t)]


class CallOpts(Sized):
    _fields_ = [("size", c_size_t), ("insns", u64), ("ns", u64), ("stack", u64), ("ret", u64),
                ("exit", c_void_p), ("ud", c_void_p)]


class Segment(ct.Structure):
    _fields_ = [("base", u64), ("limit", u32), ("selector", u16), ("attr", u16)]


class Sregs(Sized):
    _fields_ = [("size", c_size_t)] + [
        (name, Segment) for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")] + [
        ("gdt_base", u64), ("idt_base", u64), ("gdt_limit", u32), ("idt_limit", u32)] + [
        (name, u64) for name in ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")]


class StepCount(ct.Structure):
    _fields_ = [("name", c_char * 24), ("count", u64)]


class Stats(Sized):
    _fields_ = [("size", c_size_t)] + [(name, u64) for name in (
        "insns", "blocks", "decoded", "tlb_misses", "tlb_flushes", "port_exits", "mmio_exits",
        "irqs", "exceptions", "hlts", "smc", "run_ns", "idle_ns", "lockstep_insns",
        "lockstep_pieces", "lockstep_taken", "translated", "check_misses", "check_hits",
        "callouts", "callouts_slow")] + [
        ("exits", u64 * 16), ("samples", u64 * 8), ("steps", StepCount * 16)]


class PcOpts(Sized):
    _fields_ = [("size", c_size_t), ("ram", u64), ("cpus", u32), ("flags", u32),
                ("serial_out", SerialFn), ("serial_ud", c_void_p), ("irqchip", u32), ("pad", u32)]


class Bind(Sized):
    _fields_ = [("size", c_size_t), ("kind", u32), ("flags", u32), ("addr", u64), ("data", u64),
                ("space", u32), ("len", u32), ("gsi", u32), ("fd", c_int)]


class BootOpts(Sized):
    _fields_ = [("size", c_size_t), ("kind", u32), ("virt", u32), ("kernel", c_char_p),
                ("kernel_len", c_size_t), ("initrd", c_char_p), ("initrd_len", c_size_t),
                ("cmdline", c_char_p)]


class SchedOpts(Sized):
    _fields_ = [("size", c_size_t), ("host_cpus", u64), ("slice_us", u32)]


class SchedShare(Sized):
    _fields_ = [("size", c_size_t), ("weight", u32), ("cap", u32), ("pin", u64)]


class SchedTime(Sized):
    _fields_ = [("size", c_size_t), ("ran_ns", u64), ("waited_ns", u64), ("turns", u64)]


class PoolInfo(Sized):
    _fields_ = [("size", c_size_t), ("bytes", u64), ("taken", u64), ("partitions", u32)]


class BalloonInfo(Sized):
    _fields_ = [("size", c_size_t), ("ram", u64), ("now", u64), ("target", u64), ("limit", u64)]


_VM = _CPU = _SCHED = _POOL = c_void_p
_PROTOTYPES: dict[str, tuple[object, list[object]]] = {
    "vc_errmsg": (c_char_p, []),
    "vc_errcode": (c_int, []),
    "vc_errclear": (None, []),
    "vc_errname": (c_char_p, [c_int]),
    "vc_version": (c_char_p, []),
    "vc_probe": (c_int, [c_char_p, POINTER(ProbeInfo)]),
    "vc_backend_name": (c_char_p, [c_uint]),
    "vc_open": (_VM, [c_char_p, POINTER(VmOpts)]),
    "vc_close": (c_int, [_VM]),
    "vc_info": (c_int, [_VM, POINTER(VmInfo)]),
    "vc_map": (c_int, [_VM, u64, u64, u32]),
    "vc_unmap": (c_int, [_VM, u64, u64]),
    "vc_read": (c_int, [_VM, u64, c_void_p, c_size_t]),
    "vc_write": (c_int, [_VM, u64, c_char_p, c_size_t]),
    "vc_dirty_log": (c_int, [_VM, u64, u64, c_void_p, c_size_t]),
    "vc_trap": (c_int, [_VM, c_int, u64, u64, TrapFn, c_void_p]),
    "vc_untrap": (c_int, [_VM, c_int]),
    "vc_irq_line": (c_int, [_VM, c_uint, c_int]),
    "vc_msi": (c_int, [_VM, u64, u32]),
    "vc_hcall": (c_int, [_VM, u32, c_char_p, c_void_p, c_void_p]),
    "vc_hcall_del": (c_int, [_VM, u32]),
    "vc_hcall_stop": (c_int, [_CPU, c_int]),
    "vc_call": (c_int, [_CPU, u64, c_char_p, POINTER(Value), c_uint, POINTER(Value),
                        POINTER(CallOpts)]),
    "vc_elf_load": (c_int, [_VM, c_char_p, c_size_t, POINTER(u64)]),
    "vc_elf_symbol": (c_int, [c_char_p, c_size_t, c_char_p, POINTER(u64)]),
    "vc_hcall_set": (c_int, [_VM, HcallFn, c_void_p]),
    "vc_bind_fd": (c_int, [_VM, POINTER(Bind)]),
    "vc_disk_add": (c_int, [_VM, POINTER(DiskOpts)]),
    "vc_net_add": (c_int, [_VM, POINTER(NetOpts)]),
    "vc_unbind_fd": (c_int, [_VM, c_int]),
    "vc_pc": (c_int, [_VM, POINTER(PcOpts)]),
    "vc_serial_in": (c_long, [_VM, c_char_p, c_size_t]),
    "vc_serial_wait": (c_int, [_VM, c_int]),
    "vc_boot": (c_int, [_VM, POINTER(BootOpts)]),
    "vc_resume": (c_int, [_VM]),
    "vc_pool_new": (_POOL, [u64]),
    "vc_pool_free": (c_int, [_POOL]),
    "vc_pool_resize": (c_int, [_POOL, u64]),
    "vc_pool_info": (c_int, [_POOL, POINTER(PoolInfo)]),
    "vc_balloon_target": (c_int, [_VM, u64]),
    "vc_balloon_limit": (c_int, [_VM, u64]),
    "vc_balloon_info": (c_int, [_VM, POINTER(BalloonInfo)]),
    "vc_cpu_new": (_CPU, [_VM, c_int, u64]),
    "vc_cpu_free": (c_int, [_CPU]),
    "vc_cpu_reset": (c_int, [_CPU, c_int, u64]),
    "vc_cpu_index": (c_int, [_CPU]),
    "vc_run": (c_int, [_CPU, POINTER(Budget), POINTER(Exit)]),
    "vc_kick": (c_int, [_CPU]),
    "vc_reg_get": (c_int, [_CPU, c_int, POINTER(u64)]),
    "vc_reg_set": (c_int, [_CPU, c_int, u64]),
    "vc_gprs_get": (c_int, [_CPU, POINTER(Gprs)]),
    "vc_gprs_set": (c_int, [_CPU, POINTER(Gprs)]),
    "vc_sregs_get": (c_int, [_CPU, POINTER(Sregs)]),
    "vc_sregs_set": (c_int, [_CPU, POINTER(Sregs)]),
    "vc_msr_get": (c_int, [_CPU, u32, POINTER(u64)]),
    "vc_msr_set": (c_int, [_CPU, u32, u64]),
    "vc_translate": (c_int, [_CPU, u64, u32, POINTER(u64)]),
    "vc_inject_irq": (c_int, [_CPU, u8]),
    "vc_inject_nmi": (c_int, [_CPU]),
    "vc_inject_exception": (c_int, [_CPU, u8, u32, u64]),
    "vc_single_step": (c_int, [_CPU, c_int]),
    "vc_cpu_stats": (c_int, [_CPU, POINTER(Stats)]),
    "vc_inspect": (c_void_p, [POINTER(InspectOpts)]),
    "vc_report_free": (None, [c_void_p]),
    "vc_report_info": (c_int, [c_void_p, POINTER(ReportInfo)]),
    "vc_report_virt": (c_int, [c_void_p, u32, u32, POINTER(ReportVirt)]),
    "vc_report_reason": (c_char_p, [c_void_p, u32, u32, u32]),
    "vc_report_fact": (c_char_p, [c_void_p, u32, u32]),
    "vc_report_part": (c_int, [c_void_p, u32, POINTER(ReportPart)]),
    "vc_report_kernel": (c_int, [c_void_p, u32, POINTER(ReportKernel)]),
    "vc_sched_new": (_SCHED, [POINTER(SchedOpts)]),
    "vc_sched_free": (c_int, [_SCHED]),
    "vc_sched_set": (c_int, [_SCHED, _CPU, POINTER(SchedShare)]),
    "vc_sched_remove": (c_int, [_SCHED, _CPU]),
    "vc_sched_time": (c_int, [_SCHED, _CPU, POINTER(SchedTime)]),
}


def _find() -> str:
    named = os.environ.get("VIRTCORE_LIB")
    if named:
        return named
    for parent in pathlib.Path(__file__).resolve().parents:
        if (parent / "src" / "virtcore.symbols").exists():
            built = sorted(parent.glob("build/*/libvirtcore.so"), key=os.path.getmtime)
            # A sanitizer's build does not load into a plain Python.
            plain = [b for b in built if b.parent.name not in ("asan", "tsan", "fuzz")]
            if plain:
                return str(plain[-1])
    return ctypes.util.find_library("virtcore") or "libvirtcore.so.0"


def _load() -> ct.CDLL:
    path = _find()
    try:
        lib = ct.CDLL(path)
    except OSError as e:
        raise ImportError(
            f"libvirtcore cannot be loaded ({e}): build it (cmake --preset release && "
            "cmake --build --preset release) or name it in VIRTCORE_LIB") from e
    for name, (restype, argtypes) in _PROTOTYPES.items():
        function = getattr(lib, name)
        function.restype = restype
        function.argtypes = argtypes
    return lib


lib = _load()
