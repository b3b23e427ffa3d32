"""Handlers of pressure: who is asked, for how much, and for how long."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any, cast

import pytest

from weighbridge_balloon.handlers import Handlers

LOG = logging.getLogger("balloon.test")


class Cache:
    """Somebody who can give."""

    def __init__(self, holds: int) -> None:
        self.holds = holds
        self.asked: list[int] = []

    def give(self, nbytes: int) -> int:
        self.asked.append(nbytes)
        released = min(self.holds, nbytes)
        self.holds -= released
        return released


def ask(handlers: Handlers, nbytes: int) -> list[int | None]:
    return [effort.believed_bytes for effort in handlers.ask(lambda believed: nbytes - believed)]


def test_each_is_asked_for_what_the_others_left() -> None:
    """In the order in which they came, and nobody once it is enough."""
    handlers, caches = Handlers(LOG), [Cache(30), Cache(50), Cache(100), Cache(100)]
    leases = [handlers.register(cache.give) for cache in caches]
    assert ask(handlers, 100) == [30, 50, 20]
    assert [cache.asked for cache in caches] == [[100], [70], [20], []]
    assert len(handlers) == len(leases) == 4


def test_last_one_is_asked_after_all_others() -> None:
    """Also after those who came later than it."""
    order: list[str] = []
    handlers = Handlers(LOG, last=lambda nbytes: order.append("last") or 0)  # type: ignore[func-returns-value]
    lease = handlers.register(lambda nbytes: order.append("first") or 0)  # type: ignore[func-returns-value]
    ask(handlers, 1)
    assert order == ["first", "last"]
    assert lease.handler is not None


def test_released_handler_is_not_asked() -> None:
    """Releasing twice does nothing."""
    handlers, cache = Handlers(LOG), Cache(10)
    lease = handlers.register(cache.give)
    lease.release()
    lease.release()
    assert (ask(handlers, 5), cache.asked, len(handlers)) == ([], [], 0)


def test_handler_goes_with_its_lease() -> None:
    """A plugin that was unloaded without a word takes its handler with it, though that refers back to the plugin."""

    class Plugin:
        def __init__(self, handlers: Handlers) -> None:
            self.lease = handlers.register(self.give)

        def give(self, nbytes: int) -> int:
            return nbytes

    handlers = Handlers(LOG)
    plugin = Plugin(handlers)
    watched = weakref.ref(plugin)
    assert ask(handlers, 5) == [5]
    del plugin
    gc.collect()
    assert watched() is None
    assert ask(handlers, 5) == []


def test_handler_that_raises_is_logged_and_the_next_one_asked(caplog: pytest.LogCaptureFixture) -> None:
    """What it raised is text in the log, and no figure."""

    def broken(nbytes: int) -> int:
        raise RuntimeError("no cache today")

    handlers, cache = Handlers(LOG), Cache(10)
    leases = [handlers.register(broken), handlers.register(cache.give)]
    assert ask(handlers, 5) == [None, 5]
    assert "broken raised RuntimeError: no cache today" in caplog.text
    assert len(leases) == 2


@pytest.mark.parametrize("answer", [None, -5, True, "much", 1.5])
def test_answer_that_makes_no_sense_is_no_figure(answer: Any) -> None:
    """A handler that says nothing sensible believes nothing; the next one is asked for all of it."""
    handlers, cache = Handlers(LOG), Cache(10)
    leases = [handlers.register(lambda nbytes: cast(int, answer)), handlers.register(cache.give)]
    assert ask(handlers, 5) == [None, 5]
    assert cache.asked == [5]
    assert len(leases) == 2


def test_handler_may_register_another() -> None:
    """The table may change while handlers are asked."""
    handlers = Handlers(LOG)
    more: list[object] = []

    def give(nbytes: int) -> int:
        more.append(handlers.register(lambda nbytes: 1))
        return 0

    lease = handlers.register(give)
    assert ask(handlers, 5) == [0]
    assert len(handlers) == 2
    assert lease.handler is give


def test_what_cannot_be_called_is_refused() -> None:
    """At once, and not when memory is short."""
    with pytest.raises(TypeError, match="cannot be called"):
        Handlers(LOG).register(cast(Any, 5))


def test_effort_names_the_handler() -> None:
    """By the module and the function, for a receipt."""
    handlers, cache = Handlers(LOG), Cache(1)
    lease = handlers.register(cache.give)
    (effort,) = handlers.ask(lambda believed: 1 - believed)
    assert effort.handler.endswith("Cache.give")
    assert lease.handler == cache.give
