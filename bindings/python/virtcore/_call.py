# SPDX-License-Identifier: MIT
"""Calls between host and guest: signatures from annotations, Python functions as
hypercalls."""

from __future__ import annotations

import ctypes as ct
import inspect
import typing
from typing import Callable

from . import _lib
from ._errors import ECALLBACK


class Type:
    """A type of virtcore/call.h, used as an annotation: def add(a: U32, b: U32) -> U64."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self) -> None:  # typing.get_type_hints wants callables
        raise TypeError(f"{self.name} is an annotation")

    def __repr__(self) -> str:
        return self.name


I8, I16, I32, I64 = Type("i8"), Type("i16"), Type("i32"), Type("i64")
U8, U16, U32, U64 = Type("u8"), Type("u16"), Type("u32"), Type("u64")
F32, F64, ADDR = Type("f32"), Type("f64"), Type("addr")
BUF = Type("buf")  # bytearray, which may be changed but keeps its length
CBUF = Type("cbuf")  # bytes
OBUF = Type("obuf")  # bytearray of zeroes, to be filled
CSTR = Type("cstr")  # str

_PLAIN = {int: "i64", bool: "u8", float: "f64", str: "cstr", bytes: "cbuf", bytearray: "buf",
          None: "void", type(None): "void", inspect.Signature.empty: "i64"}
_C = {"i8": ct.c_int8, "i16": ct.c_int16, "i32": ct.c_int32, "i64": ct.c_int64,
      "u8": ct.c_uint8, "u16": ct.c_uint16, "u32": ct.c_uint32, "u64": ct.c_uint64,
      "f32": ct.c_float, "f64": ct.c_double, "addr": ct.c_uint64}
_BUFS = ("buf", "cbuf", "obuf")


def type_name(annotation: object) -> str:
    if isinstance(annotation, Type):
        return annotation.name
    try:
        return _PLAIN[annotation]  # type: ignore[index]
    except (KeyError, TypeError):
        raise TypeError(f"{annotation!r} is no type of a hypercall's argument or result") from None


def split(signature: str) -> tuple[str, list[str]]:
    """"i64(u32,buf)" -> ("i64", ["u32", "buf"]); the library checks it."""
    ret, _, rest = signature.partition("(")
    args = [a.strip() for a in rest.rpartition(")")[0].split(",")]
    return ret.strip(), [a for a in args if a]


def of_function(fn: Callable[..., object]) -> tuple[str, bool]:
    """The signature that a function's annotations say, and whether its first parameter
    is the vCPU (named "cpu", or annotated with Cpu)."""
    from ._cpu import Cpu
    hints = typing.get_type_hints(fn)
    parameters = list(inspect.signature(fn).parameters.values())
    if any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters):
        raise TypeError("a hypercall takes positional parameters only")
    wants_cpu = bool(parameters) and (
        hints.get(parameters[0].name) is Cpu or
        (parameters[0].name == "cpu" and "cpu" not in hints))
    names = [type_name(hints.get(p.name, int)) for p in parameters[wants_cpu:]]
    return f"{type_name(hints.get('return'))}({','.join(names)})", wants_cpu


def c_function(signature: str, fn: Callable[..., object], wants_cpu: bool,
               cpus: dict, note: Callable) -> tuple[str, object]:
    """The signature for the library, and a C function that calls fn."""
    ret, args = split(signature)
    ctypes_args: list[object] = [ct.c_void_p]
    for a in args:
        ctypes_args += [ct.c_void_p, ct.c_size_t] if a in _BUFS else [
            ct.c_char_p if a == "cstr" else _C.get(a, ct.c_uint64)]

    def handler(cpu: int, *raw: object) -> object:
        values: list[object] = [cpus.get(cpu)] if wants_cpu else []
        back: list[tuple[int, bytearray, int]] = []
        try:
            it = iter(raw)
            for a in args:
                v = next(it)
                if a in _BUFS:
                    n = next(it)
                    data = ct.string_at(v, n) if n else b""
                    if a == "cbuf":
                        values.append(data)
                    else:
                        values.append(bytearray(data))
                        back.append((v, values[-1], n))
                elif a == "cstr":
                    values.append(v.decode(errors="surrogateescape"))
                else:
                    values.append(v)
            result = fn(*values)
            for pointer, data, n in back:
                if len(data) != n:
                    raise ValueError(f"a buffer of {n} bytes was made one of {len(data)}")
                if n:
                    ct.memmove(pointer, bytes(data), n)
            if ret == "void":
                return None
            kind = float if ret in ("f32", "f64") else int
            return _C[ret](kind(result or 0)).value
        except BaseException as e:  # comes out of run() or call()
            note(cpu, e)
            _lib.lib.vc_hcall_stop(cpu, ECALLBACK)
            return None if ret == "void" else 0

    prototype = ct.CFUNCTYPE(_C.get(ret), *ctypes_args)
    return f"{ret}({','.join(['cpu'] + args)})", prototype(handler)


def guest_args(args: list[str], values: tuple[object, ...]) -> tuple[object, list[object]]:
    """Values for vc_call, and what must live as long as they do."""
    if len(args) != len(values):
        raise TypeError(f"the signature has {len(args)} arguments, the call {len(values)}")
    raw = (_lib.Value * max(len(args), 1))()
    keep: list[object] = []
    for slot, a, value in zip(raw, args, values):
        if a == "cstr":
            data = value.encode() if isinstance(value, str) else bytes(value)
            if b"\0" in data:
                raise ValueError("a string for the guest has a 0 in it")
            keep.append(ct.create_string_buffer(data))
            slot.v.p = ct.addressof(keep[-1])
        elif a in _BUFS:
            if a != "cbuf" and not isinstance(value, bytearray):
                raise TypeError(f"{a} takes a bytearray")
            keep.append(ct.create_string_buffer(bytes(value), len(value)) if value else None)
            slot.v.p = ct.addressof(keep[-1]) if value else None
            slot.len = len(value)
        elif a in ("f32", "f64"):
            slot.v.f = float(value)
        else:
            slot.v.u = int(value) & 0xFFFF_FFFF_FFFF_FFFF
            keep.append(None)
        if a in ("f32", "f64"):
            keep.append(None)
    return raw, keep


def guest_result(ret: str, args: list[str], values: tuple[object, ...], keep: list[object],
                 result: object) -> object:
    for a, value, data in zip(args, values, keep):
        if a in ("buf", "obuf") and data is not None:
            value[:] = data.raw
    if ret == "void":
        return None
    v = result.v
    return v.f if ret in ("f32", "f64") else v.i if ret.startswith("i") else v.u
