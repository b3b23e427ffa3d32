"""Two plugins that use the same registries of the interpreter, and a library that both use; one of them leaves."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any, Final

import pytest
from weighbridge_hookspecs import hookspec

from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

THREADS: Final = 8
LIBRARY: Final = """
import abc, functools

class Cargo(abc.ABC):
    @abc.abstractmethod
    def weigh(self): ...

@functools.lru_cache(maxsize=None)
def tariff(kind):
    return f"{kind.__module__}.{kind.__qualname__}"

@functools.lru_cache
def label(kind):
    return kind.__qualname__

@functools.singledispatch
def describe(thing):
    return "something"
"""
PLUGIN: Final = """
import logging, re, typing, warnings
from weighbridge_hookspecs import hookimpl
import tollhouse

class Handler(logging.Handler):
    def __init__(self, lines):
        super().__init__()
        self.lines = lines
    def emit(self, record):
        self.lines.append(record.getMessage())

class Dust(UserWarning):
    pass

class Coal(tollhouse.Cargo):
    def weigh(self):
        return 7

class Box:
    pass

tollhouse.Cargo.register(Box)

@tollhouse.describe.register(Coal)
def _(thing):
    return f"coal of {__name__}"

warnings.filterwarnings("error", category=Dust)
ledger = logging.getLogger("tollhouse.ledger")

class Plugin:
    def __init__(self, context):
        self.context = context
        self.lines = []
        self.handler = Handler(self.lines)
        ledger.addHandler(self.handler)

    @hookimpl
    def toll(self, goods):
        try:
            warnings.warn("dusty", Dust)
        except Dust as warning:
            raised = type(warning).__name__
        self.lines.clear()
        self.handler.handle(logging.makeLogRecord({"msg": goods}))
        return (
            self.context.name, tollhouse.tariff(Coal), tollhouse.label(Coal), tollhouse.describe(Coal()),
            isinstance(Box(), tollhouse.Cargo), isinstance(Coal(), tollhouse.Cargo), raised,
            re.fullmatch("(t)ea[%d]?" % len(self.context.name), goods).group(1),
            str(typing.Optional[Coal]), self.handler in ledger.handlers,
        )
"""


class Toll:
    """The application's hook."""

    @hookspec
    def toll(self, goods: str) -> Any:
        raise NotImplementedError


@pytest.fixture
def tollhouse(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The library that both plugins use."""
    module = ModuleType("tollhouse")
    exec(LIBRARY, vars(module))
    monkeypatch.setitem(sys.modules, "tollhouse", module)
    return module


def toll(host: IsolatedHost) -> dict[str, Any]:
    return {answer[0]: answer for answer in host.hook.toll(goods="tea")}


def test_whoever_stays_behaves_as_before_byte_for_byte(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, tollhouse: ModuleType
) -> None:
    """Eight threads call the one that stays without a pause while the other one is loaded and unloaded."""
    host = weighbridge_host
    host.add_hookspecs(Toll)
    temporary_plugin("stayer", PLUGIN)
    temporary_plugin("leaver", PLUGIN)
    host.load("stayer")
    before = toll(host)["stayer"]
    wrong: list[Any] = []
    calls = [0] * THREADS
    ended = threading.Event()

    def call(number: int) -> None:
        while not ended.is_set():
            try:
                answer = host.hook.toll(goods="tea")
                mine = [one for one in answer if one[0] == "stayer"]
            except Exception as error:
                wrong.append(repr(error))
                return
            calls[number] += 1
            if mine != [before]:
                wrong.append(mine)
            ended.wait(0.001)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            host.load("leaver")
            assert toll(host).keys() == {"stayer", "leaver"}
            receipt = host.unload("leaver", deadline_seconds=30.0)
            assert (receipt.state, receipt.survivors, receipt.failures) == ("unloaded", (), ())
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(calls) > 0
    assert toll(host) == {"stayer": before}
    assert {"lru_cache", "singledispatch", "logging handler", "warnings filter"} <= {one.tie for one in receipt.ties}
