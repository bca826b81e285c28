#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A few instructions and a port write, on the backend named as argument."""

import sys

import virtcore

CODE = bytes([
    0xB0, 6,     # mov al, 6
    0xB1, 7,     # mov cl, 7
    0xF6, 0xE1,  # mul cl
    0xE6, 0x10,  # out 0x10, al
    0xF4,        # hlt
])

with virtcore.Vm(sys.argv[1] if len(sys.argv) > 1 else "auto") as vm:
    vm.map(0x1000, 0x1000)
    vm.write(0x1000, CODE)
    cpu = vm.cpu(virtcore.Mode.LONG64, 0x1000)
    while (exit := cpu.run()).kind is virtcore.ExitKind.PORT:
        print(f"the guest writes {exit.data} to port {exit.port:#x}")
