# SPDX-License-Identifier: MIT
"""Tables and a picture of what bench/run measured."""
import math
import os
import subprocess
import time

import vm

GROUPS = {
    "integer": "integers, branches, hashing, compression",
    "mix": "core mix (lists, matrices, states, CRC)",
    "memory": "memory: copies, triad, pointer chase",
    "float": "floating point, SSE2",
    "avx2": "AVX2 integers and FMA",
    "rep": "`rep movsb`, `rep stosb`",
    "code": "code rewritten and called",
    "beside": "stores beside running code",
    "x87": "x87",
    "os": "OS work: calls, processes, memory, pipes, files",
    "boot": "boot to the first line of init",
    "smp": "two threads on two vCPUs, speed-up over one",
}
OF_TCG = ("os", "boot")  # shown as multiples of TCG's time, the rest of the host's


def mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def speed_up(rows, engine):
    one, two = (rows.get(("smp", n), {}).get(engine) for n in ("one", "two"))
    return 2 * one / two if one and two else None


def ratio(cell, group, engine):
    base = cell.get("tcg" if group in OF_TCG else "native")
    return cell[engine] / base if base and engine in cell else None


def group_ratio(rows, group, engine):
    if group == "smp":
        return speed_up(rows, engine)
    found = [ratio(c, g, engine) for (g, _), c in rows.items() if g == group]
    return mean([r for r in found if r]) if found and None not in found else None


def number(v):
    if v is None:
        return ""
    return f"{v:.2f}" if v < 10 else f"{v:.1f}" if v < 100 else f"{v:.0f}"


def duration(ns):
    if ns is None:
        return ""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def lines(cells):
    """Markdown whose columns are also straight to read as plain text."""
    widths = [max(len(r[i]) for r in cells) for i in range(len(cells[0]))]
    cells.insert(1, ["-" * (w - (i > 0)) + (":" if i else "") for i, w in enumerate(widths)])
    out = []
    for r in cells:
        out.append("| " + " | ".join(c.rjust(w) if i else c.ljust(w)
                                     for i, (c, w) in enumerate(zip(r, widths))) + " |")
    return "\n".join(out)


def summary(rows, engines):
    """A line a group."""
    cells = [["", *(vm.NAMES[e] for e in engines if e != "native")]]
    for group, text in GROUPS.items():
        if any(g == group for g, _ in rows):
            unit = {"smp": ""}.get(group, " (x TCG's time)" if group in OF_TCG else "")
            cells.append([text + unit, *(number(group_ratio(rows, group, e))
                                         for e in engines if e != "native")])
    return lines(cells)


def table(rows, engines):
    """A line a row, and the geometric means: every engine's time or ratio."""
    guests = [e for e in engines if e != "native"]
    cells = [["row", "native", *(f"{e} x" for e in guests), *guests]]
    for group in GROUPS:
        names = [n for g, n in rows if g == group]
        for name in names:
            cell = rows[group, name]
            ratios = ["" if group == "smp" else number(ratio(cell, group, e)) for e in guests]
            cells.append([f"{group} {name}", duration(cell.get("native")), *ratios,
                          *(duration(cell.get(e)) for e in guests)])
        if len(names) > 1:
            smp = group == "smp"
            cells.append([f"**{group} {'speed-up' if smp else 'geomean'}**",
                          number(speed_up(rows, "native")) if smp else "",
                          *(number(group_ratio(rows, group, e)) for e in guests),
                          *("" for e in guests)])
    return lines(cells)


def behind(rows):
    """The rows in which the translator is slower than TCG."""
    names = [f"{n} ({c['jit'] / c['tcg']:.2f})" for (g, n), c in rows.items()
             if g != "smp" and "jit" in c and "tcg" in c and c["jit"] > c["tcg"]]
    return "\nthe translator behind TCG: " + (", ".join(names) or "nowhere")


# ---- where it was measured -----------------------------------------------------------

def first_line(*command):
    try:
        out = subprocess.run(command, capture_output=True, text=True, cwd=vm.TOP)
        return out.stdout.splitlines()[0] if out.stdout else ""
    except OSError:
        return ""


def about(o, took):
    cpu, virtual, memory = "", False, 0
    with open("/proc/cpuinfo") as f:
        for line in f:
            key, _, value = line.partition(":")
            cpu = cpu or (value.strip() if key.strip() == "model name" else "")
            virtual |= key.strip() == "flags" and " hypervisor" in value
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) >> 20
    parts = [time.strftime("%Y-%m-%d"),
             "commit " + first_line("git", "describe", "--always", "--dirty"),
             f"{cpu}, {os.cpu_count()} CPUs{' of a virtual machine' if virtual else ''}, "
             f"{memory + 1} GiB", "Linux " + os.uname().release.split("-")[0]]
    if "tcg" in o.engines:
        parts.append(first_line("qemu-system-x86_64", "--version").split(" (")[0]
                     + " (-accel tcg -cpu max; boot: the faster of pc with qboot and microvm)")
    kernel = os.path.basename(vm.kernel()).removesuffix(".elf").removeprefix("vmlinuz-")
    parts.append(f"guests: Debian's {kernel}")
    parts.append(f"{o.passes} passes, {o.reps} repetitions of {o.ms:g} ms, {took / 60:.0f} min")
    return parts


# ---- the picture ------------------------------------------------------------------------

COLOURS = {"jit": "#2a7f62", "interp": "#9db8ad", "tcg": "#d08c3f"}
LABEL, PLOT, BAR, GAP = 300, 560, 11, 12


def panel(rows, groups, engines, top, low, high, title):
    """Bars on a logarithmic scale from low to high; returns SVG and the next y."""
    def x(v):
        span = math.log(high / low)
        return LABEL + PLOT * math.log(min(max(v, low), high) / low) / span

    svg = [f'<text x="{LABEL}" y="{top}" class="t">{title}</text>']
    y = top + 24
    bottom = y + len(groups) * (len(engines) * BAR + GAP)
    tick = low
    while tick <= high * 1.01:
        one = ' class="one"' if abs(tick - 1) < 1e-9 else ' class="grid"'
        svg.append(f'<path d="M{x(tick):.1f} {y - 6}V{bottom}"{one}/>'
                   f'<text x="{x(tick):.1f}" y="{y - 9}" class="n" text-anchor="middle">'
                   f'{tick:g}</text>')
        tick *= 10
    for group in groups:
        text = GROUPS[group].split(":")[0].replace("`", "")
        svg.append(f'<text x="{LABEL - 10}" y="{y + len(engines) * BAR / 2 + 4:.0f}" '
                   f'text-anchor="end">{text}</text>')
        for engine in engines:
            v = group_ratio(rows, group, engine)
            if v:
                left, right = sorted((x(v), x(1)))
                svg.append(f'<rect x="{left:.1f}" y="{y}" width="{max(right - left, 1):.1f}" '
                           f'height="{BAR - 1}" fill="{COLOURS[engine]}"/>'
                           f'<text x="{right + 4:.1f}" y="{y + 9}" class="n">{number(v)}</text>')
            y += BAR
        y += GAP
    return svg, y + 30


def picture(rows, engines):
    shown = [e for e in engines if e != "native"]
    groups = [g for g in GROUPS if any(g == k for k, _ in rows)]
    compute = [g for g in groups if g not in OF_TCG + ("smp",)]
    system = [g for g in groups if g in OF_TCG]
    svg, x = [], LABEL
    for engine in shown:
        svg.append(f'<rect x="{x}" y="14" width="11" height="11" fill="{COLOURS[engine]}"/>'
                   f'<text x="{x + 16}" y="24">{vm.NAMES[engine]}</text>')
        x += 190
    worst = max([group_ratio(rows, g, e) or 1 for g in compute for e in shown], default=1)
    part, y = panel(rows, compute, shown, 54, 1, 10 ** max(1, math.ceil(math.log10(worst))),
                    "time as a multiple of the host's own")
    svg += part
    if system and "tcg" in engines:
        part, y = panel(rows, system, [e for e in shown if e != "tcg"], y, 0.1, 10,
                        "time as a multiple of QEMU TCG's")
        svg += part
    style = ("text{font:12px sans-serif;fill:#333}.t{font-weight:bold}.n{font-size:10px;"
             "fill:#666}.grid{stroke:#ddd}.one{stroke:#666}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LABEL + PLOT + 60} {y - 10}">'
            f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>\n'
            + "\n".join(svg) + "\n</svg>\n")


# ---- docs and README ---------------------------------------------------------------------

BEGIN, END = "<!-- bench/run -->\n", "<!-- /bench/run -->\n"


def publish(rows, engines, about_parts):
    where = "; ".join(about_parts) + "."
    docs = os.path.join(vm.TOP, "docs")
    with open(os.path.join(docs, "benchmarks.svg"), "w") as f:
        f.write(picture(rows, engines))
    with open(os.path.join(docs, "benchmarks.md"), "w") as f:
        f.write(f"""# Benchmarks

Written by `bench/run --publish`; bench/guest and bench/kernels are what runs. The same
static program runs on the host and as the first process of the same kernel in each
machine, in turns; the least time of a round counts. The columns with an x are
multiples of the host's time, for OS work and boot of QEMU TCG's.

{where}

![the groups](benchmarks.svg)

{table(rows, engines)}
""")
    readme = os.path.join(vm.TOP, "README.md")
    with open(readme) as f:
        text = f.read()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    if not tail:
        raise SystemExit(f"README.md has no {BEGIN.strip()} ... {END.strip()}")
    with open(readme, "w") as f:
        f.write(f"{head}{BEGIN}{summary(rows, engines)}\n\n{where}\n{END}{tail}")
