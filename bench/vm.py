# SPDX-License-Identifier: MIT
"""What runs the benchmark's program: the host, minivm, QEMU's TCG. One kernel and one
initramfs for all guests."""
import os
import shutil
import subprocess
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CMDLINE = "console=ttyS0 quiet loglevel=0 panic=-1 --"
NAMES = {"native": "native", "jit": "libvirtcore, translator",
         "interp": "libvirtcore, interpreter", "tcg": "QEMU TCG"}

# A PC with the smallest firmware. The microvm boots faster when it does: its clock
# leaves Linux nothing to calibrate the TSC against on a busy host, and it hangs.
TCG_MACHINES = {"tcg": "-M pc -bios qboot.rom", "tcg-microvm": "-M microvm"}


# ---- kernel and initramfs ------------------------------------------------------------

def kernel(flavour="cloud-amd64"):
    """Debian's kernel, unpacked, so that no guest spends its time on that."""
    unpack = os.path.join(TOP, "scripts", "unpack-kernel")
    run = subprocess.run([unpack, flavour], stdout=subprocess.PIPE, check=True, text=True)
    return run.stdout.strip()


def initramfs(program, path):
    """An archive (cpio, "newc") whose /init is the program and which holds nothing else."""
    with open(program, "rb") as f:
        init = f.read()
    with open(path, "wb") as f:
        for name, mode, data in (("init", 0o100755, init), ("TRAILER!!!", 0, b"")):
            fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
            head = b"070701" + b"".join(b"%08x" % v for v in fields) + name.encode() + b"\0"
            f.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))


def have_qemu():
    return shutil.which("qemu-system-x86_64") is not None


# ---- one run ---------------------------------------------------------------------------

class Run:
    """What a run said: rows {(group, name): ns}; seconds to init's first line; the
    CPU seconds of all of it."""

    def __init__(self):
        self.rows, self.wrong, self.log = {}, [], []
        self.boot, self.cpu, self.ended = None, None, False


def parse(run, line, since):
    word = line.split()
    if line.startswith("bench: init"):
        run.boot = time.monotonic() - since
    elif line.startswith("bench: end"):
        run.ended = True
    elif len(word) == 4 and word[0] == "row":
        run.rows[word[1], word[2]] = float(word[3])
    elif word and word[0] == "WRONG":
        run.wrong.append(" ".join(word[1:]))


def execute(command, timeout):
    run, since = Run(), time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        for line in process.stdout:
            line = line.decode(errors="replace").strip()
            run.log.append(line)
            parse(run, line, since)
            if run.ended:
                break
        if run.ended:  # how long it takes to power off is not asked
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        timer.cancel()
    run.cpu = usage.ru_utime + usage.ru_stime
    return run


class Machine:
    """The engines, given a build directory; the initramfs is written to initrd."""

    def __init__(self, build, initrd, timeout):
        self.initrd, self.timeout = initrd, timeout
        self.program = os.path.join(build, "bench", "bench-guest")
        self.minivm = os.path.join(build, "minivm")
        for path in (self.program, self.minivm):
            if not os.path.isfile(path):
                raise SystemExit(f"{path} is not there: build first (README)")
        self.kernel = kernel()
        initramfs(self.program, initrd)

    def command(self, engine, args, cpus):
        append = " ".join([CMDLINE] + args)
        if engine == "native":
            return [self.program] + args
        if engine in TCG_MACHINES:
            return ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max",
                    *TCG_MACHINES[engine].split(), "-m", "512", "-smp", str(cpus),
                    "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                    "-serial", "stdio", "-kernel", self.kernel, "-initrd", self.initrd,
                    "-append", append]
        return [self.minivm, "run", "-e", engine, "--kernel", self.kernel, "--initrd",
                self.initrd, "--append", append, "-m", "512M", "--cpus", str(cpus)]

    def run(self, engine, args, cpus=1, timeout=None):
        run = execute(self.command(engine, args, cpus), timeout or self.timeout)
        run.ended |= engine == "native"
        return run
