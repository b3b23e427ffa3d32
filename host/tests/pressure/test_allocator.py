"""What threads have freed can be handed back to the system, if they all allocate in one arena."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

GLIBC: Final = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()), reason="other C libraries have no arenas"
)
KIB: Final = 1024
MIB: Final = 1024 * KIB

# Eight threads at once take blocks of sizes that glibc keeps in arenas once it has seen a bigger one freed, and free
# them; then the process lets the C library hand back what is free, and looks at what it occupies.
FREED: Final = """
import gc, sys, threading
from weighbridge.accounting.process import ProcessMemory, trim
from weighbridge.pressure.allocator import keep_one_arena

def use():
    for size in range(100, 700, 50):
        together.wait()
        blocks = [bytearray(size << 10) for _ in range(3)]
        for block in blocks:
            block[::4096] = bytes(-(-len(block) // 4096))
        together.wait()
        del block, blocks

bytearray(1 << 20)
memory, together = ProcessMemory(), threading.Barrier(8)
told = sys.argv[1] == "one" and keep_one_arena()
before = memory.resident_bytes()
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
gc.collect()
trim()
print(told, memory.resident_bytes() - before)
"""


def run(program: str, *arguments: str, **environment: str) -> list[str]:
    """What a fresh interpreter prints, without the operator's settings of the allocator but those given here."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
    }
    command = [sys.executable, "-P", "-c", program, *arguments]
    done = subprocess.run(command, env={**inherited, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()


@GLIBC
def test_what_threads_have_freed_is_handed_back() -> None:
    """With one arena the process shrinks to what it was; with one for each thread it keeps far more."""
    told, kept = run(FREED, "one")
    told_nothing, kept_by_default = run(FREED, "default")
    assert (told, told_nothing) == ("True", "False")
    assert int(kept) < MIB
    assert int(kept_by_default) > 4 * max(int(kept), 256 * KIB)


ASKED: Final = "from weighbridge.pressure.allocator import keep_one_arena; print(keep_one_arena())"


@GLIBC
@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_ARENA_MAX", "4"), ("GLIBC_TUNABLES", "glibc.malloc.check=0:glibc.malloc.arena_max=4")]
)
def test_what_the_operator_has_set_is_left_alone(name: str, value: str) -> None:
    """Whoever runs the process may have reasons for another number."""
    assert run(ASKED, **{name: value}) == ["False"]


# A host says so by itself, before its threads begin, and only if it is to keep the process under a ceiling.
HOSTED: Final = """
import sys
from weighbridge import MemorySettings
from weighbridge.isolation import IsolatedHost
import weighbridge.pressure.surroundings as surroundings

called = []
surroundings.keep_one_arena = lambda: called.append(True)
IsolatedHost(memory=MemorySettings(enabled=sys.argv[1] == "enabled", follow_limits=False)).close()
print(len(called))
"""


@pytest.mark.parametrize(("memory", "times"), [("enabled", "1"), ("disabled", "0")])
def test_a_host_says_so_if_it_watches_the_memory(memory: str, times: str) -> None:
    """Who has not asked for a ceiling keeps the allocator as it is."""
    assert run(HOSTED, memory) == [times]
