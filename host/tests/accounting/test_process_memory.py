"""Memory as the operating system counts it, across forks and without leaking descriptors."""

from __future__ import annotations

import gc
import mmap
import os
import subprocess
import sys

import psutil
import pytest

from weighbridge.accounting.process import ProcessMemory, trim

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/self/statm is Linux's")
MIB = 1024 * 1024


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_resident_bytes_are_those_that_psutil_reports() -> None:
    """Both read the same figure; a little may have been allocated between the two readings."""
    memory = ProcessMemory()
    ours, theirs = memory.resident_bytes(), psutil.Process().memory_info().rss
    memory.close()
    assert abs(ours - theirs) < 4 * MIB
    assert ours % os.sysconf("SC_PAGE_SIZE") == 0


def test_resident_bytes_grow_with_what_is_touched() -> None:
    """64 MiB that were written are in the figure, and out of it again once they were given back."""
    memory = ProcessMemory()
    before = memory.resident_bytes()
    block = mmap.mmap(-1, 64 * MIB)
    for page in range(0, 64 * MIB, mmap.PAGESIZE):
        block[page] = 1
    with_block = memory.resident_bytes()
    block.close()
    after = memory.resident_bytes()
    memory.close()
    assert 60 * MIB < with_block - before < 72 * MIB
    assert 60 * MIB < with_block - after < 72 * MIB


def test_unique_bytes_are_not_more_than_resident_ones() -> None:
    """What only this process occupies is a part of what it occupies."""
    memory = ProcessMemory()
    unique = memory.unique_bytes()
    assert unique is not None
    assert 0 < unique <= memory.resident_bytes() + 4 * MIB
    memory.close()


@LINUX
def test_one_descriptor_is_kept_and_given_back() -> None:
    """The first reading opens one, further ones none; closing gives it back, twice is fine, and reading opens anew."""
    memory = ProcessMemory()
    before = descriptors()
    memory.resident_bytes()
    memory.resident_bytes()
    assert descriptors() == before + 1
    memory.close()
    memory.close()
    assert descriptors() == before
    assert memory.resident_bytes() > 0
    memory.close()


@LINUX
def test_fifty_meters_that_were_dropped_leave_no_descriptor() -> None:
    """Who forgets to close loses nothing: the descriptor goes with the object."""
    ProcessMemory().resident_bytes()
    gc.collect()
    before = descriptors()
    for _ in range(50):
        ProcessMemory().resident_bytes()
    gc.collect()
    assert descriptors() == before


FORK = """
import mmap, os
from weighbridge.accounting.process import ProcessMemory

memory = ProcessMemory()
parent = memory.resident_bytes()
answers, tell = os.pipe()
child = os.fork()
if child == 0:
    block = mmap.mmap(-1, 64 << 20)
    for page in range(0, 64 << 20, mmap.PAGESIZE):
        block[page] = 1
    os.write(tell, b"%d" % memory.resident_bytes())
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
print(parent, int(os.read(answers, 100)), memory.resident_bytes())
"""


@LINUX
def test_a_forked_child_reads_its_own_figure() -> None:
    """The descriptor names the process that opened it, so the child of a fork must not read its parent's figure."""
    run = subprocess.run([sys.executable, "-c", FORK], capture_output=True, encoding="utf-8", check=False)
    assert run.returncode == 0, run.stderr
    parent, child, parent_again = map(int, run.stdout.split())
    assert child - parent_again > 40 * MIB
    assert abs(parent_again - parent) < 8 * MIB


@LINUX
def test_a_descriptor_is_not_inherited_by_programs() -> None:
    """A program that the process starts gets no descriptor of the meter."""
    memory = ProcessMemory()
    memory.resident_bytes()
    opened = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    statm = [int(name) for name in opened if os.readlink(f"/proc/self/fd/{name}").endswith("/statm")]
    assert statm
    assert not any(os.get_inheritable(descriptor) for descriptor in statm)
    memory.close()


def test_trimming_says_what_it_came_to() -> None:
    """True or False where the C library can hand memory back, and None where it cannot."""
    result = trim()
    assert result in (True, False, None)
    assert (result is None) == (not hasattr(__import__("ctypes").CDLL(None), "malloc_trim"))
