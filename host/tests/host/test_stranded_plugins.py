"""Plugins that something holds: they stay on the books until it lets go."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin
from weighbridge.units import MIB

KEPT = "from harbour import kept\nclass Plugin:\n    def __init__(self, context):\n        kept.append(self)\n"
GOOD = "class Plugin:\n    def __init__(self, context):\n        pass\n"
BIG = KEPT + "        self.cargo = b'x' * (4 << 20)\n"


@pytest.fixture
def harbour(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = type(sys)("harbour")
    module.kept = []
    monkeypatch.setitem(sys.modules, "harbour", module)
    return module


def status(host: IsolatedHost, name: str = "kept") -> tuple[str, str]:
    return {one.name: (one.state, one.reason) for one in host.plugins()}[name]


def test_a_plugin_that_is_held_is_stranded_until_it_is_let_go(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """Its bytes stay charged, and come off when somebody looks again."""
    temporary_plugin("kept", BIG)
    weighbridge_host.load("kept")
    receipt = weighbridge_host.unload("kept")
    assert receipt.state == "stranded"
    assert status(weighbridge_host) == ("stranded", f"{len(receipt.survivors)} of {receipt.watched} outlived it")
    assert weighbridge_host.account("kept").held_bytes >= 4 * MIB
    assert weighbridge_host.accounts().stranded_bytes >= 4 * MIB
    assert weighbridge_host.look_again() == ()
    harbour.kept.clear()
    assert weighbridge_host.look_again() == ("kept",)
    assert weighbridge_host.look_again() == ()
    assert status(weighbridge_host) == ("unloaded", "what had outlived it is gone")
    assert weighbridge_host.accounts().stranded_bytes == 0


def test_drawing_accounts_looks_again(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """A statement does not charge what is known to be gone."""
    import gc

    temporary_plugin("kept", KEPT)
    weighbridge_host.load("kept")
    weighbridge_host.unload("kept")
    harbour.kept.clear()
    gc.collect()
    assert weighbridge_host.accounts().stranded_bytes == 0
    assert status(weighbridge_host)[0] == "unloaded"


def test_a_new_generation_does_not_take_the_old_one_off_the_books(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """The old one's bytes stay charged while the new one works, and after it has gone clean."""
    temporary_plugin("kept", BIG)
    weighbridge_host.load("kept")
    weighbridge_host.unload("kept")
    weighbridge_host.load("kept")
    statement = weighbridge_host.accounts()
    assert statement.stranded_bytes >= 4 * MIB
    assert [account.state for account in statement.plugins] == ["active"]
    harbour.kept.pop()
    receipt = weighbridge_host.unload("kept")
    assert (receipt.state, receipt.survivors) == ("unloaded", ())
    assert status(weighbridge_host) == ("stranded", "this generation is gone, an earlier one is not")
    assert 4 * MIB <= weighbridge_host.accounts().stranded_bytes < 8 * MIB
    harbour.kept.clear()
    assert weighbridge_host.look_again() == ("kept",)
    assert weighbridge_host.accounts().stranded_bytes == 0


def test_generations_that_are_held_add_up(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """Each is charged once."""
    temporary_plugin("kept", BIG)
    for _ in range(3):
        weighbridge_host.load("kept")
        assert weighbridge_host.unload("kept").state == "stranded"
    assert 12 * MIB <= weighbridge_host.accounts().stranded_bytes < 16 * MIB
    assert weighbridge_host.statistics().stranded == 1
    harbour.kept.clear()
    assert weighbridge_host.look_again() == ("kept",)


def test_what_was_left_behind_survives_a_failure_and_a_discovery(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """A generation that cannot be loaded is no reason to forget the one before."""
    temporary_plugin("kept", BIG)
    weighbridge_host.load("kept")
    weighbridge_host.unload("kept")
    temporary_plugin("kept", "raise RuntimeError")
    weighbridge_host.load_all()
    weighbridge_host.discover()
    assert weighbridge_host.accounts().stranded_bytes >= 4 * MIB
    harbour.kept.clear()
    weighbridge_host.look_again()
    assert weighbridge_host.accounts().stranded_bytes == 0


def test_a_plugin_may_say_that_it_can_never_go(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Its modules are kept, so that nobody meets two copies of a library that cannot stand it."""
    package = temporary_plugin("kept", GOOD, manifest='[plugin]\nunload = "never"\n')
    weighbridge_host.load("kept")
    module = sys.modules[package]
    receipt = weighbridge_host.unload("kept")
    assert receipt.state == "stranded"
    assert [(one.kind, one.name, one.tie) for one in receipt.survivors] == [
        ("module", package, "declared: its manifest says that it cannot be unloaded before the process ends")
    ]
    assert (receipt.modules_dropped, receipt.modules_kept) == (
        0,
        (f"{package} (declared: its manifest says that it cannot be unloaded before the process ends)",),
    )
    assert sys.modules[package] is module
    assert weighbridge_host.look_again() == ()
    assert weighbridge_host.accounts().stranded_bytes > 0
    weighbridge_host.load("kept")
    assert sys.modules[package] is module
    assert weighbridge_host.unload("kept").state == "stranded"
