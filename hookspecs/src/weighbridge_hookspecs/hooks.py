"""Every hook, one free function each.

Each docstring says, in this order: what the hook is for, when in the life cycle it runs, what None means, what raising
means, and the units. Implementations take as many of the arguments as they need, by name.
"""

from __future__ import annotations

from collections.abc import Sequence

from .markers import hookspec
from .records import AdmissionRequest, Candidate, Event, Fact, ReleaseRequest, Verdict
from .services import Buffer, Capabilities, ScalableSubsystem, Terminal


@hookspec(firstresult=True)
def weighbridge_estimate(candidate: Candidate) -> int | None:
    """Say how much memory a candidate's load will take, if you know better than its manifest and its last weighing.

    Runs before admission, nothing of the candidate imported yet. The first answer counts.
    None: no opinion. Raising: the load is refused, and the refusal names the plugin that raised.
    Unit: bytes.
    """


@hookspec
def weighbridge_adjust(request: AdmissionRequest) -> AdmissionRequest | None:
    """Change a request before it is judged: its priority, its estimate, its peak, or whether it may be deferred.

    Runs before admission, after the estimate. Each implementation sees what the one before it made of the request;
    return ``attrs.evolve(request, ...)``. The candidate, usage, ceiling and ``dry_run`` cannot be changed.
    None: leave it as it is. Raising: the load is refused.
    """


@hookspec
def weighbridge_admit(request: AdmissionRequest) -> Verdict | None:
    """Judge a load: ``Admitted``, ``Deferred`` or ``Refused``, each with warnings if you like.

    Runs before every load, on the final request, nothing imported yet; also for a dry run (``request.dry_run``), so
    it must not have side effects. Every policy is asked. One refusal refuses; without one, one deferral defers.
    None: no objection. Raising: the load is refused, unless the host registered this policy to fail open. All policies
    share one deadline, and one that misses it has refused. An implementation must not be a hook wrapper.
    """


@hookspec
def weighbridge_activate() -> None:
    """Start working.

    Runs on the loaded plugin alone, after it was imported, constructed and registered; hooks may reach it from then on.
    Raising: the load fails and everything done so far is undone.
    """


@hookspec
def weighbridge_veto_unload(plugin: str, reason: str) -> str | None:
    """Object to an unload: something that must not be broken off is under way.

    Runs before an unload, nothing changed yet, once for the plugin itself and once for each that requires it. `plugin`
    is the name of the one that is to go, `reason` why, in words. Not asked when the host closes.
    None: no objection. A text: the unload is refused, and the text is the reason. Raising: it is logged, and is no
    objection, for a broken plugin must not keep others in for ever.
    """


@hookspec
def weighbridge_deactivate(reason: str) -> None:
    """Stop working: finish or hand over what is under way. Leases need no care, the host takes them back.

    Runs on the plugin alone when it is unloaded, after its hooks were unregistered and every call had left it. `reason`
    is why, in words.
    Raising: it is recorded in the receipt, and the unload goes on.
    """


@hookspec
def weighbridge_release_memory(request: ReleaseRequest) -> int | None:
    """Give memory back: drop caches, shrink pools.

    Runs when memory is short, for one plugin after another until the need is met, and before a load is refused.
    None: nothing to give. Raising: it is logged, and the next plugin is asked.
    Unit: bytes that you believe you released; the host measures the truth beside it.
    """


@hookspec
def weighbridge_report_memory() -> int | None:
    """Report memory that Python cannot see: a library's own heap, memory maps, a device's memory.

    Runs whenever an account is drawn, so it must be quick. Do not report what you put on the account with
    ``context.charge``.
    None: nothing to report. Raising: the figure is shown as unknown.
    Unit: bytes held now.
    """


@hookspec
def weighbridge_capabilities(registry: Capabilities) -> None:
    """Register what you provide to others, with evidence.

    Runs on the loaded plugin alone, at activation, just before ``weighbridge_activate``. What was registered leaves
    with the plugin.
    Raising: the load fails.
    """


@hookspec
def weighbridge_examine() -> Sequence[Fact] | None:
    """Say what this machine offers, as far as you know about it, and why you think so.

    Runs when somebody asks, as ``weighbridge doctor`` does. It may take its time, and must change nothing.
    None: nothing to say. Raising: it is logged, and the others are asked.
    """


@hookspec(firstresult=True)
def weighbridge_allocate_buffer(size: int, node: int | None) -> Buffer | None:
    """Provide a buffer of `size` bytes, on NUMA node `node` if that is not None.

    Runs on demand. The first answer counts.
    None: not me. Raising: reaches the caller, or where the host contains what plugins raise, the next one is asked.
    Unit: bytes.
    """


@hookspec
def weighbridge_scalable() -> ScalableSubsystem | None:
    """Hand out the part of you that scales with load.

    Runs on the loaded plugin alone, at activation, after ``weighbridge_activate``.
    None: nothing scales. Raising: the load fails.
    """


@hookspec
def weighbridge_command(arguments: Sequence[str], terminal: Terminal) -> int | None:
    """Run a command of your own: what somebody typed after ``weighbridge`` and the name of your plugin.

    Runs on the loaded plugin alone, when somebody types that; it was loaded for it, and is unloaded when it is over.
    What it shows goes to `terminal`.
    None: it went well. Raising: the command line prints a ``WeighbridgeError`` as one line, and what click says about
    wrong usage as its own; anything else is a traceback.
    Unit: the exit code.
    """


@hookspec
def weighbridge_event(event: Event) -> None:
    """Observe: a change of state, a refusal, a change of pressure, memory released.

    Runs after the fact, in the thread that caused it, so it should be quick.
    Raising: it is logged and never reaches the host.
    """
