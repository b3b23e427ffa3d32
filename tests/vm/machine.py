"""A running QEMU: started with four nodes, spoken to, measured from outside, and gone when its context ends.

Nodes as QEMU is told; the kernel numbers them by itself:

    node 0  1 processor   640 MiB
    node 1  1 processor   320 MiB, the first disk
    node 2  1 processor   no memory
    node 3  no processor  192 MiB

The second disk is on the ordinary bus, of which the firmware does not say where it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import attrs

from .image import Image
from .qmp import Qmp

Message: TypeAlias = dict[str, Any]

MIB: Final = 1 << 20
MEMORY: Final = {0: 640 * MIB, 1: 320 * MIB, 3: 192 * MIB}
"""Bytes of the nodes that have memory, by QEMU's numbers."""
TOTAL: Final = sum(MEMORY.values())
PROCESSORS: Final = {0: 0, 1: 1, 2: 2}
"""The processor of each node that has one, by QEMU's numbers."""
DISTANCES: Final = (
    (10, 20, 17, 31),
    (20, 10, 21, 25),
    (17, 21, 10, 28),
    (31, 25, 28, 10),
)
DISK_NODE: Final = 1
DISK_BYTES: Final = 64 * MIB
LONGEST: Final = 150
"""Seconds that a machine may run: it is killed then."""

SETTLE_SECONDS: Final = 30
"""Free pages are reported to the hypervisor in the background, all of them within this time.

https://github.com/torvalds/linux/blob/v6.1/mm/page_reporting.c
"""


class MachineFailed(Exception):
    """The machine ended or was killed before it answered; the end of its console is in the message."""


@attrs.define
class Machine:
    """The outside of one machine."""

    process: subprocess.Popen[bytes]
    folder: Path
    seconds: float
    _qmp: Qmp | None = None
    _is_late: threading.Event = attrs.field(factory=threading.Event)

    @property
    def qmp(self) -> Qmp:
        """QEMU itself. It listens from the start of the process, so once the guest says anything it does."""
        if self._qmp is None:
            self._qmp = Qmp.connect(self.folder / "qmp", self.seconds)
        return self._qmp

    def messages(self) -> Iterator[Message]:
        """What the guest says, as it comes.

        :raises MachineFailed: it says nothing any more.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)
        why = f"it was killed after {self.seconds} s" if self._is_late.is_set() else "it has ended"
        raise MachineFailed(f"the machine says nothing any more: {why}. Its console:\n{self.console()[-3000:]}")

    def call(
        self, function: str, arguments: Message | None = None, on_event: Callable[[Message], None] | None = None
    ) -> Message:
        """Run ``module:function`` of `guest` inside, and return the answer: ``result``, ``error`` or ``killed``."""
        self._send({"call": function, "with": arguments or {}})
        for message in self.messages():
            if "event" not in message:
                return message
            if on_event is not None:
                on_event(message)
        raise AssertionError("messages do not end without an error")

    def ask(self, function: str, **arguments: object) -> Any:
        """The result of a function inside.

        :raises MachineFailed: it raised, or the kernel killed it.
        """
        answer = self.call(function, arguments)
        if "result" not in answer:
            raise MachineFailed(f"{function}: {answer.get('error', answer)}\n{self.console()[-2000:]}")
        return answer["result"]

    def tell(self, **message: object) -> None:
        """Send the guest an object."""
        self._send(message)

    def _send(self, message: Message) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def resident(self) -> int:
        """Bytes that the whole of QEMU occupies on this machine, ``VmRSS`` of proc(5)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def settled(self) -> int:
        """The same once it stands still: free pages are reported every 2 s, all of them within 30."""
        sizes = [self.resident()]

        def is_still() -> bool:
            sizes.append(self.resident())
            return abs(sizes[-1] - sizes[-2]) < 2 * MIB

        eventually(is_still, SETTLE_SECONDS, pause=2.5)
        return sizes[-1]

    def console(self) -> str:
        """What the kernel has said so far."""
        return (self.folder / "console").read_text(encoding="utf-8", errors="replace")

    def leave(self) -> int:
        """Let the guest switch itself off; the exit code of QEMU."""
        self.tell(leave=True)
        return self.process.wait()

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        if self._qmp is not None:
            self._qmp.close()
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                # What was not sent any more is of no interest.
                with contextlib.suppress(OSError):
                    stream.close()

    def is_late(self) -> None:
        """Called by a timer: a machine that hangs must not hang the tests."""
        self._is_late.set()
        self.process.kill()


@contextmanager
def machine(image: Image, seconds: float = LONGEST) -> Iterator[Machine]:
    """Start a machine and wait until its agent is there. Nothing is left of it afterwards, whatever happens."""
    # Short, since the name of a socket has at most 107 bytes: unix(7).
    with TemporaryDirectory(prefix="weighbridge-vm-") as scratch:
        write_disk(Path(scratch) / "disk")
        process = start(image, Path(scratch))
        running = Machine(process, Path(scratch), seconds)
        limit = threading.Timer(seconds, running.is_late)
        limit.daemon = True
        try:
            limit.start()
            wait_for_agent(running)
            yield running
        finally:
            limit.cancel()
            limit.join()
            running.kill()


def start(image: Image, folder: Path) -> subprocess.Popen[bytes]:
    """Start QEMU: the agent's line is its input and output, and its complaints go into a file."""
    words, variables = command(image, folder), environment(image.root)
    with open(folder / "errors", "wb") as errors:
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=variables)


def wait_for_agent(running: Machine) -> None:
    """Until the agent says that it is up; what QEMU complained about is in the error."""
    try:
        next(running.messages())
    except MachineFailed as problem:
        errors = (running.folder / "errors").read_text(encoding="utf-8", errors="replace")
        raise MachineFailed(f"{errors}{problem}") from None


def command(image: Image, folder: Path) -> list[str]:
    """How QEMU is started. The kernel ends it when the thread that started it ends: prctl(2), PR_SET_PDEATHSIG."""
    root = image.root
    words = ["setpriv", "--pdeathsig", "KILL", str(program(root))]
    for place in ("usr/share/seabios", "usr/share/qemu"):
        if (root / place).is_dir():
            words += ["-L", str(root / place)]
    words += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    words += ["-machine", "q35", "-accel", "tcg,tb-size=64", "-cpu", "max", "-smp", str(len(PROCESSORS))]
    words += ["-m", f"{TOTAL // MIB}M", *nodes(), *devices(folder)]
    words += ["-kernel", str(image.kernel), "-initrd", str(image.initrd)]
    return [*words, "-append", "console=ttyS0 panic=-1 quiet loglevel=4 nokaslr", *lines(folder)]


def program(root: Path) -> Path:
    """Where the package has put QEMU."""
    return root / "usr" / "bin" / "qemu-system-x86_64"


def environment(root: Path) -> dict[str, str]:
    """QEMU's libraries and loadable parts are in the packages that were unpacked."""
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    folders = [libraries, root / "lib" / "x86_64-linux-gnu", *(path for path in libraries.glob("*") if path.is_dir())]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, folders)), "QEMU_MODULE_DIR": str(libraries / "qemu")}


def nodes() -> Iterator[str]:
    """Options for memory, processors and distances."""
    for node in range(len(DISTANCES)):
        memory = ""
        if node in MEMORY:
            yield from ("-object", f"memory-backend-ram,id=memory{node},size={MEMORY[node] // MIB}M")
            memory = f",memdev=memory{node}"
        processors = f",cpus={PROCESSORS[node]}" if node in PROCESSORS else ""
        yield from ("-numa", f"node,nodeid={node}{processors}{memory}")
    for source, row in enumerate(DISTANCES):
        for target, distance in enumerate(row):
            yield from ("-numa", f"dist,src={source},dst={target},val={distance}")


def devices(folder: Path) -> Iterator[str]:
    """Options for the balloon, a disk on a bus of one node, and one on the ordinary bus."""
    yield from ("-device", "virtio-balloon-pci,id=balloon,bus=pcie.0,free-page-reporting=on,deflate-on-oom=off")
    yield from ("-device", f"pxb-pcie,id=far,bus=pcie.0,bus_nr=64,numa_node={DISK_NODE}")
    yield from ("-device", "pcie-root-port,id=disks,bus=far,chassis=1,slot=1")
    yield from ("-drive", f"if=none,id=first,format=raw,file={folder / 'disk'}")
    yield from ("-device", "nvme,serial=first,drive=first,bus=disks")
    yield from ("-drive", f"if=none,id=second,file=null-co://,file.size={DISK_BYTES},file.read-zeroes=on,format=raw")
    yield from ("-device", "virtio-blk-pci,serial=second,drive=second,bus=pcie.0")


def lines(folder: Path) -> Iterator[str]:
    """Options for the console, the agent's line and QEMU's own protocol."""
    yield from ("-serial", f"file:{folder / 'console'}")
    yield from ("-chardev", "stdio,id=agent,signal=off", "-serial", "chardev:agent")
    yield from ("-qmp", f"unix:{folder / 'qmp'},server=on,wait=off")


def write_disk(path: Path) -> None:
    """An empty disk with one partition over the whole of it: the first sector of a PC's disk."""
    sector = 512
    table = bytearray(sector)
    entry = bytes(4) + b"\x83" + bytes(3) + (2048).to_bytes(4, "little")
    table[446:462] = entry + (DISK_BYTES // sector - 2048).to_bytes(4, "little")
    table[510:] = b"\x55\xaa"
    with open(path, "wb") as disk:
        disk.write(table)
        disk.truncate(DISK_BYTES)


def eventually(condition: Callable[[], bool], seconds: float, pause: float = 0.2) -> bool:
    """Whether something becomes true within that time."""
    deadline = time.monotonic() + seconds
    while not (is_true := condition()) and time.monotonic() < deadline:
        time.sleep(pause)
    return is_true
