"""Which modules an import brings in, and what each of them weighs on its own.

A finder at the head of ``sys.meta_path`` sees every module that this thread is about to import. It lets the others find
it and puts a scale around the execution of its code: bytes and seconds, without those of the modules that it imports in
turn. The scale is an attribute of the loader *instance*, so the loader keeps its type, and it is taken off afterwards.

Replacing ``builtins.__import__`` would be simpler, but it slows down every import statement and hides from C code;
an audit hook could never be removed again. The class does not inherit from ``importlib.abc.MetaPathFinder``, which
needs only ``find_spec`` and would bring ``importlib.resources`` with it.
"""

from __future__ import annotations

import importlib._bootstrap as _bootstrap
import operator
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import attrs

from .meters import traced_bytes

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


@attrs.frozen(kw_only=True)
class ModuleWeight:
    """One module that was brought in. The figures are its own, without those of modules that it imported."""

    name: str
    file: str | None
    traced_bytes: int | None
    seconds: float | None


@attrs.define
class _Execution:
    name: str
    bytes_before: int
    seconds_before: float
    bytes_inside: int = 0
    seconds_inside: float = 0.0


def _file(module: object) -> str | None:
    """The file of a module, past any ``__getattr__`` of a lazy one or of whatever a module put in its own place."""
    try:
        file = object.__getattribute__(module, "__dict__").get("__file__")
    except (AttributeError, TypeError):
        return None
    return file if isinstance(file, str) else None


class _Line:
    """The recorders at the head of ``sys.meta_path``: several hosts may load at once.

    Another thread may be going along a list, which therefore stays as it is, and a new one takes its place. But the
    interpreter has a copy of ``sys`` that holds the first list for ever: with the last recorder that one comes back,
    with what was changed meanwhile.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._first: list[Any] = []

    def enter(self, finder: Any) -> None:
        """Put it in front."""
        with self._lock:
            if not self._inside:
                self._first = sys.meta_path
            self._inside += 1
            sys.meta_path = [finder, *sys.meta_path]

    def leave(self, finder: Any) -> None:
        """Take it out, wherever it is."""
        with self._lock:
            self._inside -= 1
            # not list.remove: a finder of somebody else's may have an __eq__ of its own
            finders = [one for one in sys.meta_path if one is not finder]
            if self._inside:
                sys.meta_path = finders
                return
            first, self._first = self._first, []
            if len(finders) != len(first) or any(map(operator.is_not, finders, first)):
                first[:] = finders
            sys.meta_path = first


_line: Final = _Line()


def _under_way() -> set[str]:
    """The modules that other threads are importing at this moment; each has a lock, and its thread owns that.

    https://github.com/python/cpython/blob/3.11/Lib/importlib/_bootstrap.py
    """
    me = threading.get_ident()
    locks = {name: reference() for name, reference in list(getattr(_bootstrap, "_module_locks", {}).items())}
    return {name for name, lock in locks.items() if getattr(lock, "owner", None) not in (None, me)}


class ImportRecorder:
    """A context in which the imports of this thread, and of threads that it starts, are recorded."""

    def __init__(self) -> None:
        self._executions = threading.local()
        self._weights: dict[str, tuple[int, float]] = {}
        self._before: frozenset[str] = frozenset()
        self._known: frozenset[int] = frozenset()
        self._foreign_threads: dict[int | None, threading.Thread] = {}
        self._foreign: set[str] = set()
        self._scaled: list[Any] = []
        self._is_open = False
        self._lock = threading.Lock()

    def __enter__(self) -> ImportRecorder:
        self._foreign_threads = {thread.ident: thread for thread in threading.enumerate()}
        self._foreign_threads.pop(threading.get_ident(), None)
        self._is_open = True
        _line.enter(self)
        # in this order: an import that another thread began before it could meet this finder is under way, or is done
        self._foreign |= _under_way()
        modules = dict(sys.modules)
        self._before = frozenset(modules)
        self._known = frozenset(map(id, modules.values()))
        return self

    def __exit__(self, *exc_info: object) -> None:
        _line.leave(self)
        with self._lock:
            self._is_open = False
            while self._scaled:
                vars(self._scaled.pop()).pop("exec_module", None)

    def brought(self) -> tuple[ModuleWeight, ...]:
        """What is in ``sys.modules`` now, was not at the start, and was not imported by another thread.

        Nor another name for a module that was there: multiprocessing calls the main module ``__mp_main__`` as well.
        """
        return tuple(
            self._weigh(name, module)
            for name, module in list(sys.modules.items())
            if name not in self._before and name not in self._foreign and id(module) not in self._known
        )

    def vanished(self) -> tuple[str, ...]:
        """Which modules were executed and are not in ``sys.modules`` now: their import failed, or they took it out."""
        return tuple(name for name in self._weights if name not in sys.modules)

    def _weigh(self, name: str, module: object) -> ModuleWeight:
        nbytes, seconds = self._weights.get(name, (None, None))
        tracing = traced_bytes() is not None
        return ModuleWeight(
            name=name,
            file=_file(module),
            traced_bytes=nbytes if tracing else None,
            seconds=seconds,
        )

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Let the finders behind this one find the module, and put the scale on its loader."""
        if self._is_foreign():
            self._foreign.add(fullname)
            return None
        for finder in self._behind():
            find = getattr(finder, "find_spec", None)
            if find is None:
                return None
            spec: ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                self._foreign.discard(fullname)  # another thread looked for it in vain
                with self._lock:
                    if self._is_open:
                        self._put_scale_on(spec.loader)
                return spec
        return None

    def _is_foreign(self) -> bool:
        """Whether this thread was there before. Identifiers are given to new threads again, so it has to be alive."""
        thread = self._foreign_threads.get(threading.get_ident())
        return thread is not None and thread.is_alive()

    def _behind(self) -> list[Any]:
        """The finders behind this one; all of them if it was taken out while another thread was asking it."""
        finders = list(sys.meta_path)
        place = next((place for place, finder in enumerate(finders) if finder is self), -1)
        return finders[place + 1 :]

    def _put_scale_on(self, loader: Any) -> None:
        """Loaders without attributes of their own, classes such as FrozenImporter among them, stay as they are."""
        if isinstance(loader, type) or "exec_module" in getattr(loader, "__dict__", {"exec_module": None}):
            return
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return
        try:
            loader.exec_module = lambda module: self._execute(execute, module)
        except (AttributeError, TypeError):
            return
        self._scaled.append(loader)

    def _execute(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        stack = self._stack()
        execution = _Execution(module.__name__, traced_bytes() or 0, time.perf_counter())
        stack.append(execution)
        try:
            execute(module)
        finally:
            stack.pop()
            nbytes = (traced_bytes() or 0) - execution.bytes_before
            seconds = time.perf_counter() - execution.seconds_before
            if stack:
                stack[-1].bytes_inside += nbytes
                stack[-1].seconds_inside += seconds
            self._weights[execution.name] = (nbytes - execution.bytes_inside, seconds - execution.seconds_inside)

    def _stack(self) -> list[_Execution]:
        if not hasattr(self._executions, "stack"):
            self._executions.stack = []
        stack: list[_Execution] = self._executions.stack
        return stack
