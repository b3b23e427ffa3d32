"""Which modules an import brings in, and what each of them weighs on its own.

A finder at the head of ``sys.meta_path`` sees every module that this thread is about to import. It lets the others find
it and puts a scale around the execution of its code: bytes and seconds, without those of the modules that it imports in
turn. The scale is an attribute of the loader *instance*, so the loader keeps its type, and it is taken off afterwards.

Replacing ``builtins.__import__`` would be simpler, but it slows down every import statement and hides from C code;
an audit hook could never be removed again.

The host imports modules of its own when a plugin first uses a service. Those are not the plugin's, and neither is what
they bring of the standard library: they are weighed on a scale of their own, the recorder's `host_bytes`.

The class does not inherit from ``importlib.abc.MetaPathFinder``, which needs only ``find_spec`` and would bring
``importlib.resources`` with it.
"""

from __future__ import annotations

import gc
import importlib._bootstrap as _bootstrap
import operator
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, Final

import attrs

from .attribution import run_untagged
from .meters import traced_bytes
from .ownership import is_hosts, top_level

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_IMPORT_SYSTEM: Final = "<frozen importlib"
"""File names of its frames begin so."""


@attrs.frozen(kw_only=True)
class ModuleWeight:
    """One module that was brought in. The figures are its own, without those of modules that it imported."""

    name: str
    file: str | None
    traced_bytes: int | None
    seconds: float | None
    by_host: bool = False
    """Of the standard library, and imported by the host for itself."""


@attrs.frozen
class _Load:
    """What is on the scales at one moment, or between two."""

    nbytes: int = 0
    blocks: int = 0
    seconds: float = 0.0

    @classmethod
    def now(cls) -> _Load:
        return cls(traced_bytes() or 0, sys.getallocatedblocks(), time.perf_counter())

    def __add__(self, other: _Load) -> _Load:
        return _Load(self.nbytes + other.nbytes, self.blocks + other.blocks, self.seconds + other.seconds)

    def __sub__(self, other: _Load) -> _Load:
        return _Load(self.nbytes - other.nbytes, self.blocks - other.blocks, self.seconds - other.seconds)


@attrs.define
class _Execution:
    name: str
    by_host: bool
    before: _Load
    inside: _Load = _Load()
    """Of modules that it imported, all in all."""
    hosts: _Load = _Load()
    """Of the host, itself and inside."""
    is_done: bool = False


class _Scales(threading.local):
    """What one thread is importing."""

    def __init__(self) -> None:
        self.stack: list[_Execution] = []
        self.found: tuple[str, _Load] | None = None
        """A module that the host is looking for, and what was on the scales before."""

    @property
    def is_hosts(self) -> bool:
        """Whether the code that runs is of a module that the host imports for itself."""
        return bool(self.stack) and self.stack[-1].by_host


@contextmanager
def _garbage_apart() -> Iterator[_Load]:
    """Have what becomes garbage inside gone at the end, and none of before with it; gives what had to go first.

    The collection before is not only for garbage: it empties the lists of free objects, which the one after does, too.
    """
    before = _Load.now()
    gc.collect()
    try:
        yield _Load.now() - before
    finally:
        gc.collect()


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
        self._scales = _Scales()
        self._weights: dict[str, _Load] = {}
        self._by_host: set[str] = set()
        self._hosts: list[_Load] = []
        self._before: frozenset[str] = frozenset()
        self._known: frozenset[int] = frozenset()
        self._foreign_threads: dict[int | None, threading.Thread] = {}
        self._foreign: set[str] = set()
        self._scaled: list[Any] = []
        self._is_open = self._was_traced = False
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
            self._was_traced = traced_bytes() is not None
            while self._scaled:
                vars(self._scaled.pop()).pop("exec_module", None)

    def brought(self) -> tuple[ModuleWeight, ...]:
        """What is in ``sys.modules`` now, was not at the start, and was not imported by another thread.

        Nor modules of the host, nor another name for a module that was there: multiprocessing calls the main module
        ``__mp_main__`` as well.
        """
        return tuple(
            self._weigh(name, module)
            for name, module in list(sys.modules.items())
            if name not in self._before
            and name not in self._foreign
            and id(module) not in self._known
            and not is_hosts(name)
        )

    def vanished(self) -> tuple[str, ...]:
        """Which modules were executed and are not in ``sys.modules`` now: their import failed, or they took it out."""
        return tuple(name for name in self._weights if name not in sys.modules)

    @property
    def host_bytes(self) -> int:
        """Traced bytes of modules of the host, and of those of the standard library that it imported for itself."""
        return sum(load.nbytes for load in self._hosts)

    @property
    def host_blocks(self) -> int:
        """Allocated blocks of the same modules."""
        return sum(load.blocks for load in self._hosts)

    def _weigh(self, name: str, module: object) -> ModuleWeight:
        weight = self._weights.get(name)
        tracing = traced_bytes() is not None if self._is_open else self._was_traced
        return ModuleWeight(
            name=name,
            file=_file(module),
            traced_bytes=weight.nbytes if weight is not None and tracing else None,
            seconds=weight.seconds if weight is not None else None,
            by_host=name in self._by_host,
        )

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Let the finders behind this one find the module, and put the scale on its loader."""
        if self._is_foreign():
            self._foreign.add(fullname)
            return None
        self._tell_whose(fullname)
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

    def _tell_whose(self, name: str) -> None:
        """Note whether it is the host that imports a module for itself, and begin to weigh the first one of those."""
        inside = self._scales.is_hosts
        if is_hosts(name) or (top_level(name) in sys.stdlib_module_names and (inside or is_hosts(_importer()))):
            self._by_host.add(name)
            if not inside:
                self._scales.found = (name, _Load.now())
        else:
            self._by_host.discard(name)

    def _execute(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        inside = self._scales.is_hosts
        execution = self._begin(module.__name__)
        try:
            if execution.by_host and not inside:
                with _garbage_apart() as gone:
                    execution.before += gone
                    run_untagged(lambda: execute(module))
            else:
                execute(module)
            execution.is_done = True
        finally:
            self._end(execution)

    def _begin(self, name: str) -> _Execution:
        """Put a module on the scales; one that the host imports, as of when it was looked for."""
        scales = self._scales
        found, scales.found = scales.found, None
        before = found[1] if found is not None and found[0] == name else _Load.now()
        scales.stack.append(_Execution(name, name in self._by_host, before))
        return scales.stack[-1]

    def _end(self, execution: _Execution) -> None:
        stack = self._scales.stack
        stack.pop()
        load = _Load.now() - execution.before
        own = load - execution.inside
        if execution.by_host and execution.is_done:  # what failed will be garbage
            execution.hosts += own
        if stack:
            stack[-1].inside += load
            stack[-1].hosts += execution.hosts
        elif execution.hosts.blocks:
            self._hosts.append(execution.hosts)
        if not is_hosts(execution.name):
            self._weights[execution.name] = own


def _importer() -> str:
    """The name of the module whose code imports something in this thread, past the import system and recorders."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and (frame.f_globals is globals() or frame.f_code.co_filename.startswith(_IMPORT_SYSTEM)):
        frame = frame.f_back
    name = frame.f_globals.get("__name__") if frame is not None else None
    return name if type(name) is str else ""
