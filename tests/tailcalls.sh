#!/bin/sh
# SPDX-License-Identifier: MIT
# tailcalls.sh LIBRARY: the interpreter's handlers go on to the next instruction by
# a jump. Where a compiler makes a call of it, frames pile up on the host's stack
# for as long as blocks chain. What goes on to the next instruction is told by its
# second argument: RSI moves on by the size of one.
set -eu
objdump -d --no-show-raw-insn "$1" | awk '
    /^[0-9a-f]+ <.*>:$/ { name = substr($2, 2, length($2) - 3); step = "" }
    $2 == "add" && $3 ~ /^\$0x[0-9a-f]+,%rsi$/ { step = substr($3, 2, length($3) - 6) }
    $2 == "lea" && $3 ~ /^0x[0-9a-f]+\(%r[0-9a-z]+\),%rsi$/ { step = substr($3, 1, index($3, "(") - 1) }
    $2 == "jmp" && step { if ($3 ~ /^\*/) jumps[step]++; step = "" }
    $2 == "call" && step { if ($3 ~ /^\*/) calls[step] = calls[step] " " name; step = "" }
    END {
        for (s in jumps)
            if (!size || jumps[s] > jumps[size])
                size = s
        if (jumps[size] < 100) {
            print "tailcalls: no handlers found"
            exit 1
        }
        n = split(calls[size], names, " ")
        for (i = 1; i <= n; i++)
            print "tailcalls: " names[i] " calls the next handler"
        if (!n)
            print "tailcalls: " jumps[size] " times a handler jumps to the next one"
        exit n != 0
    }'
