"""Unloading: every step in its order, a failing one never stopping the next, and a receipt at the end."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, Final

import attrs
from weighbridge_hookspecs import UnloadRefused, UnloadTimeout

from ..accounting.meters import read, traced_bytes
from ..accounting.modules import Departure, ModuleBooks
from ..accounting.process import ProcessMemory, trim
from ..hooks import Hooks
from ..leases.schedule import Scheduler
from ..reclaim.drain import Drain
from ..reclaim.drop import drop_modules
from ..reclaim.receipt import Receipt, Step, Survivor
from ..reclaim.threads import stack, stop_threads, stray_threads
from ..reclaim.watch import Watched, namespaces, survivors, watch, watch_code
from .plugin import Plugin
from .states import State
from .words import in_words


@attrs.define
class _Course:
    """How an unload is going."""

    steps: list[Step] = attrs.field(factory=list)
    revoked: Mapping[str, int] = attrs.field(factory=dict)
    watched: list[Watched] = attrs.field(factory=list)
    watch_bytes: int = 0
    """What the list of what is watched weighs: the meter must not measure itself."""
    watch_blocks: int = 0
    finalizers: bool = False
    """Whether a class of the plugin's has a ``__del__``."""
    departure: Departure = attrs.field(factory=lambda: Departure((), {}))
    survivors: list[Survivor] = attrs.field(factory=list)
    interrupted: bool = False

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """One step; what goes wrong in it is appended to the list, or raised and written down."""
        failures: list[str] = []
        began = time.perf_counter()
        try:
            yield failures
        except (Exception, SystemExit) as error:
            failures.append(in_words(error))
        except BaseException as error:
            # half an unload is worse than a late Ctrl-C: it is raised again when all is done
            failures.append(f"interrupted by {type(error).__name__}")
            self.interrupted = True
        self.steps.append(Step(name=name, seconds=time.perf_counter() - began, failures=tuple(failures)))

    def has_failed(self, *names: str) -> bool:
        """Whether something went wrong in one of the steps called `names`."""
        return any(step.failures for step in self.steps if step.name in names)

    @property
    def had_to_go(self) -> int:
        """How many things had to go, those among them that nobody even tried to drop."""
        return len(self.watched) + len(self.departure.compiled) + len(self.departure.declared) + self.has_failed("drop")

    @property
    def failures(self) -> tuple[str, ...]:
        """Of all steps, each with the name of its step."""
        return tuple(f"{step.name}: {failure}" for step in self.steps for failure in step.failures)


@attrs.define
class Unloader:
    """Sees plugins out."""

    hooks: Hooks
    books: ModuleBooks
    memory: ProcessMemory
    scheduler: Scheduler
    moved: Callable[[Plugin, State, str], None]
    neighbours: Callable[[Plugin], list[str]]
    """Modules that the entry points of other loaded plugins of the same package name."""
    explain_seconds: float
    stop_seconds: float

    def unload(
        self,
        plugin: Plugin,
        *,
        reason: str,
        dependencies: bool,
        drain_seconds: float,
        also_unloaded: tuple[Receipt, ...] = (),
    ) -> Receipt:
        """Unload one active plugin.

        :raises UnloadRefused: if the call came from inside the plugin; nothing has changed then.
        :raises UnloadTimeout: if somebody was still inside at the deadline; the plugin is active again then.
        """
        course, held_bytes = _Course(), plugin.held_bytes
        comparable = plugin.traced_since_load and traced_bytes() is not None
        if comparable:
            gc.collect()  # garbage that the next collection would take anyway was not reclaimed by the unload
        before, resident_before = read(), self.memory.resident_bytes()
        spaces = self._spaces(plugin)
        began = time.perf_counter()
        deactivate = self._drain(plugin, spaces, reason, drain_seconds)
        course.steps.append(Step(name="drain", seconds=time.perf_counter() - began))
        with course.step("deactivate"):
            if deactivate is not None:
                deactivate()
        del deactivate
        with course.step("revoke") as failures:
            revocation = plugin.leases.revoke()
            course.revoked = revocation.revoked
            failures.extend(revocation.failures)
        with course.step("threads"):
            course.watched.extend(self._stop_strays(spaces))
        expected = self._drop(plugin, course, dependencies=dependencies)
        with course.step("collect"):
            gc.collect()
            if survivors(course.watched):
                gc.collect()  # finalizers of the first collection may have freed the rest
        trim()
        after, resident_after = read(), self.memory.resident_bytes()
        with course.step("verify"):
            course.survivors = self._verify(plugin, course)
        state = State.STRANDED if course.survivors else State.UNLOADED
        traced_before = before.traced_bytes if comparable else None
        traced_after = None if traced_before is None else (after.traced_bytes or 0) - course.watch_bytes
        reclaimed = None if traced_before is None or traced_after is None else traced_before - traced_after
        self._settle(plugin, course, state, held_bytes if expected is None else max(0, expected - (reclaimed or 0)))
        if course.interrupted:
            raise KeyboardInterrupt(f"while unloading {plugin.name}, which is {state}")
        return Receipt(
            plugin=plugin.name,
            distribution=plugin.candidate.distribution,
            version=plugin.candidate.version,
            state="stranded" if course.survivors else "unloaded",
            reason=reason,
            held_bytes=held_bytes,
            traced_before_bytes=traced_before,
            traced_after_bytes=traced_after,
            resident_before_bytes=resident_before,
            resident_after_bytes=resident_after,
            objects_before=before.blocks,
            objects_after=after.blocks - course.watch_blocks,
            reclaimed_bytes=reclaimed,
            reclaimed_share=reclaimed / expected if reclaimed is not None and expected else None,
            modules_dropped=len(course.departure.dropped),
            modules_kept=tuple(f"{name} ({why})" for name, why in sorted(course.departure.kept.items())),
            leases_revoked=course.revoked,
            watched=course.had_to_go,
            survivors=tuple(course.survivors),
            failures=course.failures,
            steps=tuple(course.steps),
            also_unloaded=also_unloaded,
        )

    def refuse_from_inside(self, plugin: Plugin) -> None:
        """See to it that the caller is not the plugin itself; nothing has changed yet.

        :raises UnloadRefused: if the call came from inside the plugin, or from a thread that it began.
        """
        spaces = self._spaces(plugin)
        drain = Drain(spaces, self.hooks.callers_of(plugin.name), leased=())
        # for a thread that the plugin began the drain does not wait, but it cannot unload itself either
        began_here = any(id(step.f_globals) in spaces for step in stack(sys._getframe()))
        if not began_here and not drain.is_inside(threading.get_ident()):
            return
        raise UnloadRefused(
            "cannot be unloaded from inside one of its own calls",
            plugin=plugin.name,
            step="drain",
            advice="Unload it from another thread, or after the call has returned",
        )

    def _spaces(self, plugin: Plugin) -> frozenset[int]:
        """Namespaces of the plugin's own modules; in a package with several plugins, those that are its alone."""
        own = (weight.name for weight, kind, _ in self.books.of(plugin.name) if kind == "own")
        neighbours = self.neighbours(plugin)
        return namespaces(name for name in own if not neighbours or _is_alone(plugin.module, name, neighbours))

    def _drain(
        self, plugin: Plugin, spaces: frozenset[int], reason: str, seconds: float
    ) -> Callable[[], object] | None:
        """Let no new call in, and wait until nobody is inside; what is left to call is its deactivation."""
        callers = self.hooks.callers_of(plugin.name)
        deactivate = self.hooks.bound(plugin.name, "weighbridge_deactivate", reason=reason)
        try:
            self.moved(plugin, State.DRAINING, reason)
            self.hooks.unregister(plugin.name)
            leased = self.scheduler.thread_idents()
            is_calling = partial(self.hooks.is_calling, plugin.name)
            inside = Drain(spaces, callers, leased, is_calling=is_calling).wait(seconds)
        except BaseException as error:  # Ctrl-C while waiting
            del deactivate  # the traceback, which somebody may keep, would hold the plugin
            self._reinstate(plugin, f"interrupted by {type(error).__name__}")
            raise
        if not inside:
            return deactivate
        del deactivate
        self._reinstate(plugin, "calls were under way")
        raise UnloadTimeout(
            f"{len(inside)} still inside after {seconds:g} s: {'; '.join(inside)}. It is active again",
            plugin=plugin.name,
            inside=tuple(inside),
            advice="Unload it when they have returned, or give drain_seconds more",
        )

    def _reinstate(self, plugin: Plugin, reason: str) -> None:
        try:
            if not plugin.opaque:
                self.hooks.unregister(plugin.name)
                self.hooks.register(plugin.name, plugin.thing)
        finally:
            self.moved(plugin, State.ACTIVE, f"not unloaded: {reason}")

    def _stop_strays(self, spaces: frozenset[int]) -> list[Watched]:
        """Stop the threads that the plugin started past its host; all of them have to die."""
        strays = stray_threads(spaces, leased={threading.get_ident()})
        stop_threads(strays, seconds=self.stop_seconds)
        return [Watched("thread", thread.name, weakref.ref(thread)) for thread in strays]

    def _drop(self, plugin: Plugin, course: _Course, *, dependencies: bool) -> int | None:
        """Let go of the plugin and its modules; the traced bytes that have to come back, None if not known."""
        expected = None
        with course.step("drop"):
            brought = plugin.weighing.traced_bytes if plugin.weighing else None
            try:
                course.departure = self.books.leave(plugin.name, dependencies=dependencies, drop=plugin.is_unloadable)
                self._watch(plugin, course)
            finally:
                plugin.thing = plugin.scalable = None
                drop_modules(course.departure.dropped)
            expected = None if brought is None else max(0, brought - course.departure.excused_bytes)
        return expected

    def _watch(self, plugin: Plugin, course: _Course) -> None:
        empty = read()
        watched = [*watch_code(course.departure.dropped), *_watch_thing(plugin, course.departure), *plugin.tracked]
        # classes are found by name, so those that an earlier generation left behind are among them: they are known
        known = {id(one.reference) for one in plugin.stranded}
        course.watched += [one for one in watched if id(one.reference) not in known]
        course.finalizers = any(one.kind == "class" and _has_finalizer(one.reference()) for one in watched)
        full = read()
        course.watch_bytes = (full.traced_bytes or 0) - (empty.traced_bytes or 0)
        course.watch_blocks = full.blocks - empty.blocks

    def _verify(self, plugin: Plugin, course: _Course) -> list[Survivor]:
        if course.finalizers:
            # one that brings its object back does so when the weak references are cleared: the classes tell
            # https://docs.python.org/3/library/weakref.html#weakref.ref
            known = {id(one.reference) for one in (*course.watched, *plugin.stranded)}
            course.watched += [one for one in watch_code(course.departure.dropped) if id(one.reference) not in known]
        alive = survivors(course.watched)
        compiled = [Survivor(kind="module", name=name, tie=_COMPILED, chain=()) for name in course.departure.compiled]
        declared = [Survivor(kind="module", name=name, tie=_DECLARED, chain=()) for name in course.departure.declared]
        unknown = (
            [Survivor(kind="module", name=plugin.own, tie=_UNKNOWN, chain=())] if course.has_failed("drop") else []
        )
        return [*unknown, *declared, *compiled, *self._explained(alive)]

    def _explained(self, alive: list[Watched]) -> list[Survivor]:
        if not alive:
            return []
        from ..reclaim.chains import Chain, explain  # brings objgraph, which a host that is never asked need not carry

        things = [one.reference() for one in alive]
        try:
            chains = explain(things, seconds=self.explain_seconds)
        except Exception as error:  # the search looks at everything there is, strangers' objects among it
            chains = [Chain((), f"not known: the search raised {in_words(error)}")] * len(alive)
        del things
        return [
            Survivor(
                kind=one.kind, name=one.name, tie=_ENDLESS if one.kind == "thread" else chain.tie, chain=chain.steps
            )
            for one, chain in zip(alive, chains, strict=True)
        ]

    def _settle(self, plugin: Plugin, course: _Course, state: State, left_bytes: int) -> None:
        older = survivors(plugin.stranded)
        newer = survivors(course.watched)
        plugin.stranded_bytes = plugin.stranded_bytes if older or plugin.permanent else 0
        plugin.stranded_bytes += left_bytes if state is State.STRANDED else 0
        plugin.stranded = [*older, *newer]
        permanent = [*course.departure.compiled, *course.departure.declared]
        permanent += [plugin.own] if course.has_failed("drop") else []
        plugin.permanent = tuple(dict.fromkeys([*plugin.permanent, *permanent]))
        count = len(course.survivors)
        reason = f"{count} of {course.had_to_go} outlived it" if count else plugin.reason
        if state is State.UNLOADED and plugin.is_left_behind:
            state, reason = State.STRANDED, "this generation is gone, an earlier one is not"
        self.moved(plugin, state, reason)


_DECLARED: Final = "its manifest says that it cannot be unloaded before the process ends"
_ENDLESS: Final = "a thread that does not end"
_UNKNOWN: Final = "not known: its modules could not be let go of, see the failures"
_COMPILED: Final = "a package with compiled modules, which cannot be loaded twice, so it stays"


def _is_alone(module: str, name: str, neighbours: list[str]) -> bool:
    """Whether the module `name` is closer to `module`, which an entry point names, than to its neighbours."""
    closest = max((one for one in neighbours if _is_below(name, one)), key=len, default="")
    return _is_below(name, module) and len(module) > len(closest)


def _is_below(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def _has_finalizer(cls: Any) -> bool:
    return "__del__" in type.__getattribute__(cls, "__dict__")


def _watch_thing(plugin: Plugin, departure: Departure) -> list[Watched]:
    """The plugin object. Code is watched with its module; an object of a module that stays has no need to die."""
    if isinstance(plugin.thing, ModuleType | FunctionType | type):
        return []
    if plugin.opaque and plugin.module not in departure.dropped:
        return []
    try:
        return [watch("plugin", plugin.thing)]
    except TypeError:
        return []  # no weak references: its class is watched
