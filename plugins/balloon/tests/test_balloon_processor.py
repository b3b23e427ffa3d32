"""CPUID: what its answers mean, running it on this machine, and not running it where that would end the process."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_balloon.hypervisor import Evidence, Silence
from weighbridge_balloon.hypervisor.cpuid import FIRST, LAST, STEP, Asked, Denied, Registers, look
from weighbridge_balloon.hypervisor.instruction import SYSTEM_V, WINDOWS, opened, why_not

X86_LINUX: Final = sys.platform == "linux" and platform.machine() == "x86_64"
on_x86_linux: Final = pytest.mark.skipif(not X86_LINUX, reason="the instruction is that of x86, run on Linux here")

words = st.integers(0, 2**32 - 1)
registers = st.builds(Registers, words, words, words, words)

# Ends with 77 where this machine cannot show what is wanted of it.
CANNOT: Final = 77
BEGIN: Final = """
import ctypes, os, sys
from weighbridge_balloon.hypervisor.cpuid import Denied
from weighbridge_balloon.hypervisor.instruction import opened
libc = ctypes.CDLL(None, use_errno=True)
"""
END: Final = """
with opened(root=__import__("pathlib").Path("/nowhere")) as ask:
    print(ask.why if isinstance(ask, Denied) else "it runs")
"""


def child(prepare: str) -> str:
    """What a process says of the instruction after it did this to itself; skips if it could not."""
    run = subprocess.run([sys.executable, "-c", BEGIN + prepare + END], capture_output=True, text=True, check=False)
    if run.returncode == CANNOT:
        pytest.skip(run.stdout.strip())
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@on_x86_linux
def test_instruction_says_who_made_the_processor() -> None:
    """The same as the kernel read out of it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    vendor = next(line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id"))
    with opened() as ask:
        if isinstance(ask, Denied):
            pytest.skip(ask.why)
        _, ebx, ecx, edx = ask.run(0)
    assert b"".join(word.to_bytes(4, "little") for word in (ebx, edx, ecx)).decode() == vendor


@on_x86_linux
def test_page_is_gone_afterwards() -> None:
    """No mapping that can be executed stays behind, however often the instruction was run."""

    def executable() -> list[str]:
        lines = Path("/proc/self/maps").read_text().splitlines()
        return [line for line in lines if line.split()[1][2] == "x" and len(line.split()) == 5]

    with opened() as ask:
        if isinstance(ask, Denied):
            pytest.skip(ask.why)
    before = executable()
    for _ in range(20):
        with opened() as ask:
            assert isinstance(ask, Asked)
            ask.run(0)
    assert executable() == before


@on_x86_linux
def test_page_is_never_writable_and_executable() -> None:
    """While the instruction can be run, the page that it is in cannot be written."""
    with opened() as ask:
        if isinstance(ask, Denied):
            pytest.skip(ask.why)
        modes = [line.split()[1] for line in Path("/proc/self/maps").read_text().splitlines()]
    assert not [mode for mode in modes if "w" in mode and "x" in mode]


@on_x86_linux
def test_instruction_is_not_run_where_it_faults() -> None:
    """A process that set ARCH_CPUID to fault would be killed by it; it is told so, and lives."""
    said = child("""
if libc.syscall(ctypes.c_long(158), ctypes.c_long(0x1012), ctypes.c_long(0)):
    print("arch_prctl(ARCH_CPUID_SET):", os.strerror(ctypes.get_errno()))
    sys.exit(77)
""")
    assert said == "arch_prctl(ARCH_CPUID_GET): the instruction faults"


@on_x86_linux
def test_instruction_is_not_run_where_memory_may_not_become_executable() -> None:
    """After PR_SET_MDWE, mprotect is refused, and that is the reason."""
    said = child("""
if libc.prctl(65, 1, 0, 0, 0):
    print("prctl(PR_SET_MDWE):", os.strerror(ctypes.get_errno()))
    sys.exit(77)
""")
    assert said.startswith("mprotect(PROT_EXEC): ")


@on_x86_linux
def test_unhindered_process_runs_it() -> None:
    """The two above fail for their reason alone."""
    assert child("") == "it runs"


@pytest.mark.parametrize(
    ("machine", "pointer_bytes", "system", "reason"),
    [
        ("aarch64", 8, "linux", "no such instruction on aarch64"),
        ("", 8, "linux", "no such instruction on this processor"),
        ("x86_64", 4, "linux", "the process has 32 bits"),
        ("x86_64", 8, "darwin", "not written for darwin"),
        ("x86_64", 8, "linux", None),
        ("AMD64", 8, "win32", None),
    ],
)
def test_code_is_for_some_processes_only(machine: str, pointer_bytes: int, system: str, reason: str | None) -> None:
    """64 bits of x86, on Linux and Windows."""
    assert why_not(machine=machine, pointer_bytes=pointer_bytes, system=system) == reason


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    """No code is run then, and the reason is the setting."""
    with opened(allowed=False, root=tmp_path) as ask:
        assert ask == Denied("off: the setting cpuid is false")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such file on Windows")
def test_file_of_the_kernel_answers_instead(tmp_path: Path) -> None:
    """Where the instruction may not be run, ``/dev/cpu/0/cpuid`` is read: a leaf is an offset."""
    path = tmp_path / "dev/cpu/0/cpuid"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        for leaf in (0, 1, FIRST):
            file.seek(leaf)
            file.write(bytes(range(leaf & 1, 16 + (leaf & 1))))
    with opened(allowed=False, root=tmp_path) as ask:
        assert isinstance(ask, Asked)
        assert ask.where == "/dev/cpu/0/cpuid"
        assert ask.run(1) == Registers(0x04030201, 0x08070605, 0x0C0B0A09, 0x100F0E0D)
        assert ask.run(FIRST).eax == 0x03020100
        assert ask.run(0x7FFFFFFF) == Registers(0, 0, 0, 0)


def test_both_codes_keep_what_belongs_to_the_caller() -> None:
    """CPUID overwrites rbx: it is put aside before, put back after, and the code ends with a return."""
    for code in (SYSTEM_V, WINDOWS):
        aside, instruction, back = code.index(b"\x49\x89\xd9"), code.index(b"\x0f\xa2"), code.index(b"\x4c\x89\xcb")
        assert aside < instruction < back
        assert code.endswith(b"\x4c\x89\xcb\xc3")


def test_without_the_bit_no_leaf_of_a_hypervisor_is_asked_for() -> None:
    """On bare metal these leaves hold something else."""
    asked: list[int] = []

    def run(leaf: int) -> Registers:
        asked.append(leaf)
        return Registers(0, 0, 0, 0)

    (only,) = look(Asked(run))
    assert isinstance(only, Evidence)
    assert only.kind == "none"
    assert max(asked) < FIRST


def test_signature_is_found_wherever_it_stands() -> None:
    """At every place from the first to the last."""

    def answer(known: dict[int, Registers], leaf: int) -> Registers:
        return known.get(leaf, Registers(7, 7, 7, 7))

    text = Registers(0, *(int.from_bytes(b"KVMKVMKVM\0\0\0"[at : at + 4], "little") for at in (0, 4, 8)))
    for place in range(FIRST, LAST, STEP):
        found = [*look(Asked(partial(answer, {1: Registers(0, 0, 1 << 31, 0), place: text})))]
        assert [(one.where, one.kind) for one in found if isinstance(one, Evidence)] == [(f"CPUID {place:#x}", "kvm")]


@given(st.dictionaries(st.sampled_from([0, 1, *range(FIRST, FIRST + 0x300)]), registers), registers)
def test_any_answers_make_evidence(known: dict[int, Registers], beyond: Registers) -> None:
    """Whatever stands in the registers, there is at least one finding, and each is one line that can be printed."""
    found = [*look(Asked(lambda leaf: known.get(leaf, beyond)))]
    assert found
    assert not any(isinstance(one, Silence) for one in found)
    assert all(str(one).isprintable() for one in found)
