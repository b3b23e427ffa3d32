"""The plugin manager, and the only calls of hooks: one typed method for each.

Hooks that the host calls to run a life cycle are called one implementation at a time: so the host knows who raised, one
failing observer does not silence the next, and a plugin can be activated alone. A wrapper would not be seen by such a
call, and is refused when it is registered. Application hooks are called through :attr:`Hooks.relay`, by pluggy itself;
what is different where faults are contained is in :mod:`weighbridge.containment`.
"""

from __future__ import annotations

import inspect
import logging
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import FrameType, ModuleType
from typing import Any, Final, TypeGuard, TypeVar

import attrs
import pluggy
from weighbridge_hookspecs import (
    PROJECT_NAME,
    AdmissionRequest,
    Admitted,
    Buffer,
    Candidate,
    Capabilities,
    ConfigurationError,
    Deferred,
    Event,
    Fact,
    Refused,
    ReleaseRequest,
    Terminal,
    Verdict,
    WeighbridgeError,
    hooks,
)

from .containment import Faults, contained

T = TypeVar("T")
_log: Final = logging.getLogger("weighbridge.hooks")
_HIGHEST_EXIT_CODE: Final = 255
"""https://pubs.opengroup.org/onlinepubs/9799919799/functions/exit.html: of more, the lowest 8 bits arrive."""
_FIXED: Final = ("candidate", "usage_bytes", "ceiling_bytes", "headroom_bytes", "dry_run")


class PolicyFailed(WeighbridgeError):
    """A plugin that was asked about an admission raised, or gave an answer that makes no sense."""


@attrs.frozen
class Registration:
    """The hooks of one registered object, by name."""

    name: str
    implemented: tuple[str, ...]
    unknown: tuple[str, ...]
    """Hooks that no specification knows: most likely spelling mistakes."""


class _StandIn:
    """Has the hooks of a plugin that defines ``==``, and is equal to nothing else."""


class Hooks:
    """Registration and calls.

    :param faults: where faults of plugins in hook calls are counted; without it a fault ends the call, as with pluggy.
    """

    def __init__(self, fail_open: Iterable[str] = (), faults: Faults | None = None) -> None:
        self._manager = pluggy.PluginManager(PROJECT_NAME)
        self._manager.add_hookspecs(hooks)
        self._fail_open = set(fail_open)
        self._former_callers: dict[str, tuple[object, ...]] = {}
        self._faults = faults
        if faults is not None:
            # what ``enable_tracing`` of pluggy replaces, too: every kind of call comes through here
            self._manager._inner_hookexec = contained(faults, self._manager._inner_hookexec)

    @property
    def relay(self) -> pluggy.HookRelay:
        """pluggy's own relay, for the application's calls."""
        return self._manager.hook

    def add_specifications(self, namespace: ModuleType | type) -> None:
        """Add hooks of the application's own.

        :raises ConfigurationError: if there are none, or a plugin that is registered already does not fit them.
        """
        problem = ""
        try:
            self._manager.add_hookspecs(namespace)
        except (ValueError, pluggy.PluginValidationError) as error:
            problem = _in_one_line(error)
        if problem:
            raise ConfigurationError(f"these hooks cannot be added: {problem}", step="register")

    def register(self, name: str, plugin: object, *, fail_open: bool = False) -> Registration:
        """Register an object under `name`.

        :raises ConfigurationError: if the name is taken, or an implementation does not fit its specification.
        """
        problem = "the name is taken" if self._manager.has_plugin(name) else ""
        try:
            if not problem:
                self._begin(name)
                self._manager.register(self._shielded(plugin), name)
        except (ValueError, pluggy.PluginValidationError) as error:
            problem = _in_one_line(error)
            if not isinstance(error, ValueError):  # an older pluggy keeps half of a plugin that does not fit
                self.unregister(name)
        if problem:
            raise ConfigurationError(f"cannot be registered: {problem}", plugin=name, step="register")
        wrappers = [hook for hook, impl in self._of(name) if impl.wrapper or impl.hookwrapper]
        if wrong := [hook for hook in wrappers if hook in vars(hooks)]:
            self.unregister(name)
            raise ConfigurationError(
                f"{wrong[0]} is implemented as a wrapper, and the host calls that hook one plugin at a time",
                plugin=name,
                step="register",
                advice="Implement it as a plain hook",
            )
        if fail_open:
            self._fail_open.add(name)
        return self._registration(name)

    def _shielded(self, plugin: object) -> object:
        """What pluggy may hold: it tells plugins apart by ``==``, so one that defines it is stood in for."""
        if isinstance(plugin, ModuleType) or type.__getattribute__(type(plugin), "__eq__") is object.__eq__:
            return plugin
        stand_in = _StandIn()
        for name in dir(plugin):
            if self._manager.parse_hookimpl_opts(plugin, name) is not None:
                setattr(stand_in, name, getattr(plugin, name))
        return stand_in

    def _begin(self, name: str) -> None:
        self._former_callers.pop(name, None)
        if self._faults is not None:
            self._faults.begin(name)

    def unregister(self, name: str) -> None:
        """Take an object out: no new call reaches it. Fine if it is not there.

        Whether it fails open is remembered by its name, for it may come back.
        """
        if self._manager.get_plugin(name) is not None:
            self._manager.unregister(name=name)
            _forget_lookups()

    def implemented(self, name: str) -> tuple[str, ...]:
        """The hooks that one registered object implements, sorted."""
        return tuple(sorted({hook for hook, _ in self._of(name)}))

    def _registration(self, name: str) -> Registration:
        implemented = self.implemented(name)
        needed = {hook for hook, impl in self._of(name) if not impl.optionalhook}
        unknown = tuple(hook for hook in implemented if hook in needed and not getattr(self.relay, hook).has_spec())
        return Registration(name, implemented, unknown)

    def _of(self, name: str) -> Iterator[tuple[str, pluggy.HookImpl]]:
        for hook, caller in list(vars(self.relay).items()):
            for impl in caller.get_hookimpls():
                if impl.plugin_name == name:
                    yield hook, impl

    def callers_of(self, name: str) -> tuple[object, ...]:
        """The hook callers through which a call could reach `name`, to recognise calls that are under way.

        Of one that was dismissed, those of then: a call that had begun before may come to it yet.
        """
        callers = {id(caller): caller for hook, _ in self._of(name) for caller in [getattr(self.relay, hook)]}
        return tuple(callers.values()) or self._former_callers.get(name, ())

    def is_calling(self, name: str, frame: FrameType) -> bool:
        """Whether a frame is one of ours that deals with `name`: it may have a call in hand, and make it yet."""
        return frame.f_globals is globals() and frame.f_locals.get("name") == name

    def bound(self, name: str, hook: str, /, **arguments: Any) -> Callable[[], Any] | None:
        """A call of one hook of one plugin, that also works once it is unregistered; None if it has no such hook."""
        for found, impl in self._of(name):
            if found == hook:
                return _prepare(impl, arguments)
        return None

    def _names(self, hook: str) -> list[str]:
        """Who implements a hook, in pluggy's order: last registered first."""
        return [impl.plugin_name for impl in reversed(getattr(self.relay, hook).get_hookimpls())]

    def _each(self, hook: str, **arguments: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Name and call of every implementation, looked up one at a time: who has left meanwhile is not called."""
        for name in self._names(hook):
            call = self.bound(name, hook, **arguments)
            if call is not None:
                yield name, call

    # --- admission: raising refuses ---------------------------------------------------------------------------------

    def estimate(self, candidate: Candidate) -> int | None:
        """The first estimate that any plugin gives, in bytes.

        :raises PolicyFailed: if one of them raises or gives no size.
        """
        for name, call in self._each("weighbridge_estimate", candidate=candidate):
            estimate = _answer(name, "weighbridge_estimate", call)
            if estimate is None:
                continue
            if not _is_size(estimate):
                raise _senseless(name, "weighbridge_estimate", estimate, "a number of bytes from 0 up, or None")
            return int(estimate)
        return None

    def adjust(self, request: AdmissionRequest) -> AdmissionRequest:
        """The request after every plugin that wants to has changed it, one after the other.

        :raises PolicyFailed: if one of them raises, or changes what may not be changed.
        """
        for name in self._names("weighbridge_adjust"):
            call = self.bound(name, "weighbridge_adjust", request=request)
            changed = _answer(name, "weighbridge_adjust", call) if call is not None else None
            if changed is not None:
                request = _adjusted(name, request, changed)
        return request

    def admit(self, request: AdmissionRequest, *, timeout_seconds: float) -> list[Verdict]:
        """The verdict of every policy. One that raises or is late refuses, unless it was registered to fail open."""
        names = self._names("weighbridge_admit")
        if not names:
            return []
        # in a thread of their own, for only so can the deadline bound a policy that never returns
        answers: dict[str, Verdict | None] = {}
        expired = threading.Event()
        thread = threading.Thread(
            target=self._ask, args=(request, answers, expired), name="weighbridge-policies", daemon=True
        )
        thread.start()
        thread.join(timeout_seconds)
        expired.set()
        answered = dict(answers)
        for name in names:
            if name not in answered:  # it never returned, or was not asked because of one that did not
                reason = f"the policy {name!r} had not answered after {timeout_seconds:g} s"
                answered[name] = self._failed(name, reason)
        return [verdict for verdict in answered.values() if verdict is not None]

    def _ask(self, request: AdmissionRequest, answers: dict[str, Verdict | None], expired: threading.Event) -> None:
        for name, call in self._each("weighbridge_admit", request=request):
            if expired.is_set():
                return
            answers[name] = self._judgement(name, call)

    def _judgement(self, name: str, call: Callable[[], Any]) -> Verdict | None:
        try:
            # nobody presses Ctrl-C in this thread, so whatever is raised is the policy's fault
            verdict: Verdict | None = _answer(name, "weighbridge_admit", call, caught=BaseException)
            if verdict is not None and not isinstance(verdict, Admitted | Deferred | Refused):
                raise _senseless(name, "weighbridge_admit", verdict, "Admitted, Deferred, Refused or None")
        except PolicyFailed as error:
            return self._failed(name, f"the policy {name!r} failed: {error.message}")
        return verdict

    def _failed(self, name: str, reason: str) -> Verdict:
        if name in self._fail_open:
            return Admitted(warnings=(f"{reason}; it was registered to fail open",))
        return Refused(reason=reason, advice=f"Mend or unload {name}, or register it to fail open")

    # --- one plugin alone -------------------------------------------------------------------------------------------

    def activation(self, name: str, registry: Capabilities) -> Iterator[tuple[str, Callable[[], Any]]]:
        """The calls that activate one plugin, in order."""
        for hook, arguments in (
            ("weighbridge_capabilities", {"registry": registry}),
            ("weighbridge_activate", {}),
            ("weighbridge_scalable", {}),
        ):
            call = self.bound(name, hook, **arguments)
            if call is not None:
                yield hook, call

    def veto(self, name: str, reason: str) -> Iterator[tuple[str, str]]:
        """Who objects to the unload of `name`, and with which words."""
        for policy, call in self._each("weighbridge_veto_unload", plugin=name, reason=reason):
            objection = _contained(policy, "weighbridge_veto_unload", call)[1]
            if isinstance(objection, str) and objection:
                yield policy, objection
            elif objection is not None:
                _log.error("%s: weighbridge_veto_unload gave %r; wanted a text or None", policy, objection)

    def dismiss(self, name: str, reason: str) -> None:
        """Unregister one plugin and deactivate it; what it raises is logged."""
        deactivate = self.bound(name, "weighbridge_deactivate", reason=reason)
        self._former_callers[name] = self.callers_of(name)
        self.unregister(name)
        if deactivate is not None:
            _contained(name, "weighbridge_deactivate", deactivate)

    def report_memory(self, name: str) -> int | None:
        """Native bytes that one plugin reports; 0 if it reports none, None if its report failed."""
        call = self.bound(name, "weighbridge_report_memory")
        if call is None:
            return 0
        answered, reported = _contained(name, "weighbridge_report_memory", call)
        if not answered or reported is None:
            return 0 if answered else None
        if not _is_size(reported):
            _log.error("%s: weighbridge_report_memory gave %r; wanted a number of bytes from 0 up", name, reported)
            return None
        return int(reported)

    def release_memory(self, name: str, request: ReleaseRequest) -> int:
        """Bytes that one plugin believes it released; 0 if it has nothing or raised."""
        call = self.bound(name, "weighbridge_release_memory", request=request)
        released = _contained(name, "weighbridge_release_memory", call)[1] if call is not None else 0
        return int(released) if _is_size(released) else 0

    def command(self, name: str, arguments: Sequence[str], terminal: Terminal) -> int:
        """The exit code of one plugin's own command.

        :raises ConfigurationError: if it has none, or gives no exit code.
        """
        call = self.bound(name, "weighbridge_command", arguments=tuple(arguments), terminal=terminal)
        if call is None:
            raise ConfigurationError("has no command", plugin=name, step="command", advice="See weighbridge --help")
        code = call()
        if code is not None and not (_is_whole(code) and 0 <= code <= _HIGHEST_EXIT_CODE):
            wanted = f"0 to {_HIGHEST_EXIT_CODE}, or None"
            raise ConfigurationError(
                "weighbridge_command gave no exit code", plugin=name, wanted=wanted, had=repr(code)
            )
        return code or 0

    # --- everybody --------------------------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """Tell every observer; what one of them raises is logged."""
        for name, call in self._each("weighbridge_event", event=event):
            _contained(name, "weighbridge_event", call)

    def examine(self) -> Iterator[tuple[str, Fact]]:
        """What each plugin says about this machine; what one of them raises, or says that is no fact, is logged."""
        for name, call in self._each("weighbridge_examine"):
            for fact in _contained(name, "weighbridge_examine", partial(_listed, call))[1] or []:
                if isinstance(fact, Fact):
                    yield name, fact
                else:
                    _log.error("%s: weighbridge_examine gave %s; wanted a Fact", name, type(fact).__name__)

    def allocate_buffer(self, size: int, node: int | None) -> Buffer | None:
        """The first buffer that any plugin provides."""
        buffer: Buffer | None = self.relay.weighbridge_allocate_buffer(size=size, node=node)
        return buffer


def _forget_lookups() -> None:
    """Empty a cache of classes that pluggy fills when it registers, through ``inspect.getattr_static``.

    Python 3.12 held the classes for ever (https://github.com/python/cpython/issues/118013); since then it holds weak
    references to them until others push them out. It only saves time, so emptying it harms nobody.
    """
    for name in ("_shadowed_dict_from_mro_tuple", "_shadowed_dict_from_weakref_mro_tuple"):
        cached = getattr(inspect, name, None)
        if cached is not None:
            cached.cache_clear()


def _listed(call: Callable[[], Iterable[T] | None]) -> list[T]:
    return list(call() or ())


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: object) -> TypeGuard[int]:
    return _is_whole(value) and value >= 0


def _in_one_line(error: Exception) -> str:
    """What pluggy says, as text: the error itself holds the plugin."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line and not line.startswith("{"))


def _prepare(impl: pluggy.HookImpl, arguments: Mapping[str, Any]) -> Callable[[], Any]:
    chosen = [arguments[name] for name in impl.argnames]
    # arguments that the implementation has a default for, as pluggy itself passes them
    optional = {name: arguments[name] for name in impl.kwargnames if name in arguments}
    return lambda: impl.function(*chosen, **optional)


def _adjusted(name: str, request: AdmissionRequest, changed: object) -> AdmissionRequest:
    """The request as it was changed; an estimate that was changed is a plugin's from then on."""
    if not isinstance(changed, AdmissionRequest) or any(
        getattr(changed, field) != getattr(request, field) for field in _FIXED
    ):
        wanted = f"an AdmissionRequest with the same {', '.join(_FIXED)}, or None"
        raise _senseless(name, "weighbridge_adjust", changed, wanted)
    peak = changed.peak_bytes
    if not (_is_size(changed.estimate_bytes) and (peak is None or _is_size(peak)) and _is_whole(changed.priority)):
        wanted = "one with an estimate_bytes and a peak_bytes from 0 up, and a whole number as its priority"
        raise _senseless(name, "weighbridge_adjust", changed, wanted)
    same = changed.estimate_bytes == request.estimate_bytes
    return attrs.evolve(changed, estimate_source=request.estimate_source if same else "hook")


def _contained(name: str, hook: str, call: Callable[[], Any]) -> tuple[bool, Any]:
    """Whether a call came back, and what it gave.

    What it raises is logged as text, for an exception object would hold the plugin's frames.
    """
    try:
        return True, call()
    except (Exception, SystemExit):  # sys.exit is no way for a plugin to end its host
        _log.error("%s: %s raised:\n%s", name, hook, traceback.format_exc())
        return False, None


def _answer(
    name: str,
    hook: str,
    call: Callable[[], T],
    *,
    caught: type[BaseException] | tuple[type[BaseException], ...] = (Exception, SystemExit),
) -> T:
    failure = ""
    try:
        return call()
    except caught as error:
        failure = f"{hook} raised {type(error).__name__}: {said(error)}"
    raise PolicyFailed(failure, plugin=name, step="admit")


def said(error: BaseException) -> str:
    """The text of an exception; it may be a stranger's, and then even asking for its text can raise."""
    try:
        return str(error)
    except Exception:
        return "<no text: asking for it raised>"


def _senseless(name: str, hook: str, answer: object, wanted: str) -> PolicyFailed:
    return PolicyFailed(f"{hook} gave {type(answer).__name__}; wanted {wanted}", plugin=name, step="admit")
