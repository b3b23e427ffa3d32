"""What ``logging`` keeps of a plugin: https://docs.python.org/3/library/logging.html."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from ..belongings import Belongings
from ..names import name_of, namespace_of, referents, short
from .interpreter import unhooked
from .tie import Hold, Tie

_lock: Final[Any] = vars(logging)["_lock"]
"""What logging itself takes to change loggers and handlers; its functions for it went with Python 3.13."""


class LogHandlers(Tie):
    """Handlers of the plugin's on loggers, and on handlers that pass records on."""

    name = "logging handler"
    sentence = "a logger keeps a handler of the plugin's; it should be removed with Logger.removeHandler"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each logger and handler; one that passes records on is set to pass them nowhere."""
        for place, logger in _loggers():
            for index, handler in enumerate(list(namespace_of(logger).get("handlers", ()))):
                if handler in belongings:
                    cut = partial(_remove, logger, "handlers", handler)
                    yield Hold(place=f"{place}.handlers[{index}]", held=name_of(handler), cut=cut)
        for place, handler in _handlers():
            target = namespace_of(handler).get("target")  # of a MemoryHandler
            if handler not in belongings and target in belongings:
                yield Hold(place=f"{place}.target", held=name_of(target), cut=partial(_set, handler, "target", None))


class LogFilters(Tie):
    """Filters of the plugin's on loggers and handlers."""

    name = "logging filter"
    sentence = "a logger or a handler keeps a filter of the plugin's; it should be removed with removeFilter"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each logger and handler that is not the plugin's itself."""
        for place, owner in (*_loggers(), *_handlers()):
            if type(owner) is not logging.Logger and owner in belongings:
                continue
            for index, one in enumerate(list(namespace_of(owner).get("filters", ()))):
                if one in belongings:
                    cut = partial(_remove, owner, "filters", one)
                    yield Hold(place=f"{place}.filters[{index}]", held=name_of(one), cut=cut)


class LogFormatters(Tie):
    """A formatter of the plugin's on somebody else's handler."""

    name = "logging formatter"
    sentence = "a handler keeps a formatter that the plugin set; it should be set back with Handler.setFormatter"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each handler; it has no formatter then, which is logging's default."""
        for place, handler in _handlers():
            formatter = namespace_of(handler).get("formatter")
            if handler not in belongings and formatter in belongings:
                cut = partial(_set, handler, "formatter", None)
                yield Hold(place=f"{place}.formatter", held=name_of(formatter), cut=cut)
        default = vars(logging).get("_defaultFormatter")
        if default in belongings:
            cut = partial(_set, logging, "_defaultFormatter", logging.Formatter())
            yield Hold(place="logging._defaultFormatter", held=name_of(default), cut=cut)


class Loggers(Tie):
    """Loggers that are called as the plugin's modules are, or whose class is the plugin's."""

    name = "logger"
    sentence = "logging never forgets a logger: getLogger(__name__) keeps an object for each module"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Loggers of its names that nobody else refers to and nobody has configured go; others get logging's class."""
        manager = logging.Logger.manager
        mine = _unheld(manager, belongings)
        for name in mine:
            yield Hold(place=_at(name), held="logger", cut=partial(_forget, manager, name))
        for place, logger in _loggers():
            if type(logger) in belongings and place not in map(_at, mine):
                cut = partial(object.__setattr__, logger, "__class__", _base(type(logger), belongings))
                yield Hold(place=f"{place}.__class__", held=name_of(type(logger)), cut=cut)


class LoggerClasses(Tie):
    """``logging.setLoggerClass`` with a class of the plugin's."""

    name = "logger class"
    sentence = "the plugin set the class of all new loggers; it should set the previous one again"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Set back to the class that the plugin's one extends."""
        for place, owner, slot in (
            ("logging._loggerClass", logging, "_loggerClass"),
            ("logging.Logger.manager.loggerClass", logging.Logger.manager, "loggerClass"),
        ):
            cls = namespace_of(owner).get(slot)
            if cls is not None and cls in belongings:
                yield Hold(place=place, held=name_of(cls), cut=partial(_set, owner, slot, _base(cls, belongings)))


class RecordFactories(Tie):
    """``logging.setLogRecordFactory`` with a function or a class of the plugin's."""

    name = "log record factory"
    sentence = "the plugin set the factory of all log records; it should set the previous one again"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Set back to the factory that the plugin's one wraps, or to ``LogRecord``."""
        manager = logging.Logger.manager
        for place, owner, slot, default in (
            ("logging._logRecordFactory", logging, "_logRecordFactory", logging.LogRecord),
            ("logging.Logger.manager.logRecordFactory", manager, "logRecordFactory", None),
        ):
            factory = namespace_of(owner).get(slot)
            if factory is not default:
                yield from unhooked(place, factory, default, partial(_set, owner, slot), belongings)


class LastResorts(Tie):
    """``logging.lastResort``, the handler of records that no other handler took."""

    name = "logging last resort"
    sentence = "the plugin replaced logging.lastResort; it should put the previous handler back"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Set back to logging's own."""
        if logging.lastResort in belongings:
            cut = partial(_set, logging, "lastResort", vars(logging).get("_defaultLastResort"))
            yield Hold(place="logging.lastResort", held=name_of(logging.lastResort), cut=cut)


def _at(name: str) -> str:
    return f"logging.Logger.manager.loggerDict[{short(name)}]"


def _loggers() -> list[tuple[str, Any]]:
    with _lock:
        named = list(logging.Logger.manager.loggerDict.items())
    loggers = [(_at(name), one) for name, one in named if type(one) is not logging.PlaceHolder]
    return [("logging.root", logging.root), *loggers]


def _handlers() -> list[tuple[str, Any]]:
    """Every handler that is alive, by the names that a person would reach it by."""
    with _lock:
        references = list(vars(logging).get("_handlerList", ()))
    live = [reference() for reference in references if type(reference).__name__ in _REFERENCES]
    return [(f"<{name_of(one)}>", one) for one in live if one is not None]


_REFERENCES: Final = frozenset({"ReferenceType", "weakref"})


def _remove(owner: Any, slot: str, thing: object) -> None:
    """From a list of a logger or a handler, by identity: to compare could run foreign code."""
    with _lock:
        kept = namespace_of(owner)[slot]
        kept[:] = [one for one in kept if one is not thing]


def _set(owner: Any, slot: str, value: object) -> None:
    with _lock:
        namespace_of(owner)[slot] = value


def _is_own_name(name: str, belongings: Belongings) -> bool:
    """Whether the module with the longest name that `name` begins with is the plugin's."""
    while name:
        if name in belongings.names:
            return True
        if name in sys.modules:
            return False
        name = name.rpartition(".")[0]
    return False


def _base(cls: Any, belongings: Belongings) -> type:
    """The nearest class that `cls` extends and that is not the plugin's."""
    bases = type.__dict__["__mro__"].__get__(cls) if issubclass(type(cls), type) else ()
    return next((one for one in bases if one not in belongings), logging.Logger)


def _is_plain(logger: Any, belongings: Belongings) -> bool:
    """Whether nothing of the application's would be lost: neither a level nor a handler nor a filter.

    Libraries give their own logger a handler that does nothing, anew in every round of load and unload:
    https://docs.python.org/3/howto/logging.html#configuring-logging-for-a-library.
    """
    own = namespace_of(logger)
    handlers = [one for one in own.get("handlers", ()) if type(one) is not logging.NullHandler]  # drops what it gets
    kept = (*handlers, *own.get("filters", ()))
    return (
        (type(logger) is logging.Logger or type(logger) in belongings)
        and own.get("level") == logging.NOTSET
        and own.get("propagate") is True
        and not own.get("disabled")
        and all(one in belongings for one in kept)
    )


def _unheld(manager: logging.Manager, belongings: Belongings) -> list[str]:
    """Names of the plugin's loggers that nothing refers to but logging and the plugin.

    No generator: the collector sees the local variables of one, and they would be among those that refer to a logger.
    """
    with _lock:
        entries = list(manager.loggerDict.items())
    mine = {
        id(logger): name
        for name, logger in entries
        if type(logger) is not logging.PlaceHolder and _is_own_name(name, belongings) and _is_plain(logger, belongings)
    }
    if not mine:
        return []
    arguments = tuple([logger for _, logger in entries if id(logger) in mine])
    known = {id(arguments), id(entries), id(manager.loggerDict), *belongings.spaces, *map(id, entries)}
    for _, entry in entries:
        # the attributes of a logger, `parent` among them, and the children of a placeholder
        known |= {id(entry), id(namespace_of(entry)), id(namespace_of(entry).get("loggerMap"))}
    for holder in gc.get_referrers(*arguments):
        if id(holder) not in known and holder not in belongings:
            for held in referents(holder):
                mine.pop(id(held), None)
    return list(mine.values())


def _forget(manager: logging.Manager, name: str) -> None:
    """Take a logger out of the tree, its children handed on, as if it had never been asked for.

    https://github.com/python/cpython/blob/3.13/Lib/logging/__init__.py, ``Manager._fixupParents``.
    """
    with _lock:
        gone: Any = manager.loggerDict.pop(name, None)
        if gone is None or type(gone) is logging.PlaceHolder:
            return
        above = namespace_of(gone).get("parent")
        children = [one for one in manager.loggerDict.values() if namespace_of(one).get("parent") is gone]
        for child in children:
            namespace_of(child)["parent"] = above
        if children:
            manager.loggerDict[name] = _placeholder(children)
        _tidy(manager, name, gone, children)
        vars(logging.Manager)["_clear_cache"](manager)


def _placeholder(children: list[Any]) -> logging.PlaceHolder:
    place = logging.PlaceHolder(children[0])
    for child in children[1:]:
        place.append(child)
    return place


def _tidy(manager: logging.Manager, name: str, gone: logging.Logger, children: list[Any]) -> None:
    """Tell the placeholders above, as far as the next logger."""
    while "." in name:
        name = name.rpartition(".")[0]
        place = manager.loggerDict.get(name)
        if type(place) is not logging.PlaceHolder:
            return
        place.loggerMap.pop(gone, None)
        for child in children:
            place.append(child)
        if not place.loggerMap:
            del manager.loggerDict[name]
