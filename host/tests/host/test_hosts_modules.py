"""What the host imports when a plugin first uses a service is the host's: it is on no account, and it stays.

Other tests have used the services already, so each of these takes a fresh interpreter.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from weighbridge.fabricate import write_distribution

DATA = 123 * 8 * 1024
"""Bytes that each of the plugins holds."""
FIRST_USE = 40 * 1024
"""More than services keep in Python at their first use: the bus its thread, the store its statements."""
USER = f"""
class Plugin:
    def __init__(self, context):
        self.data = bytearray({DATA})
        context.store.put("depth", b"9")
        context.bus.subscribe("tide", print)
        context.journal().append(b"9")
        self.kept = context.secret(b"key"), context.cache(9, 99), context.gate(2)
"""
SCRIPT = """
import json, sys, tracemalloc
import attrs
from weighbridge_hookspecs import LoadFailed
from weighbridge.host import Host

def ours():
    return {name for name in sys.modules if name.partition(".")[0] in ("weighbridge", "weighbridge_hookspecs")}

def standing():
    statement = host.accounts()
    return {"stdlib_bytes": statement.stdlib_bytes, "shared_bytes": statement.shared_bytes}

site, meter, *names = sys.argv[1:]
sys.path.insert(0, site)
if meter == "traced":
    meter = "gate"
    tracemalloc.start(1)
said = {"accounts": {}, "receipts": {}, "failures": {}, "ours": {}}
with Host(meter=meter, store=f"{site}/store.sqlite3") as host:
    host.load("warm")
    for name in names:
        before = ours()
        try:
            said["accounts"][name] = attrs.asdict(host.load(name))
        except LoadFailed as error:
            said["failures"][name] = {"residue": list(error.residue), "step": error.step}
        said["ours"][name] = sorted(ours() - before)
    said["standing"] = standing()
    there = ours() | {"sqlite3"}
    for name in said["accounts"]:
        receipt = host.unload(name, dependencies=True)
        said["receipts"][name] = {
            "state": receipt.state, "kept": list(receipt.modules_kept), "dropped": receipt.modules_dropped,
            "share": receipt.reclaimed_share, "expected": receipt.expected_bytes, "stdlib": receipt.stdlib_bytes,
            "held": receipt.held_bytes, "failures": list(receipt.failures),
        }
    said["missing"] = sorted(there - sys.modules.keys())
print(json.dumps(said, default=str))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two plugins that are alike, one that fails after the same, and one for the first load of the process."""
    site = tmp_path / "site"
    write_distribution(site, "east", USER)
    write_distribution(site, "west", USER)
    write_distribution(site, "wreck", USER + "        raise ValueError('on the rocks')\n")
    write_distribution(site, "warm", "class Plugin:\n    def __init__(self, context):\n        pass\n")
    return site


def run(site: Path, meter: str, *names: str) -> Mapping[str, Any]:
    """What an interpreter says in which these plugins are loaded in this order, and then unloaded."""
    command = [sys.executable, "-c", SCRIPT, str(site), meter, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said: Mapping[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("meter", ["gate", "trace"])
def test_the_first_user_of_a_service_weighs_what_the_second_one_weighs(site: Path, meter: str) -> None:
    """Whichever comes first: modules of the host are not its own, nor is what they bring of the standard library."""
    for names in (("east", "west"), ("west", "east")):
        said = run(site, meter, *names)
        first, second = (said["accounts"][name] for name in names)
        assert {"weighbridge.leases.store", "weighbridge.leases.bus"} <= set(said["ours"][names[0]])
        assert said["ours"][names[1]] == []
        assert (first["modules"], second["modules"]) == (1, 1)
        assert (first["stdlib_bytes"], second["stdlib_bytes"]) == (0, 0)
        assert second["traced_bytes"] >= DATA
        for figure in ("traced_bytes", "held_bytes"):
            assert abs(first[figure] - second[figure]) < FIRST_USE
        assert abs(first["objects"] - second["objects"]) < 300
        assert said["standing"]["stdlib_bytes"] > 50_000  # sqlite3 is there, and on its line
        assert said["standing"]["shared_bytes"] < FIRST_USE


def test_what_the_host_imported_is_not_expected_back(site: Path) -> None:
    """The receipt of the first user has no module of the host, and a share near all of it; the modules stay."""
    said = run(site, "traced", "east", "west")
    for receipt in said["receipts"].values():
        assert (receipt["state"], receipt["kept"], receipt["dropped"]) == ("unloaded", [], 1)
        assert (receipt["stdlib"], receipt["failures"]) == (0, [])
        assert abs(receipt["held"] - receipt["expected"]) < 1000
        assert receipt["share"] == pytest.approx(1, abs=0.06)
    assert said["missing"] == []


def test_a_load_that_fails_leaves_the_hosts_modules_there(site: Path) -> None:
    """They are no residue; whoever comes next uses them, and weighs what it would have weighed."""
    said = run(site, "gate", "wreck", "east")
    assert said["failures"] == {"wreck": {"residue": [], "step": "construct"}}
    assert "weighbridge.leases.store" in said["ours"]["wreck"]
    assert said["ours"]["east"] == []
    assert said["missing"] == []
    assert said["receipts"]["east"]["kept"] == []
    assert 0 <= said["accounts"]["east"]["traced_bytes"] - DATA < 2 * FIRST_USE  # the first undoing leaves some, too


def test_the_place_of_plugins_among_the_loggers_is_there_before_the_first_of_them() -> None:
    """Or the first load would make it, and be charged for it."""
    script = (
        "import logging, weighbridge.host, weighbridge.lifecycle.loading;"
        "print(type(logging.root.manager.loggerDict.get('weighbridge.plugins')) is logging.Logger)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
