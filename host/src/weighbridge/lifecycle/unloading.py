"""Unloading: every step in its order, a failing one never stopping the next, and a receipt at the end."""

from __future__ import annotations

import importlib
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, Final

import attrs
from weighbridge_hookspecs import UnloadRefused, UnloadTimeout

from ..accounting.libraries import homes, mapped
from ..accounting.modules import Departure, ModuleBooks
from ..accounting.process import ProcessMemory, can_trim, trim
from ..hooks import Hooks
from ..reclaim.belongings import Belongings
from ..reclaim.collection import collect
from ..reclaim.drain import Drain
from ..reclaim.drop import drop_modules
from ..reclaim.explain import explained
from ..reclaim.names import namespace_of
from ..reclaim.receipt import Receipt, Survivor
from ..reclaim.threads import stack, stop_threads, stray_threads
from ..reclaim.watch import Watched, namespaces, survivors, watch
from .course import Course, Wish
from .plugin import Plugin
from .scales import Scales
from .services import Services
from .states import State


@attrs.define
class Unloader:
    """Sees plugins out."""

    hooks: Hooks
    books: ModuleBooks
    memory: ProcessMemory
    services: Services
    moved: Callable[[Plugin, State, str], None]
    neighbours: Callable[[Plugin], list[str]]
    """Modules that the entry points of other loaded plugins of the same package name."""
    explain_seconds: float
    stop_seconds: float

    def unload(self, plugin: Plugin, wish: Wish, also_unloaded: tuple[Receipt, ...] = ()) -> Receipt:
        """Unload one active plugin. :meth:`ask` whether it may be, first.

        :raises UnloadTimeout: if somebody was still inside at the deadline; the plugin is active again then.
        """
        with suppress(MemoryError):  # what is leased goes back first then, and it is imported when it is needed
            importlib.import_module(_TIES, __package__)
            can_trim()
        course, scales = Course(wish), Scales(self.memory, plugin)
        spaces = self._spaces(plugin)
        deactivate = self._drain(plugin, spaces, course)
        with course.step("deactivate"):
            if deactivate is not None:
                deactivate()
        del deactivate
        with course.step("revoke") as failures:
            revocation = plugin.leases.revoke()
            course.revoked = revocation.revoked
            failures.extend(revocation.failures)
        with course.step("threads"):
            course.watched.extend(self._stop_strays(spaces, course))
        with course.step("unregister"):
            course.departure = self.books.leave(plugin.name, dependencies=wish.dependencies, drop=plugin.is_unloadable)
            course.homes = homes(course.departure.left)
        with course.step("cut"):
            self._cut(plugin, course)
        with course.step("drop"):
            plugin.thing = plugin.scalable = None
            drop_modules(course.departure.dropped)
        with course.step("collect"):
            self._collect(plugin, course)
        trim()
        scales.weigh_again(course)
        with course.step("verify"):
            course.survivors = self._verify(plugin, course)
            course.libraries = mapped(course.homes)
        receipt = _receipt(plugin, course, scales, also_unloaded)
        self._settle(plugin, course, scales)
        if course.interrupted:
            raise KeyboardInterrupt(f"while unloading {plugin.name}, which is {plugin.state}")
        return receipt

    def ask(self, plugin: Plugin, wish: Wish) -> None:
        """See to it that it may be unloaded; nothing has changed yet.

        :raises UnloadRefused: if the call came from inside the plugin, or from a thread that it began; or by a veto.
        """
        spaces = self._spaces(plugin)
        drain = Drain(spaces, self.hooks.callers_of(plugin.name), leased=())
        # for a thread that the plugin began the drain does not wait, but it cannot unload itself either
        began_here = any(id(step.f_globals) in spaces for step in stack(sys._getframe()))
        if began_here or drain.is_inside(threading.get_ident()):
            raise UnloadRefused(
                "cannot be unloaded from inside one of its own calls",
                plugin=plugin.name,
                step="drain",
                advice="Unload it from another thread, or after the call has returned",
            )
        for policy, objection in self.hooks.veto(plugin.name, wish.reason) if wish.vetoes else ():
            raise UnloadRefused(
                f"may not be unloaded now: {objection} (says {policy!r})",
                plugin=plugin.name,
                step="veto",
                advice=f"Try again later, or unregister {policy}",
            )

    def _spaces(self, plugin: Plugin) -> frozenset[int]:
        """Namespaces of the plugin's own modules; in a package with several plugins, those that are its alone."""
        own = (weight.name for weight, kind, _ in self.books.of(plugin.name) if kind == "own")
        neighbours = self.neighbours(plugin)
        return namespaces(name for name in own if not neighbours or _is_alone(plugin.module, name, neighbours))

    def _drain(self, plugin: Plugin, spaces: frozenset[int], course: Course) -> Callable[[], object] | None:
        """Let no new call in, and wait until nobody is inside; what is left to call is its deactivation."""
        began, reason, seconds = time.perf_counter(), course.wish.reason, course.wish.seconds
        failed = plugin.reason if plugin.has_failed_at_work else None
        callers = self.hooks.callers_of(plugin.name)
        deactivate = self.hooks.bound(plugin.name, "weighbridge_deactivate", reason=reason)
        try:
            self.moved(plugin, State.DRAINING, reason)
            self.hooks.unregister(plugin.name)
            leased = self.services.thread_idents()
            is_calling = partial(self.hooks.is_calling, plugin.name)
            inside = Drain(spaces, callers, leased, is_calling=is_calling).wait(seconds)
        except BaseException as error:  # Ctrl-C while waiting
            del deactivate  # the traceback, which somebody may keep, would hold the plugin
            self._reinstate(plugin, f"interrupted by {type(error).__name__}", failed)
            raise
        course.took("drain", began)
        if not inside:
            return deactivate
        del deactivate
        self._reinstate(plugin, "calls were under way", failed)
        raise UnloadTimeout(
            f"{len(inside)} still inside after {seconds:g} s: {'; '.join(inside)}. It is {plugin.state} again",
            plugin=plugin.name,
            inside=tuple(inside),
            advice="Unload it when they have returned, or give more deadline_seconds",
        )

    def _reinstate(self, plugin: Plugin, reason: str, failed: str | None) -> None:
        if failed is not None:  # it had been dismissed: no call may reach it
            self.moved(plugin, State.FAILED, failed)
            return
        try:
            if not plugin.opaque:
                self.hooks.unregister(plugin.name)
                self.hooks.register(plugin.name, plugin.thing)
        finally:
            self.moved(plugin, State.ACTIVE, f"not unloaded: {reason}")

    def _stop_strays(self, spaces: frozenset[int], course: Course) -> list[Watched]:
        """Stop the threads that the plugin started past its host; all of them have to die."""
        strays = stray_threads(spaces, leased={threading.get_ident()})
        stop_threads(strays, seconds=min(self.stop_seconds, course.remaining(_LEAST_SECONDS)))
        return [Watched("thread", thread.name, weakref.ref(thread)) for thread in strays]

    def _cut(self, plugin: Plugin, course: Course) -> None:
        """Write down what has to die, while it can still be told what is the plugin's, and cut what holds it."""
        watches = course.wish.verify != "none"
        if not watches and course.wish.cut == "none":
            return
        from ..reclaim.ties.catalogue import cut_ties, wanted

        belongings = Belongings.of(course.departure.dropped, wanted(), patches=plugin.patches)
        if watches:
            course.watched += [*belongings.watched(), *_watch_thing(plugin, course.departure), *plugin.tracked]
            course.finalizers = any(map(_has_finalizer, belongings.classes))
        files = (namespace_of(module).get("__file__") for module in belongings.modules)
        course.files = tuple(file for file in files if isinstance(file, str))
        course.findings += cut_ties(belongings, course.wish.cut)

    def _collect(self, plugin: Plugin, course: Course) -> None:
        """One collection. Another one only if something is left: after a second look at what holds it."""
        if course.wish.verify == "none":
            return
        collect(course.remaining(_LEAST_SECONDS))
        course.collections = 1
        alive = course.alive()
        if not alive:
            return
        if course.wish.cut != "none":
            from ..reclaim.ties.catalogue import cut_ties, wanted

            names = course.departure.dropped
            again = cut_ties(Belongings.left(names, alive, wanted(), patches=plugin.patches), course.wish.cut)
            course.findings += [one for one in again if one not in course.findings]
        del alive
        collect(course.remaining(_LEAST_SECONDS))  # finalizers of the first collection may have freed the rest
        course.collections = 2

    def _verify(self, plugin: Plugin, course: Course) -> list[Survivor]:
        from ..reclaim.ties.collector import Frozen

        thawed = any((one.tie, one.outcome) == (Frozen.name, "cut") for one in course.findings)
        if course.finalizers or thawed:  # what was frozen could not be seen, unless a module leads to it
            # one that brings its object back does so when the weak references are cleared: the classes tell
            # https://docs.python.org/3/library/weakref.html#weakref.ref
            known = {id(one.reference) for one in (*course.watched, *plugin.stranded)}
            again = Belongings.of(course.departure.dropped).watched()
            course.watched += [one for one in again if id(one.reference) not in known]
        kept = course.departure.kept
        stuck = [
            Survivor(kind="module", name=name, tie=kept[name].words, chain=())
            for name in (*course.departure.declared, *course.departure.compiled)
        ]
        unknown = Survivor(kind="module", name=plugin.own, tie=_UNKNOWN, chain=())
        lost = [unknown] if course.has_failed("unregister", "cut", "drop") else []
        return [*lost, *stuck, *self._named(course)]

    def _named(self, course: Course) -> list[Survivor]:
        if course.wish.verify == "full":
            seconds = min(self.explain_seconds, course.remaining(_LEAST_SECONDS))
            return explained(course.alive(), seconds=seconds)
        return [Survivor(kind=one.kind, name=one.name, tie=_UNASKED, chain=()) for one in course.alive()]

    def _settle(self, plugin: Plugin, course: Course, scales: Scales) -> None:
        older, newer = survivors(plugin.stranded), course.alive()
        plugin.stranded_bytes = plugin.stranded_bytes if older or plugin.permanent else 0
        plugin.stranded_bytes += scales.left_bytes(course) if course.survivors else 0
        plugin.stranded = [*older, *newer]
        permanent = [*course.departure.compiled, *course.departure.declared]
        permanent += [plugin.own] if course.has_failed("unregister", "cut", "drop") else []
        plugin.permanent = tuple(dict.fromkeys([*plugin.permanent, *permanent]))
        count = len(course.survivors)
        state = State.STRANDED if count else State.UNLOADED
        reason = f"{count} of {course.had_to_go} outlived it" if count else plugin.reason
        if state is State.UNLOADED and plugin.is_left_behind:
            state, reason = State.STRANDED, "this generation is gone, an earlier one is not"
        self.moved(plugin, state, reason)


_TIES: Final = "..reclaim.ties.catalogue"
"""Big: only who unloads pays for it. It is imported before anything is weighed."""
_LEAST_SECONDS: Final = 0.2
"""What a step may take in any case, though the deadline has passed: a plugin that is half unloaded is no use."""
_UNASKED: Final = "not asked for: unload with verify='full' to see what holds it"
_UNKNOWN: Final = "not known: its modules could not be let go of, see the failures"


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


def _receipt(plugin: Plugin, course: Course, scales: Scales, also_unloaded: tuple[Receipt, ...]) -> Receipt:
    departure = course.departure
    return Receipt(
        plugin=plugin.name,
        distribution=plugin.candidate.distribution,
        version=plugin.candidate.version,
        state="stranded" if course.survivors else "unloaded",
        reason=course.wish.reason,
        verify=course.wish.verify,
        held_bytes=scales.held_bytes,
        traced_before_bytes=scales.traced_before_bytes,
        traced_after_bytes=scales.traced_after_bytes,
        resident_before_bytes=scales.resident_before_bytes,
        resident_after_bytes=scales.resident_after_bytes,
        objects_before=scales.objects_before,
        objects_after=scales.objects_after,
        expected_bytes=scales.expected_bytes,
        reclaimed_bytes=scales.reclaimed_bytes,
        reclaimed_share=scales.reclaimed_share,
        stdlib_bytes=scales.stdlib_bytes,
        immortal_bytes=scales.immortal_bytes,
        modules_dropped=len(departure.dropped),
        modules_kept=tuple(f"{name} ({stay.words})" for name, stay in sorted(departure.kept.items())),
        libraries_kept=course.libraries,
        leases_revoked=course.revoked,
        watched=course.had_to_go,
        ties=tuple(course.findings),
        survivors=tuple(course.survivors),
        collections=course.collections,
        failures=course.failures,
        steps=tuple(course.steps),
        also_unloaded=also_unloaded,
    )
