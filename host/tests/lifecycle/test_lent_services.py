"""What a host lends from what it shares: lent under the plugin's name, and back with it, whatever the plugin did."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
from weighbridge_hookspecs import (
    BudgetView,
    ConfigurationError,
    ContextClosed,
    LeaseError,
    LoadFailed,
    Saturated,
    ServiceUnavailable,
)

from weighbridge import MemorySettings
from weighbridge.isolation import IsolatedHost
from weighbridge.leases.capabilities import CapabilityRegistry
from weighbridge.leases.charges import Charges
from weighbridge.leases.ledger import LeaseLedger
from weighbridge.leases.store import StoreFile
from weighbridge.lifecycle.context import HostContext
from weighbridge.lifecycle.services import Services
from weighbridge.testing import TemporaryPlugin

BUDGET = BudgetView(load_bytes=None, peak_bytes=None, held_bytes=0, headroom_bytes=None)


@attrs.define
class Desk:
    """The services of a host, and contexts that lend them."""

    services: Services
    ledgers: dict[str, LeaseLedger] = attrs.field(factory=dict)

    def context(self, name: str = "lamp") -> HostContext:
        return HostContext(
            name,
            leases=self.ledgers.setdefault(name, LeaseLedger()),
            charges=Charges(),
            tracked=[],
            settings={},
            services=self.services,
            capabilities=CapabilityRegistry(),
            budget=lambda: BUDGET,
            relieve=lambda nbytes, level, owner: nbytes,
        )

    def held(self, name: str = "lamp") -> dict[str, int]:
        return {kind: count for kind, count in self.ledgers[name].statistics().held.items() if kind != "log"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(Services(tmp_path / "store.sqlite3"))
    yield made
    for ledger in made.ledgers.values():
        assert ledger.revoke().failures == ()
    assert made.services.close() == []


LENT: dict[str, Callable[[HostContext], Any]] = {
    "cache": lambda context: context.cache(10, 1000),
    "gate": lambda context: context.gate(1),
    "secret": lambda context: context.secret(b"open sesame"),
    "journal": lambda context: context.journal(),
    "subscription": lambda context: context.bus.subscribe("news", print),
    "store": lambda context: context.store,
    "buffer": lambda context: context.buffers.rent(4096),
}
SERVICES = sorted(LENT)
RELEASED_EARLY = sorted(LENT.keys() - {"store"})


# --- through a whole host -----------------------------------------------------------------------------------------

USES = {
    "cache": "context.cache(10, 1000).put('a', bytes(1000), nbytes=1000)",
    "gate": "self.inside.enter_context(context.gate(1).enter())",
    "secret": "context.secret(b'%032d' % number)",
    "journal": "context.journal(f'j{number}').append(b'record')",
    "subscription": "context.bus.subscribe(f't{number}', self.receive); context.bus.publish(f't{number}', self)",
    "messages": "context.bus.publish('deaf', self)",
    "store": "context.store.get('oil') if number % 100 else context.store.put(f'k{number}', bytes(65536))",
    "thread": "context.spawn(lambda stop: stop.wait())",
    "timer": "context.every(3600, self.receive)",
    "charge": "context.charge(4096, 'arena')",
    "capability": "context.capabilities.register(f'c{number}', self, evidence='it is here')",
    "buffer": "self.inside.enter_context(context.buffers.rent(4096))",
}
ROUNDS = 3
BOUNDED = MemorySettings(ceiling_bytes=1 << 40, enabled=True, follow_limits=False)
# each open journal has two descriptors, and a thousand of them more than a process usually may
TIMES = {"journal": 100, "thread": 200}
ONE_FOR_ALL = ("store", "messages")

HOARDER = """
import contextlib

class Plugin:
    def __init__(self, context):
        self.inside = contextlib.ExitStack()
        for number in range({times}):
            {use}

    def receive(self, *message):
        pass
"""


def holdings() -> dict[str, int]:
    """What the process has of everything that a service could leave behind."""
    gc.collect()
    locked = next(line for line in Path("/proc/self/status").read_text("ascii").splitlines() if "VmLck" in line)
    return {
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "locked KiB": int(locked.split()[1]),
        "mappings": sum("zero" not in line for line in Path("/proc/self/maps").read_text("utf-8").splitlines()),
        "blocks": sys.getallocatedblocks(),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of Linux")
@pytest.mark.parametrize("kind", sorted(USES))
def test_whoever_gives_nothing_back_leaves_nothing_behind(
    kind: str, tmp_path: Path, temporary_plugin: TemporaryPlugin
) -> None:
    """A thousand leases and an unload, again and again: the receipt lists them, and the process grows by nothing."""
    times = TIMES.get(kind, 1000)
    temporary_plugin("hoarder", HOARDER.format(times=times, use=USES[kind]))
    with IsolatedHost(store=tmp_path / "store.sqlite3", memory=BOUNDED) as host:
        host.allow("hoarder")
        # the application's own, so that threads of the bus are there before and after, and a queue that nobody empties
        deaf = threading.Event()
        host._services.bus().subscribe("deaf", lambda message: deaf.wait())
        host._services.bus().publish("deaf", "stay busy")
        _round(host, kind, times)  # what is made once for all
        before = _round(host, kind, times)
        for _ in range(ROUNDS):
            after = _round(host, kind, times)
        deaf.set()
    for what, had in before.items():
        allowed = {"blocks": times, "mappings": 3}.get(what, 0)  # a block for every third lease would be more
        assert after[what] <= had + allowed, (what, had, after[what])


def _round(host: IsolatedHost, kind: str, times: int) -> dict[str, int]:
    host.load("hoarder")
    receipt = host.unload("hoarder")
    expected = {"log": 1, kind: 1 if kind in ONE_FOR_ALL else times}
    if kind == "subscription":
        expected["messages"] = 1
    assert receipt.leases_revoked == expected
    assert (receipt.state, receipt.failures, receipt.survivors) == ("unloaded", (), ())
    statistics = host._services.bus().statistics()
    assert (statistics.subscriptions, statistics.pending) == (1, 0)
    assert host._services.vault().statistics().mapped_bytes == 0
    assert host._services.buffers("probe").ceiling.used_bytes == 0
    return holdings()


def test_closing_the_host_closes_what_it_shares(tmp_path: Path, temporary_plugin: TemporaryPlugin) -> None:
    """Afterwards the store can be opened by others, and no thread is left."""
    temporary_plugin("hoarder", HOARDER.format(times=3, use="; ".join(USES.values())))
    before = threading.active_count()
    path = tmp_path / "store.sqlite3"
    with IsolatedHost(store=path) as host:
        host.allow("hoarder")
        host.load("hoarder")
        with pytest.raises(ConfigurationError, match="is in use by this process"):
            StoreFile(path)
    assert threading.active_count() == before
    with StoreFile(path) as opened:
        assert opened.namespaces() == ("hoarder",)


def test_a_load_that_fails_gives_back_what_was_lent(tmp_path: Path, temporary_plugin: TemporaryPlugin) -> None:
    """A constructor that takes everything and raises leaves no lease, and the host's own modules stay."""
    use = "; ".join(USES.values()) + "; 1 / 0"
    temporary_plugin("hoarder", HOARDER.format(times=1, use=use))
    with IsolatedHost(store=tmp_path / "store.sqlite3") as host:
        host.allow("hoarder")
        with pytest.raises(LoadFailed) as caught:
            host.load("hoarder")
        assert caught.value.residue == ()
        assert host._services.vault().statistics().secrets == 0
        assert host._services.bus().statistics().subscriptions == 0
    assert sys.modules["weighbridge.leases.store"].StoreFile is StoreFile


@pytest.fixture
def harbour(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application's module, which the plugin finds."""
    module: Any = ModuleType("harbour")
    monkeypatch.setitem(sys.modules, "harbour", module)
    return module


KEEPER = """
import harbour

class Plugin:
    def __init__(self, context):
        view = context.buffers.rent({nbytes})
        harbour.kept.append(view[1:3])
        self.own = context.buffers.rent(4096)[:7]
"""


@pytest.mark.parametrize("nbytes", [4096, 2 << 20])
@pytest.mark.parametrize("meter", ["gate", "trace", "process"])
def test_a_buffer_that_somebody_still_uses_is_named(
    meter: str, nbytes: int, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """A slice in the application's hands keeps its block: the receipt says so, and looks again later."""
    harbour.kept = []
    temporary_plugin("keeper", KEEPER.format(nbytes=nbytes))
    with IsolatedHost(meter=meter, memory=BOUNDED, explain_seconds=60, deadline_seconds=60) as host:
        host.allow("keeper")
        account = host.load("keeper")
        assert account.leases == {"log": 1, "buffer": 2}
        assert (account.leased_bytes, account.native_bytes) == (nbytes + 4096, 0)
        receipt = host.unload("keeper")
        assert (receipt.state, receipt.leases_revoked) == ("stranded", {"log": 1, "buffer": 2})
        (survivor,) = receipt.survivors
        assert (survivor.kind, survivor.name) == ("buffer", f"of {nbytes} bytes")
        assert survivor.chain == ("managedbuffer", "memoryview", "harbour.kept[0]", "module harbour")
        assert host.account("keeper").held_bytes >= nbytes
        harbour.kept.clear()
        assert host.look_again() == ("keeper",)


BORROWER = """
class Plugin:
    def __init__(self, context):
        self.context = context
        self.cache = context.cache(100, 1 << 30)
        self.views = [context.buffers.rent(1 << 20)]
        self.cache.put("load", bytes(1 << 20), nbytes=1 << 20)
        context.secret(bytes(100))
"""


def test_what_is_leased_is_on_the_account_once(temporary_plugin: TemporaryPlugin) -> None:
    """What was rented during the load was weighed with it; what is rented later is added, and returned ones go."""
    temporary_plugin("borrower", BORROWER)
    with IsolatedHost(memory=BOUNDED) as host:
        host.allow("borrower")
        account = host.load("borrower")
        plugin: Any = host._roster["borrower"].thing
        size = 1 << 20
        assert account.leased_bytes == 2 * size
        assert account.charges == {"secrets": 100}
        assert 2 * size < account.held_bytes < 2 * size + 100_000
        plugin.views.append(plugin.context.buffers.rent(size))
        plugin.cache.put("later", bytes(size), nbytes=size)
        assert host.account("borrower").held_bytes == account.held_bytes + 2 * size
        plugin.cache.clear()
        plugin.views.clear()
        plugin.context.buffers.trim(1 << 30)
        assert host.account("borrower").leased_bytes == 0
        assert 0 < host.account("borrower").held_bytes == account.held_bytes - 2 * size
        del plugin


BUSY = """
import threading
from weighbridge_hookspecs import hookimpl

class Plugin:
    def __init__(self, context):
        self.entered, self.over = threading.Event(), threading.Event()
        context.bus.subscribe("work", self.receive)
        context.bus.publish("work", "now")
        self.entered.wait()

    def receive(self, message):
        self.entered.set()
        self.over.wait()

    @hookimpl
    def weighbridge_deactivate(self):
        self.over.set()
"""


def test_a_receiver_at_work_is_no_call_under_way(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Threads of the bus are the host's: an unload does not wait for them before the plugin was told to end."""
    temporary_plugin("busy", BUSY)
    weighbridge_host.load("busy")
    receipt = weighbridge_host.unload("busy", deadline_seconds=0)
    assert (receipt.state, receipt.failures) == ("unloaded", ())
    assert receipt.leases_revoked == {"log": 1, "messages": 1, "subscription": 1}


# --- one service at a time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RELEASED_EARLY)
def test_what_is_released_early_leaves_the_ledger(desk: Desk, kind: str) -> None:
    """So that the ledger does not grow with a plugin that tidies up; releasing twice does nothing."""
    context = desk.context()
    first = LENT[kind](context)
    before = desk.held()
    if kind == "journal":
        with pytest.raises(LeaseError, match="another journal has"):
            context.journal()
        taken: Any = context.journal("other")
    else:
        taken = LENT[kind](context)
    assert desk.held()[kind] == before[kind] + 1
    taken.release()
    taken.release()
    assert desk.held() == before
    del first


@pytest.mark.parametrize("kind", SERVICES)
def test_after_the_unload_none_of_them_is_lent(desk: Desk, kind: str) -> None:
    """Whoever kept the context gets an error, and nothing is made for it."""
    context = desk.context()
    assert desk.ledgers["lamp"].revoke().failures == ()
    with pytest.raises(ContextClosed):
        LENT[kind](context)
    assert desk.held() == {}


def test_handles_that_were_kept_are_closed(desk: Desk) -> None:
    """What a plugin hid somewhere before its unload is of no use afterwards."""
    context = desk.context()
    kept = {kind: lend(context) for kind, lend in LENT.items()}
    bus, buffers = context.bus, context.buffers
    assert desk.ledgers["lamp"].revoke().failures == ()
    uses: dict[str, Callable[[], object]] = {
        "cache": lambda: kept["cache"].put("a", b"", nbytes=0),
        "gate": lambda: kept["gate"].enter().__enter__(),
        "secret": lambda: kept["secret"].view().__enter__(),
        "journal": lambda: kept["journal"].append(b"record"),
        "store": lambda: kept["store"].get("a"),
        "rent": lambda: buffers.rent(4096),
        "publish": lambda: bus.publish("news", 1),
        "subscribe": lambda: bus.subscribe("news", print),
        "context": lambda: context.store.get("a"),
    }
    for name, use in uses.items():
        with pytest.raises(LeaseError):
            use()
        assert desk.held() == {}, name
    with pytest.raises(ValueError, match="released"):
        kept["buffer"][0]


def test_store_is_one_handle_in_a_namespace_of_the_plugin(desk: Desk) -> None:
    """What one plugin put another does not see, and asking twice is one lease."""
    lamp, lens = desk.context("lamp"), desk.context("lens")
    lamp.store.put("oil", b"3")
    assert lamp.store is lamp.store
    assert (lamp.store.get("oil"), lens.store.get("oil")) == (b"3", None)
    assert (desk.held("lamp"), desk.held("lens")) == ({"store": 1}, {"store": 1})


def test_what_was_put_is_there_for_the_next_generation(desk: Desk) -> None:
    """An unload closes the handle, and keeps what was stored and journalled."""
    context = desk.context()
    context.store.put("oil", b"3")
    assert context.journal().append(b"lit") == 1
    assert desk.ledgers.pop("lamp").revoke().failures == ()
    again = desk.context()
    seen: list[tuple[int, bytes]] = []
    again.journal().replay(lambda sequence, payload: seen.append((sequence, payload)))
    assert (again.store.get("oil"), seen) == (b"3", [(1, b"lit")])


@pytest.mark.parametrize("kind", ["store", "journal"])
def test_without_a_file_nothing_durable_is_lent(kind: str) -> None:
    """The error names the setting of the host."""
    desk = Desk(Services())
    with pytest.raises(ServiceUnavailable) as caught:
        LENT[kind](desk.context())
    assert str(caught.value) == (
        f"lamp: this host lends no {kind!r}, for it was given no file to keep things in. "
        'Let the application name one, Host(store="plugins.sqlite3"), or give weighbridge run --store'
    )
    desk.ledgers["lamp"].revoke()


@pytest.mark.parametrize("store", ["", b"/tmp/store", 7, True])
def test_a_store_that_is_no_path_is_refused_at_once(store: Any) -> None:
    """And not by the first plugin that wants to keep something."""
    with pytest.raises(ConfigurationError, match=r"^store makes no sense: "):
        IsolatedHost(store=store)


def test_a_store_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    """A missing folder is an error for whoever asks, with the folder's name; once it is there all is well."""
    desk = Desk(Services(tmp_path / "gone" / "store.sqlite3"))
    context = desk.context()
    with pytest.raises(ConfigurationError, match="gone"):
        _ = context.store
    assert desk.held() == {}
    (tmp_path / "gone").mkdir()
    assert context.store.get("oil") is None
    assert desk.ledgers["lamp"].revoke().revoked == {"log": 1, "store": 1}
    assert desk.services.close() == []


@pytest.mark.parametrize("name", ["..", ".", "../lens/journal", "a/b", "a%2Fb", "%2E.", "Ölstand"])
def test_a_journal_stays_in_the_folder_of_its_plugin(desk: Desk, tmp_path: Path, name: str) -> None:
    """Whatever it is called, and different names are different folders."""
    root = tmp_path / "store.sqlite3.journals" / "lamp"
    desk.context().journal(name).append(b"record")
    (only,) = root.iterdir()
    assert (only / "lock").is_file()
    desk.context().journal("journal")
    assert len(list(root.iterdir())) == 2


@pytest.mark.parametrize("name", ["", None, 7])
def test_a_journal_needs_a_name(desk: Desk, name: Any) -> None:
    """Text, and not an empty one."""
    with pytest.raises(ConfigurationError, match="cannot be called"):
        desk.context().journal(name)


def test_a_forgotten_secret_is_kept_until_the_unload(desk: Desk) -> None:
    """The ledger holds it: locked memory comes back with a release, or with the plugin."""
    context = desk.context()
    handle = context.secret(b"open sesame")
    assert (repr(handle), getattr(handle, "nbytes", None)) == ("<Secret of 11 bytes, held>", 11)
    with handle.view() as view:
        assert bytes(view) == b"open sesame"
    with pytest.raises(TypeError, match="cannot be copied"):
        handle.__reduce_ex__(4)
    del handle
    gc.collect()
    assert desk.services.vault().statistics().secrets == 1
    desk.ledgers["lamp"].revoke()
    assert desk.services.vault().statistics().secrets == 0


def test_settings_of_a_service_reach_it(desk: Desk) -> None:
    """Reserve and queue of a gate, the policy of a subscription, the cap of a journal."""
    context = desk.context()
    gate: Any = context.gate(4, max_waiting=7, reserve=0.5)
    assert (gate.statistics().limit, gate.statistics().max_waiting, gate.statistics().reserved) == (4, 7, 2)
    journal: Any = context.journal(max_bytes=8192, at_cap="block")
    assert (journal.max_bytes, journal.at_cap) == (8192, "block")
    over, entered = threading.Event(), threading.Event()

    def receive(message: object) -> None:
        entered.set()
        over.wait()

    context.bus.subscribe("news", receive, max_pending=1, policy="reject")
    context.bus.publish("news", 1)
    entered.wait()
    context.bus.publish("news", 2)
    with pytest.raises(Saturated):
        context.bus.publish("news", 3)
    over.set()


def test_one_that_cannot_be_closed_does_not_stop_the_others(tmp_path: Path) -> None:
    """A view of a secret that somebody kept is named, and the store is closed all the same."""
    services = Services(tmp_path / "store.sqlite3")
    services.store("lamp")
    secret = services.vault().keep(b"open sesame")
    block = secret.view()
    view = block.__enter__()
    (problem,) = services.close()
    assert str(problem).startswith("closing the secrets went wrong: views of secrets are still there, in 1 mappings")
    assert bytes(view) == bytes(11)
    with pytest.raises(LeaseError, match="wiped while"):
        block.__exit__(None, None, None)
    StoreFile(tmp_path / "store.sqlite3").close()


def test_many_who_ask_at_once_get_the_same(desk: Desk) -> None:
    """Two threads that want the store first open it once."""
    context = desk.context()
    ready = threading.Barrier(8)
    found: list[object] = []

    def ask() -> None:
        ready.wait()
        found.extend([context.store, context.bus, desk.services.vault()])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 3
    assert desk.held() == {"store": 1, "messages": 1}


def test_a_host_that_lends_nothing_imports_nothing_for_it() -> None:
    """Neither importing the package nor making a host with a store brings in what services are made of."""
    program = """
import sys, weighbridge
host = weighbridge.Host(store="never-opened.sqlite3")
heavy = {"sqlite3", "_sqlite3", "mmap", "ctypes.wintypes", "obstore"} & set(sys.modules)
ours = {name for name in sys.modules if name.startswith("weighbridge.leases.")}
host.close()
print(sorted(heavy), sorted(name.rpartition(".")[2] for name in ours))
"""
    command = [sys.executable, "-P", "-c", program]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="ascii").stdout
    assert output == "[] ['capabilities', 'charges', 'checks', 'ledger', 'schedule']\n"
