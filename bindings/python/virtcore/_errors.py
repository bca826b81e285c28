# SPDX-License-Identifier: MIT
"""What the library's negative codes become."""

from __future__ import annotations

from ._lib import lib

ECALLBACK = -14


class VcError(Exception):
    """A call failed.

    code:    the negative VC_E* number
    name:    its name, "VC_EINVAL"
    message: the library's sentence: what was wrong and what to do
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.name: str = lib.vc_errname(code).decode()
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.name})"


def last_error() -> VcError:
    """The failure this thread's last call left."""
    return VcError(lib.vc_errcode(), lib.vc_errmsg().decode(errors="replace"))


def check(rc: int) -> int:
    """Passes a result on; raises VcError for a negative one."""
    if rc >= 0:
        return rc
    message = lib.vc_errmsg().decode(errors="replace") if lib.vc_errcode() else ""
    raise VcError(rc, message or "the call failed")
