"""Which way is taken on which machine, and what it says about itself."""

from __future__ import annotations

import ctypes
import gc
import mmap
import subprocess
import sys

import pytest

from weighbridge_wasm.reset import AdviceReset, Baseline, CopyReset, DirtyPages, PagemapReset, open_resetter
from weighbridge_wasm.reset import pagemap as pagemap_module
from weighbridge_wasm.reset.baseline import PAGE
from weighbridge_wasm.reset.trial import find_fault, scratch


def refuse(reason: int, text: str) -> object:
    def scan(*arguments: object) -> int:
        raise OSError(reason, text)

    return scan


@pytest.mark.parametrize(
    ("reason", "text"), [(25, "Inappropriate ioctl for device"), (22, "Invalid argument"), (1, "Not permitted")]
)
def test_kernel_without_the_call_takes_the_next_way(monkeypatch: pytest.MonkeyPatch, reason: int, text: str) -> None:
    """An older kernel, a sandbox and a filter of system calls each refuse in their own words, which are passed on."""
    import fcntl

    monkeypatch.setattr(fcntl, "ioctl", refuse(reason, text))
    with open_resetter() as resetter:
        assert resetter.strategy == "madvise"
        assert f"pagemap: [Errno {reason}] {text}; madvise: tried" in resetter.evidence
        assert resetter.dirty_runs(PAGE, PAGE) is None


def test_machine_without_proc_takes_the_next_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc is not mounted there is nothing to ask."""

    def open_pagemap() -> object:
        raise FileNotFoundError(2, "No such file or directory", "/proc/self/pagemap")

    monkeypatch.setattr(pagemap_module, "_open_pagemap", open_pagemap)
    with open_resetter() as resetter:
        assert resetter.strategy == "madvise"
        assert "No such file or directory: '/proc/self/pagemap'" in resetter.evidence


def test_call_that_tells_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that answers and leaves pages out is not believed: memory of our own comes back different."""
    monkeypatch.setattr(DirtyPages, "scan", lambda self, address, nbytes: ([], []))
    with open_resetter() as resetter:
        assert resetter.strategy == "madvise"
        assert "pagemap: a memory filled by copying came back different" in resetter.evidence


def test_advice_that_does_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux the advice may leave the content; then memory is compared and copied."""
    monkeypatch.setattr("weighbridge_wasm.reset.resetter.advise_dont_need", lambda: lambda address, nbytes: None)
    with open_resetter(["pagemap"]) as resetter:
        assert resetter.strategy == "copy"
        assert "madvise: a memory filled by copying came back different" in resetter.evidence


def test_system_without_the_advice_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has neither the map of pages nor the advice."""
    monkeypatch.delattr(mmap, "MADV_DONTNEED", raising=False)
    with open_resetter(["pagemap"]) as resetter:
        assert resetter.strategy == "copy"
        assert "no MADV_DONTNEED" in resetter.evidence


def test_scan_without_the_advice_clears_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pages cannot be given back they are cleared, however many there are."""
    with open_resetter() as here:
        if here.strategy != "pagemap":
            pytest.skip(here.evidence)
    monkeypatch.delattr(mmap, "MADV_DONTNEED", raising=False)
    with open_resetter(keep_bytes=PAGE) as resetter, scratch(9 * PAGE) as (address, memory):
        assert resetter.strategy == "pagemap"
        memory[:] = b"\x77" * 9 * PAGE
        resetter.reset(address, 9 * PAGE, Baseline.of([], 9 * PAGE))
        assert memory[:] == bytes(9 * PAGE)


def test_every_way_can_be_switched_off() -> None:
    """Copying asks nothing of the system, so it is what remains."""
    with open_resetter(["pagemap", "madvise"]) as resetter:
        assert resetter.strategy == "copy"
        assert resetter.evidence == "pagemap: switched off; madvise: switched off; copy: asks nothing of the kernel"


def test_copying_is_worth_it_for_small_memories_only() -> None:
    """It reads the whole memory, so that a fresh instance is cheaper than the reset of a large one."""
    with open_resetter(["pagemap", "madvise"]) as resetter:
        assert resetter.is_worthwhile(16 << 16)
        assert not resetter.is_worthwhile(17 << 16)
    with open_resetter(["pagemap"]) as resetter:
        assert resetter.strategy == "copy" or resetter.is_worthwhile(65_535 << 16)


def test_trial_finds_a_reset_that_restores_no_data() -> None:
    """A way that clears memory and forgets what belongs there does not pass."""

    def clear(address: int, nbytes: int, baseline: Baseline) -> int:
        ctypes.memset(address, 0, nbytes)
        return nbytes

    assert find_fault(clear) == "a memory filled by copying came back different"
    assert find_fault(CopyReset().reset) is None


def test_trial_finds_a_reset_that_trusts_an_image() -> None:
    """Advice alone restores an image and loses copied data: the trial has both."""
    given: list[int] = []

    def trust(address: int, nbytes: int, baseline: Baseline) -> int:
        given.append(nbytes)
        return CopyReset().reset(address, nbytes, baseline) if len(given) < 3 else 0

    assert find_fault(trust) == "a memory mapped from an image came back different"


def test_names_are_what_switches_off() -> None:
    """The names in the evidence are those that ``without`` takes."""
    assert [way.name for way in (PagemapReset, AdviceReset, CopyReset)] == ["pagemap", "madvise", "copy"]


def test_import_needs_no_call_of_one_system() -> None:
    """Where Python has no fcntl, as on Windows, the package is imported and copies."""
    code = (
        "import sys, mmap; sys.modules['fcntl'] = None; "
        "vars(mmap).pop('MADV_DONTNEED', None); "
        "from weighbridge_wasm.reset import open_resetter; resetter = open_resetter(); print(resetter.strategy)"
    )
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "copy"


def test_reset_leaves_no_cycle() -> None:
    """A reset makes nothing that only the garbage collector could remove."""
    with open_resetter() as resetter, scratch(9 * PAGE) as (address, memory):
        baseline = Baseline.of([], 9 * PAGE)
        resetter.reset(address, 9 * PAGE, baseline)
        gc.collect()
        memory[0] = 1
        resetter.reset(address, 9 * PAGE, baseline)
        assert gc.collect() == 0
