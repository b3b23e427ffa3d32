"""What the scales say of an unload: the plugin's bytes, and none of what the host writes down meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import FunctionType

import pytest

from weighbridge.fabricate import write_distribution
from weighbridge.lifecycle.course import Course, Wish
from weighbridge.reclaim.receipt import Step
from weighbridge.reclaim.ties.tie import Finding
from weighbridge.reclaim.watch import watch

FUNCTIONS = 1500
UNLOAD = """
import json, sys
from weighbridge.host import Host
from weighbridge.weighing.tare import make_room_for_names

sys.path.insert(0, sys.argv[1])
names = make_room_for_names()
with Host(group=sys.argv[2]) as host:
    host.load("ledger")
    receipt = host.unload("ledger")
print(json.dumps([receipt.state, receipt.expected_bytes, receipt.reclaimed_bytes, receipt.immortal_bytes]))
"""


def test_what_is_written_down_about_an_unload_weighs_what_it_says() -> None:
    """Weak references, names, findings and steps: within a few percent of what tracemalloc says."""
    tracemalloc.start(1)
    try:
        functions = [FunctionType(_nothing.__code__, {"__name__": f"module {number}"}) for number in range(FUNCTIONS)]
        before, blocks = tracemalloc.get_traced_memory()[0], sys.getallocatedblocks()
        course = Course(Wish(reason="", dependencies=True, seconds=1, verify="full", cut="all"))
        course.watched += [watch("function", function) for function in functions]
        course.findings += [
            Finding(tie="tie", place=f"place {number}", held=f"held {number}", outcome="cut", note="")
            for number in range(FUNCTIONS)
        ]
        course.steps += [Step(name="step", seconds=number / 7, failures=(f"failure {number}",)) for number in range(50)]
        grown = tracemalloc.get_traced_memory()[0] - before, sys.getallocatedblocks() - blocks
        own = course.own_weight()
    finally:
        tracemalloc.stop()
    assert own[0] == pytest.approx(grown[0], rel=0.05)
    assert own[1] == pytest.approx(grown[1], rel=0.05)
    assert own[0] > FUNCTIONS * sys.getsizeof(course.watched[0].reference)


def test_what_came_back_and_what_never_does_are_all_there_is(tmp_path: Path) -> None:
    """On every Python: a plugin of many names, which nobody holds, comes back but for what is immortal."""
    source = "".join(
        f"def carry_{number}(load_{number}):\n    ready_{number} = load_{number}\n    return ready_{number}\n"
        for number in range(FUNCTIONS)
    )
    plugin = "class Plugin:\n    def __init__(self, context):\n        pass\n"
    write_distribution(tmp_path, "ledger", source + plugin, group="scales")
    command = [sys.executable, "-X", "tracemalloc=1", "-c", UNLOAD, str(tmp_path), "scales"]
    done = subprocess.run(command, capture_output=True, check=True)
    state, expected, reclaimed, immortal = json.loads(done.stdout)
    assert state == "unloaded"
    assert (reclaimed + immortal) / expected == pytest.approx(1, abs=0.02)
    assert (immortal > expected / 10) == (sys.version_info >= (3, 12))


def _nothing() -> None:
    """A code object to make functions from."""
