# SPDX-License-Identifier: MIT
"""Host memory that partitions share, and guests that give some of theirs back."""

from __future__ import annotations

import dataclasses
from types import TracebackType

from . import _lib
from ._errors import check, last_error
from ._lib import lib


@dataclasses.dataclass(frozen=True)
class PoolInfo:
    """Bytes of a pool, how many of them are taken, how many partitions belong to it."""

    bytes: int
    taken: int
    partitions: int


@dataclasses.dataclass(frozen=True)
class Balloon:
    """Bytes: the guest's RAM, what it has of that, shall have, and may have."""

    ram: int
    now: int
    target: int
    limit: int


class Pool:
    """An amount of host memory for the RAM of partitions: Vm(pool=...). Usable as a context
    manager; its partitions are closed before it."""

    def __init__(self, size: int) -> None:
        self._handle: int | None = lib.vc_pool_new(size)
        if not self._handle:
            raise last_error()

    def close(self) -> None:
        if self._handle:
            check(lib.vc_pool_free(self._handle))
            self._handle = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def resize(self, size: int) -> None:
        """May be less than what is taken: then nobody gets more until enough came back."""
        check(lib.vc_pool_resize(self._handle, size))

    def info(self) -> PoolInfo:
        raw = _lib.PoolInfo()
        check(lib.vc_pool_info(self._handle, raw))
        return PoolInfo(raw.bytes, raw.taken, raw.partitions)
