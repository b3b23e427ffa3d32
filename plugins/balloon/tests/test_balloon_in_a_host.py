"""The plugin in a host: these tests need ``weighbridge[testing]``, and are skipped where it is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("weighbridge.testing", reason="pip install 'weighbridge[testing]' to test the plugin in a host")

if TYPE_CHECKING:
    # The fixture's type is the host's; this plugin does not import it.
    IsolatedHost = Any


@pytest.fixture(autouse=True)
def _like_a_fresh_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing was weighed yet, and nothing imported: what is imported already, a load does not bring in."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "weighbridge_balloon"]:
        monkeypatch.delitem(sys.modules, name)


def test_balloon_keeps_to_its_manifest(weighbridge_host: IsolatedHost) -> None:
    """The hooks that it implements, the capability that it provides, and the memory that it declares."""
    weighbridge_host.allow("balloon")
    account = weighbridge_host.load("balloon")
    manifest = weighbridge_host.candidate("balloon").manifest
    assert manifest is not None
    assert manifest.load_bytes is not None
    assert set(manifest.hooks) == set(weighbridge_host.implemented("balloon"))
    assert set(manifest.provides) == {one.name for one in weighbridge_host.capabilities.describe()}
    assert account.held_bytes < manifest.load_bytes


def test_others_ask_it_for_the_hypervisor(weighbridge_host: IsolatedHost) -> None:
    """For as long as it is loaded."""
    weighbridge_host.allow("balloon")
    weighbridge_host.load("balloon")
    (entry,) = weighbridge_host.capabilities.describe()
    assert entry.evidence == weighbridge_host.capabilities["balloon"].evidence
    assert entry.details["hypervisor"].startswith(weighbridge_host.capabilities["balloon"].hypervisor.kind)
    weighbridge_host.unload("balloon")
    assert "balloon" not in weighbridge_host.capabilities


def test_doctor_hears_of_hypervisor_and_balloon(weighbridge_host: IsolatedHost) -> None:
    """Each subject once, with evidence."""
    weighbridge_host.allow("balloon")
    weighbridge_host.load("balloon")
    facts = [fact for name, fact in weighbridge_host.examine() if name == "balloon"]
    subjects = [fact.subject for fact in facts]
    assert {"hypervisor", "container", "balloon", "page reporting"} <= set(subjects)
    assert all(fact.evidence for fact in facts)


def test_balloon_leaves_nothing_behind() -> None:
    """Loaded and unloaded again and again, in a process where no other test holds its classes: nothing outlives it."""
    command = "import sys; from weighbridge.cli import main; sys.exit(main())"
    run = subprocess.run(
        [sys.executable, "-c", command, "check", "balloon", "--json"], capture_output=True, text=True, check=False
    )
    (checked,) = json.loads(run.stdout)["checks"]
    assert checked["status"] == "ok"
    passed = {one["criterion"]: one["passed"] for one in checked["findings"]}
    # Not the criterion "steady": with so many modules, tables of the interpreter's own still grow in the first rounds.
    assert passed["load"], checked
    assert passed["peak"], checked
    assert passed["hooks"], checked
    assert passed["clean"], checked
