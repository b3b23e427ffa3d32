"""The examples on the pages about services that are cached, limited, kept or passed on, run."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from weighbridge_hookspecs import ReleaseRequest

from weighbridge import Host, MemorySettings
from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

HERE = Path(__file__).parent
TIB = 1 << 40
LEASES = {
    "cache": 1,
    "capability": 1,
    "gate": 1,
    "journal": 1,
    "log": 1,
    "messages": 1,
    "secret": 1,
    "store": 1,
    "subscription": 1,
}


@pytest.fixture(autouse=True)
def _like_a_fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WEIGHBRIDGE_CEILING", raising=False)
    monkeypatch.delenv("WEIGHBRIDGE_DISABLED_PLUGINS", raising=False)


@pytest.fixture
def host(tmp_path: Path, temporary_plugin: TemporaryPlugin) -> Iterator[IsolatedHost]:
    temporary_plugin("stove", (HERE / "sample_stove.py").read_text(encoding="utf-8"), attribute="Stove")
    with IsolatedHost(store=tmp_path / "plugins.sqlite3") as made:
        made.allow("stove")
        made.load("stove")
        yield made


def until(condition: Callable[[], object]) -> None:
    """Wait; the suite's own time limit ends a wait in vain."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.01)


def test_every_service_is_a_lease_and_comes_back(host: IsolatedHost) -> None:
    """What was lent is on the account by kind, and on the receipt."""
    assert host.account("stove").leases == LEASES
    receipt = host.unload("stove")
    assert receipt.leases_revoked == LEASES
    assert (receipt.state, receipt.survivors, receipt.failures) == ("unloaded", (), ())


def test_cache_keeps_and_gives_way(host: IsolatedHost) -> None:
    """A page is made once, and goes when memory is wanted."""
    stove = host.capabilities["stove"]
    assert stove.page("soup") is stove.page("soup")
    assert stove.weighbridge_release_memory(ReleaseRequest(bytes=1, level="elevated")) == 4000
    assert stove.pages.get("soup") is None


@pytest.mark.parametrize(("enabled", "made"), [(True, 1), (False, 5)])
def test_buffers_are_used_again_where_memory_is_bounded(
    enabled: bool, made: int, tmp_path: Path, temporary_plugin: TemporaryPlugin
) -> None:
    """One block serves every read, and waits for the next; elsewhere each is allocated, and goes when it comes back."""
    temporary_plugin("stove", (HERE / "sample_stove.py").read_text(encoding="utf-8"), attribute="Stove")
    memory = MemorySettings(ceiling_bytes=TIB, enabled=enabled, follow_limits=False)
    with IsolatedHost(store=tmp_path / "plugins.sqlite3", memory=memory) as host:
        host.allow("stove")
        host.load("stove")
        stove = host.capabilities["stove"]
        assert stove.pour(io.BytesIO(bytes(200_000))) == 200_000
        drawn = stove.context.buffers.statistics()
        assert (drawn.rents, drawn.made, drawn.rented) == (5, made, 0)
        assert host.account("stove").leased_bytes == (64 * 1024 if enabled else 0)
        del stove


def test_gate_lets_urgent_work_preempt(host: IsolatedHost) -> None:
    """Simmering makes way for answers that find no place."""
    stove = host.capabilities["stove"]
    stove.gate.resize(1)
    assert stove.answer("tea") == "200 tea"
    stop = threading.Event()
    thread = threading.Thread(target=stove.simmer, args=(stop,))
    thread.start()
    until(lambda: stove.gate.statistics().inside)
    assert stove.answer("soup") == "200 soup"
    thread.join()
    assert stop.is_set()


def test_store_and_journal_are_there_at_the_next_load(host: IsolatedHost) -> None:
    """What was put, and what was appended and not acknowledged."""
    stove = host.capabilities["stove"]
    stove.serve(stove.order(b"soup"))
    stove.order(b"stew")
    del stove
    host.unload("stove")
    host.load("stove")
    again = host.capabilities["stove"]
    assert (again.context.store.get("lit"), again.replayed) == (b"2", [b"stew"])
    del again


def test_bus_delivers_in_a_thread_of_its_own(host: IsolatedHost) -> None:
    """The subscriber is called some time after the message was published."""
    stove = host.capabilities["stove"]
    stove.boil()
    until(lambda: stove.seen == ["95 degrees"])


def test_secret_is_seen_in_a_block(host: IsolatedHost) -> None:
    """The view is bytes; the handle shows none."""
    stove = host.capabilities["stove"]
    assert stove.first_letter() == ord("o")
    assert "sesame" not in repr(stove.key)


def test_a_host_is_given_the_file_for_what_plugins_keep(tmp_path: Path) -> None:
    """Nothing is written before a plugin asks."""
    folder = tmp_path / "data"
    folder.mkdir()
    # snippet: setting
    with Host(store=folder / "plugins.sqlite3") as host:
        host.load_all([])
    # end snippet
    assert list(folder.iterdir()) == []
