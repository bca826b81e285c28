# SPDX-License-Identifier: MIT
"""vCPUs that share host CPUs."""

from __future__ import annotations

import dataclasses
from types import TracebackType

from . import _lib
from ._cpu import Cpu
from ._errors import check, last_error
from ._lib import lib


@dataclasses.dataclass(frozen=True)
class Time:
    """What a vCPU had since it joined a scheduler."""

    ran: float  # seconds of processor time
    waited: float  # seconds it waited for its turn
    turns: int


class Scheduler:
    """Lets its vCPUs run by turns, in proportion to their weights and below their caps.

    host_cpus: a mask, bit n for host CPU n; 0: all that this thread may use.
    slice: seconds between two decisions; 0: 2 ms. Usable as a context manager; vCPUs
    leave by remove() or with their partition before it is closed.
    """

    def __init__(self, host_cpus: int = 0, slice: float = 0) -> None:
        opts = _lib.SchedOpts(host_cpus=host_cpus, slice_us=round(slice * 1e6))
        self._handle: int | None = lib.vc_sched_new(opts)
        if not self._handle:
            raise last_error()

    def close(self) -> None:
        if self._handle:
            check(lib.vc_sched_free(self._handle))
            self._handle = None

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def set(self, cpu: Cpu, weight: int = 0, cap: int = 0, pin: int = 0) -> None:
        """The vCPU joins, or its share changes. cap: hundredths of a host CPU; 0: none.
        pin: a mask of host CPUs; 0: all of the scheduler's."""
        share = _lib.SchedShare(weight=weight, cap=cap, pin=pin)
        check(lib.vc_sched_set(self._handle, cpu._handle, share))

    def remove(self, cpu: Cpu) -> None:
        check(lib.vc_sched_remove(self._handle, cpu._handle))

    def time(self, cpu: Cpu) -> Time:
        out = _lib.SchedTime()
        check(lib.vc_sched_time(self._handle, cpu._handle, out))
        return Time(out.ran_ns / 1e9, out.waited_ns / 1e9, out.turns)
