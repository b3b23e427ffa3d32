"""Secrets as the system sees them: the whole memory of a process, its limits, its children, its end."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of Linux")

# Reads a key from its input straight into locked memory, and says when; each line of its input is the next step.
KEEPER: Final = """
import os, sys
from weighbridge.leases.secret import SecretVault

def step(word):
    os.write(1, word.encode() + b"\\n")
    os.read(0, 1)

vault = SecretVault()
key = vault.fill(32, lambda view: os.readv(0, [view]))
neighbour = vault.keep(b"keeps the mapping")
step("kept")
with key.view() as view:
    step("seen")
if sys.argv[1] == "release":
    key.release()
elif sys.argv[1] == "close":
    vault.close()
elif sys.argv[1] == "forget":
    del key, view
elif sys.argv[1] == "exit":
    import atexit
    atexit.unregister(vault._at_exit)
    atexit.register(step, "gone")  # runs after what was registered later
    atexit.register(vault._at_exit)
    sys.exit()
step("gone")
"""


@pytest.mark.parametrize("way", ["release", "close", "forget", "exit"])
def test_no_memory_of_the_process_holds_a_secret_after_its_end(way: str) -> None:
    """The parent looks for the key in all of its child's memory: in one place before, and nowhere after."""
    key = secrets.token_bytes(32)
    command = [sys.executable, "-P", "-c", KEEPER, way]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(key)
        counts = []
        for expected in (b"kept\n", b"seen\n", b"gone\n"):
            assert read_line(child.stdout.fileno()) == expected
            counts.append(sum(block.count(key) for block in memory(child.pid)))
            child.stdin.write(b"\n")
    assert child.returncode == 0
    assert counts == [1, 1, 0]


def read_line(fd: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(fd, 1)
        assert byte, "the child ended"
        line += byte
    return line


def memory(pid: int) -> Iterator[bytes]:
    """Everything that a process can write to, mapping by mapping."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
            place, rights, *_ = line.split()
            first, last = (int(number, 16) for number in place.split("-"))
            if rights.startswith("rw"):
                file.seek(first)
                yield file.read(last - first)


def run(program: str) -> list[str]:
    command = [sys.executable, "-P", "-c", program]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="ascii").stdout.splitlines()


# A privileged process has no limit on locked memory, so the rights are given up after everything was imported.
LIMITED: Final = """
import resource, os, sys, warnings
from weighbridge.leases.secret import SecretVault, SecretsUnprotected

def limit(nbytes):
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (nbytes, nbytes))
    if os.geteuid() == 0:
        os.setresuid(65534, 65534, 65534)

def locked():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmLck"))
"""


def test_ten_thousand_handles_fit_under_a_limit_of_eight_mebibytes() -> None:
    """All of 10,000 keys of 32 bytes are locked, in less than a twentieth of the limit; the kernel says the same."""
    output = run(
        LIMITED
        + """
limit(8 << 20)
warnings.simplefilter("error")
vault = SecretVault()
held = [vault.keep(b"%032d" % number) for number in range(10_000)]
drawn = vault.statistics()
with held[-1].view() as view:
    print(drawn.secrets, drawn.locked_bytes, drawn.unlocked_bytes, locked(), bytes(view).decode())
vault.close()
print(locked())
"""
    )
    count, ours, unlocked, kernels, last = output[0].split()
    assert (count, unlocked, kernels, last) == ("10000", "0", ours, f"{9999:032d}")
    assert 320_000 <= int(ours) < 8 * 1024 * 1024 // 20
    assert output[1] == "0"


@pytest.mark.parametrize("nbytes", [0, 32 * 1024])
def test_a_limit_that_is_reached_warns_and_is_counted(nbytes: int) -> None:
    """What the limit allows is locked; for the rest there is a named warning, and the figures say how much it is."""
    output = run(
        LIMITED
        + f"""
limit({nbytes})
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("default")
    vault = SecretVault()
    held = [vault.keep(bytes(4096)) for _ in range(12)]
drawn = vault.statistics()
print(drawn.locked_bytes, drawn.unlocked_bytes, locked())
print(*sorted({{one.category.__name__ for one in caught}}), "ulimit -l" in str(caught[0].message))
"""
    )
    assert output == [f"{nbytes} {48 * 1024 - nbytes} {nbytes}", "SecretsUnprotected True"]


def test_a_forked_child_sees_zeros_and_is_told() -> None:
    """The child's own memory holds zeros where the parent's key is, and asking for a view is an error."""
    output = run(
        """
import ctypes, os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from weighbridge.leases.secret import SecretVault
from weighbridge_hookspecs import LeaseError

vault = SecretVault()
key = vault.keep(b"hunter2")
slot = key._held[0]
address = ctypes.addressof(slot.slab.window(slot.offset))
pid = os.fork()
if pid == 0:
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        seen = memory.read(7)
    refused = 0
    for use in (lambda: key.view().__enter__(), lambda: vault.keep(b"x"), vault.statistics):
        try:
            use()
        except LeaseError as error:
            refused += "do not follow it into a forked child" in str(error)
    print(seen == bytes(7), refused, flush=True)
    vault.close()
    key.release()
    os._exit(0)
print(os.waitpid(pid, 0)[1], flush=True)
with key.view() as view:
    print(view == b"hunter2")
"""
    )
    assert output == ["True 3", "0", "True"]


def test_a_child_of_a_system_that_copies_wipes_its_copy_when_it_closes() -> None:
    """Where the kernel does not empty the pages of a child, closing the vault there does, and leaves the parent's."""
    output = run(
        """
import ctypes, os, warnings
warnings.simplefilter("ignore")
from weighbridge.leases import slabs
from weighbridge.leases.secret import SecretVault

assert hasattr(slabs, "_WIPE_ON_FORK"), "the number of the advice has another name now"
slabs._WIPE_ON_FORK = None
vault = SecretVault()
key = vault.keep(b"hunter2")
assert vault.statistics().inherited_bytes > 0, "the system was asked to empty the pages of a child all the same"
slot = key._held[0]
address = ctypes.addressof(slot.slab.window(slot.offset))
pid = os.fork()
if pid == 0:
    before = ctypes.string_at(address, 7) == b"hunter2"
    vault.close()
    print(before, ctypes.string_at(address, 7) == bytes(7), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
with key.view() as view:
    print(view == b"hunter2")
"""
    )
    assert output == ["True True", "True"]


def test_the_kernel_keeps_the_pages_out_of_dumps_and_children() -> None:
    """The flags of the mapping say so: locked (lo), not dumped (dd), wiped on fork (wf)."""
    output = run(
        """
import ctypes
from weighbridge.leases.secret import SecretVault

key = SecretVault().keep(b"hunter2")
slot = key._held[0]
address = ctypes.addressof(slot.slab.window(slot.offset))
inside = False
for line in open("/proc/self/smaps"):
    first = line.split()[0]
    if "-" in first:
        low, high = (int(number, 16) for number in first.split("-"))
        inside = low <= address < high
    elif inside and first == "VmFlags:":
        print(*sorted({"lo", "dd", "wf"} & set(line.split())))
"""
    )
    assert output == ["dd lo wf"]


def test_the_service_is_not_in_memory_before_it_is_used() -> None:
    """Neither ctypes nor mmap comes with the package or with the room that the module is in."""
    output = run("import sys, weighbridge, weighbridge.leases; print({'ctypes', 'mmap', 'fcntl'} & set(sys.modules))")
    assert output == ["set()"]
