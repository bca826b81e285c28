# SPDX-License-Identifier: MIT
"""What a kernel or a disk image is, which kinds of guest it can be, and why."""

from __future__ import annotations

import dataclasses
import enum
import os

from . import _lib
from ._errors import check, last_error
from ._lib import lib
from ._vm import ImageKind, Virt


class FileKind(enum.IntEnum):
    UNKNOWN = 0
    KERNEL = 1
    DISK = 2
    CONTAINER = 3  # qcow2, VMDK..., or packed: not looked into


class Answer(enum.IntEnum):
    NO = 0
    YES = 1
    UNKNOWN = 2  # something there could not be looked into


class Start(enum.IntEnum):
    """How a guest of that kind comes to run."""

    NONE = 0
    KERNEL = 1  # by Vm.boot(): the file, or a kernel inside it
    GRUB = 2  # PV-GRUB or PVH-GRUB reads the disk's own grub.cfg
    BIOS = 3
    EFI = 4


class PartFlag(enum.IntFlag):
    ACTIVE = 1
    EXTENDED = 2
    ESP = 4
    READ = 8  # its file system was looked into


class KernelFlag(enum.IntFlag):
    BITS64 = 1
    EFI_STUB = 2
    UNPACKED = 4
    IN_GRUB = 8  # a grub.cfg of the disk names it


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether it can be a guest of one kind. The first reason counts most."""

    answer: Answer
    start: Start
    startable: bool  # this build of the library can start it that way
    reasons: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.answer is Answer.YES


@dataclasses.dataclass(frozen=True)
class Part:
    """A partition, or the disk without partitions (number 0)."""

    name: str  # GRUB's: "(hd0,gpt1)"
    number: int
    start: int  # bytes
    bytes: int
    type: str
    label: str
    fs: str  # "ext4"...; "": none that is known
    flags: PartFlag


@dataclasses.dataclass(frozen=True)
class Kernel:
    name: str  # "(hd0,msdos1)/boot/vmlinuz"; "" where the file is the kernel
    bytes: int
    kind: ImageKind  # AUTO: vc_boot() would not take it for HVM
    flags: KernelFlag
    protocol: int  # bzImage: 0x20f is 2.15
    entry: int
    pv_entry: int  # 0: none
    pvh_entry: int
    version: str
    packed: str  # "xz"...
    facts: tuple[str, ...]
    virt: dict[Virt, Verdict]


@dataclasses.dataclass(frozen=True)
class Report:
    what: str
    kind: FileKind
    bytes: int
    facts: tuple[str, ...]
    virt: dict[Virt, Verdict]
    parts: tuple[Part, ...]
    kernels: tuple[Kernel, ...]


_FILE = 0xFFFFFFFF


def _facts(handle: int, kernel: int) -> tuple[str, ...]:
    lines: list[str] = []
    while (line := lib.vc_report_fact(handle, kernel, len(lines))) is not None:
        lines.append(line.decode())
    return tuple(lines)


def _verdicts(handle: int, kernel: int) -> dict[Virt, Verdict]:
    verdicts = {}
    for virt in Virt:
        raw = _lib.ReportVirt()
        check(lib.vc_report_virt(handle, kernel, virt, raw))
        verdicts[virt] = Verdict(
            Answer(raw.answer), Start(raw.start), bool(raw.startable),
            tuple(lib.vc_report_reason(handle, kernel, virt, i).decode()
                  for i in range(raw.reasons)))
    return verdicts


def _part(handle: int, index: int) -> Part:
    raw = _lib.ReportPart()
    check(lib.vc_report_part(handle, index, raw))
    return Part(raw.name.decode(), raw.number, raw.start, raw.bytes, raw.type.decode(),
                raw.label.decode(), raw.fs.decode(), PartFlag(raw.flags))


def _kernel(handle: int, index: int) -> Kernel:
    raw = _lib.ReportKernel()
    check(lib.vc_report_kernel(handle, index, raw))
    return Kernel(raw.name.decode(), raw.bytes, ImageKind(raw.kind), KernelFlag(raw.flags),
                  raw.protocol, raw.entry, raw.pv_entry, raw.pvh_entry, raw.version.decode(),
                  raw.packed.decode(), _facts(handle, index), _verdicts(handle, index))


def inspect(image: str | os.PathLike[str] | bytes) -> Report:
    """Looks at a kernel or a disk image: a path, or bytes. Nothing in it is trusted, and
    nothing is written. What is no image of any known kind is a report that says so."""
    if isinstance(image, bytes):
        opts = _lib.InspectOpts(bytes=image, len=len(image))
    else:
        opts = _lib.InspectOpts(path=os.fsencode(image))
    handle = lib.vc_inspect(opts)
    if not handle:
        raise last_error()
    try:
        raw = _lib.ReportInfo()
        check(lib.vc_report_info(handle, raw))
        return Report(raw.what.decode(), FileKind(raw.kind), raw.bytes, _facts(handle, _FILE),
                      _verdicts(handle, _FILE),
                      tuple(_part(handle, i) for i in range(raw.parts)),
                      tuple(_kernel(handle, i) for i in range(raw.kernels)))
    finally:
        lib.vc_report_free(handle)
