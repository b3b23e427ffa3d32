"""Pressure of this very kernel, in processes of their own: triggers, the service manager's protocol, real stalls."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from weighbridge_balloon.sources.psi import ELEVATED

PRESSURE = Path("/proc/pressure/memory")


def can_trigger() -> bool:
    """Whether this kernel takes a trigger of ours."""
    from weighbridge_balloon.sources.psi import open_psi

    try:
        open_psi(PRESSURE, ELEVATED, "elevated").close()
    except OSError:
        return False
    return True


needs_psi = pytest.mark.skipif(not can_trigger(), reason="this kernel takes no triggers of ours")


def run(code: str, **environ: str) -> Any:
    """What a child prints as JSON."""
    command, whole = [sys.executable, "-c", code], {**os.environ, **environ}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=whole, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


WINDOWS = """
import json, os
from pathlib import Path
from weighbridge_balloon.sources.psi import Trigger, arm, open_psi, parse_total
from weighbridge_balloon.files import read_bytes

path = Path("/proc/pressure/memory")
coarse = open_psi(path, Trigger("some", 50_000, 3_000_000), "elevated")
number = coarse.fileno()
try:
    os.write(number, coarse.trigger.text())
    second = "taken"
except OSError as error:
    second = os.strerror(error.errno)
try:
    os.close(arm(path, b"some 150000 2000000"))
    without = "taken"
except OSError as error:
    without = os.strerror(error.errno)
total = parse_total(read_bytes(path), "some")
print(json.dumps({"window": coarse.trigger.window_us, "second": second, "without": without, "total": total}))
"""


@needs_psi
def test_kernel_takes_our_triggers() -> None:
    """A window that not everybody may have is taken, as it is or coarser; one descriptor takes one trigger."""
    figures = run(WINDOWS)
    assert figures["window"] in (3_000_000, 4_000_000)
    assert figures["second"] == os.strerror(16)  # EBUSY
    assert figures["total"] >= 0


@needs_psi
def test_trigger_without_a_nul_is_not_what_was_meant() -> None:
    """The kernel overwrites the last digit: 200000 us are no window, so it does not take it. We always write a NUL."""
    assert run(WINDOWS)["without"] == os.strerror(22)  # EINVAL
    assert ELEVATED.text()[-1] == 0


QUIET = """
import json, os, threading
from pathlib import Path
from weighbridge_balloon.control import PressureControl
from weighbridge_balloon.settings import PressureSettings
import logging

control = PressureControl(PressureSettings(poll_seconds=0), log=logging.getLogger("x"))
has_work = control.open()
names = [fact.finding for fact in control.facts() if fact.subject == "memory pressure"]
stop = threading.Event()
thread = threading.Thread(target=control.run, args=(stop,))
thread.start()
control.close()
thread.join(30)
print(json.dumps({"has_work": has_work, "names": names, "alive": thread.is_alive()}))
"""


@needs_psi
def test_service_managers_wish_is_taken_by_the_real_kernel() -> None:
    """Its file and its trigger, as systemd sets them."""
    write = base64.b64encode(b"some 200000 2000000\0").decode("ascii")
    figures = run(QUIET, MEMORY_PRESSURE_WATCH=str(PRESSURE), MEMORY_PRESSURE_WRITE=write)
    assert figures == {"has_work": True, "names": [f"{PRESSURE} some"], "alive": False}


def test_null_device_leaves_nothing_to_do() -> None:
    """Nobody watches, and no thread is needed."""
    figures = run(QUIET, MEMORY_PRESSURE_WATCH="/dev/null")
    assert (figures["has_work"], figures["alive"]) == (False, False)


def test_whatever_this_machine_has_opens_and_closes() -> None:
    """With nothing said by a service manager."""
    environ = {"MEMORY_PRESSURE_WATCH": ""}
    figures = run(QUIET, **environ)
    assert figures["alive"] is False
    assert figures["has_work"] is (figures["names"] != ["nobody tells"])


FIFO = """
import json, logging, os, threading
from pathlib import Path
from weighbridge_balloon.control import PressureControl
from weighbridge_balloon.settings import PressureSettings

control = PressureControl(PressureSettings(poll_seconds=0, step_bytes=4 << 20), log=logging.getLogger("x"))
cache = control.slab_cache(16 << 20)
for number in range(64):
    cache.put(number, bytes([number + 1]) * 200_000)
before = cache.statistics().slab_bytes
asked = threading.Event()
lease = control.register_pressure_handler(lambda nbytes: asked.set() or 0)
control.open()
thread = threading.Thread(target=control.run, args=(threading.Event(),))
thread.start()
fifo = os.open(os.environ["MEMORY_PRESSURE_WATCH"], os.O_WRONLY)
# the cache gives what is wanted, so the second handler is asked when that is empty
while not asked.is_set():
    os.write(fifo, b"low")
    asked.wait(0.05)
control.close()
thread.join(30)
first = control.receipts()[0]
print(json.dumps({
    "before": before, "after": cache.statistics().slab_bytes, "asked": first.asked_bytes,
    "believed": first.believed_bytes, "reason": first.reason, "alive": thread.is_alive(),
}))
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_event_empties_a_cache(tmp_path: Path) -> None:
    """From the service manager's FIFO to slabs that leave: a step at each event, until nothing is left to give."""
    fifo = tmp_path / "pressure"
    os.mkfifo(fifo)
    figures = run(FIFO, MEMORY_PRESSURE_WATCH=str(fifo))
    assert figures["before"] >= 12 << 20
    assert figures["after"] == 0
    assert figures["asked"] == 4 << 20
    assert 4 << 20 <= figures["believed"] <= 6 << 20
    assert figures["reason"].startswith(str(fifo))
    assert figures["alive"] is False


PACE = """
import json
from pathlib import Path
from weighbridge_balloon.buddy import read_offer
from weighbridge_balloon.control import PressureControl
from weighbridge_balloon.settings import PressureSettings
import logging

control = PressureControl(PressureSettings(), log=logging.getLogger("x"))
cache = control.slab_cache(200 << 20)
for number in range(1000):
    cache.put(number, bytes([number % 255 + 1]) * 200_000)
receipt = control.release_memory(150 << 20)
print(json.dumps({
    "asked": receipt.asked_bytes, "believed": receipt.believed_bytes, "freed": receipt.freed_bytes,
    "hypervisor": receipt.hypervisor_bytes, "pending": receipt.pending_bytes, "missing": receipt.missing_bytes,
}))
"""


@pytest.mark.skipif(not Path("/proc/zoneinfo").exists(), reason="there is no /proc/zoneinfo")
def test_receipt_of_a_release_has_all_three_figures() -> None:
    """150 MiB out of slabs: all of it believed, and freed in this machine, whatever else goes on in it."""
    best: dict[str, int] = {}
    for _ in range(5):  # others on this machine allocate as well; one quiet moment is enough
        figures = run(PACE)
        assert figures["missing"] == 0
        assert 150 << 20 <= figures["believed"] <= 152 << 20
        if not best or abs(figures["freed"] - figures["believed"]) < abs(best["freed"] - best["believed"]):
            best = figures
        if abs(best["freed"] - best["believed"]) < best["believed"] // 10:
            break
    assert abs(best["freed"] - best["believed"]) < best["believed"] // 10
    if best["hypervisor"] is not None:
        assert best["pending"] == max(0, best["freed"] - best["hypervisor"])
