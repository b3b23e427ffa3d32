"""Every error that Weighbridge raises.

    WeighbridgeError
    |-- ConfigurationError           a setting that makes no sense
    |-- DiscoveryError
    |   |-- MetadataError            a distribution's metadata cannot be read
    |   |-- ManifestError            a manifest is missing, broken or invalid
    |   |-- DuplicateName            two distributions offer the same name
    |   `-- UnknownPlugin            no candidate has that name
    |-- DependencyError
    |   |-- MissingRequirement       a required plugin is not there or could not be loaded
    |   |-- DependencyCycle          `requires` and `after` form a ring
    |   `-- ConflictingPlugin        a plugin that must not be active together with this one is
    |-- AdmissionError
    |   |-- AdmissionRefused         no room, or a policy said no
    |   `-- AdmissionDeferred        queued until there is room
    |-- LifecycleError
    |   |-- PluginBlocked            disabled by the operator
    |   |-- PluginIncompatible       written for another contract, or another version of it cannot leave the process
    |   |-- AlreadyLoaded
    |   |-- NotLoaded
    |   |-- IllegalTransition        the state table has no such arrow
    |   |-- NestedLoad               a plugin asked for a load while it was being loaded
    |   |-- LoadFailed               importing, constructing or activating failed; all of it was undone
    |   |-- UnloadRefused            others depend on it, somebody objects, or it would have to unload itself
    |   |-- UnloadTimeout            a thread or a coroutine did not leave the plugin in time
    |   `-- CleanupFailed            one clean-up raised; the others ran
    |-- LeaseError
    |   |-- ContextClosed            a plugin used its context after it was unloaded
    |   |-- ServiceUnavailable       this host does not lend that service
    |   |-- CeilingExceeded          memory was wanted beyond the ceiling
    |   |-- Saturated                a gate is full; come back later
    |   |-- StorageFailed            a disk or a remote store did not do what was asked
    |   `-- StorageDamaged           what is stored is not what was put there
    `-- WorkError                    work that was given to a plugin was not taken, or did not come to its end
        |-- InvalidModule            code that cannot be run
        |-- UnknownModule            nobody registered it
        |-- UnknownFunction          the module exports no function of that name
        |-- Trapped                  the code did what it may not do
        |-- OutOfFuel                it used up what it was given to run with
        |-- DeadlineExceeded         it did not end in time
        |-- StateRefused             kept state is of other code, or of another format
        |-- InvalidPipeline          a graph of stages that cannot be run
        |-- StageFailed              a stage did not do its work
        |-- StageWithdrawn           the plugin that contributed the stage has gone
        |-- UndoFailed               what a stage did could not be undone
        `-- Cancelled                somebody called the work off

An error holds names and numbers, never a plugin, a frame or another exception: those would keep the plugin alive.
For the same reason what a plugin raised is kept as text, and every error can be pickled.
"""

from __future__ import annotations


class WeighbridgeError(Exception):
    """Base of every error.

    :param message: what happened, without the plugin's name.
    :param plugin: name of the plugin that it is about.
    :param step: step of the life cycle, such as ``"admit"`` or ``"import"``.
    :param wanted: what was asked for, in words.
    :param had: what there was instead, in words.
    :param advice: what to do about it, as a sentence.
    """

    def __init__(
        self,
        message: str = "",
        *,
        plugin: str | None = None,
        step: str | None = None,
        wanted: str | None = None,
        had: str | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.plugin = plugin
        self.step = step
        self.wanted = wanted
        self.had = had
        self.advice = advice

    def __str__(self) -> str:
        text = f"{self.plugin}: {self.message}" if self.plugin else self.message
        facts = [f"{label} {fact}" for label, fact in (("wanted", self.wanted), ("had", self.had)) if fact]
        if facts:
            text += f" ({', '.join(facts)})"
        return f"{text}. {self.advice}" if self.advice else text


class ConfigurationError(WeighbridgeError):
    """A setting that makes no sense: a ceiling of 0, an unknown meter, a broken configuration file."""


class DiscoveryError(WeighbridgeError):
    """Something is wrong with what is installed; the other plugins are still found."""


class MetadataError(DiscoveryError):
    """The metadata of a distribution cannot be read."""


class ManifestError(DiscoveryError):
    """A manifest is missing, is not TOML, or breaks the schema.

    :param problems: every problem found, each naming its key (``"memory.load: ..."``).
    """

    def __init__(
        self, message: str = "", *, plugin: str | None = None, problems: tuple[str, ...] = (), advice: str | None = None
    ) -> None:
        super().__init__(message, plugin=plugin, step="discover", advice=advice)
        self.problems = problems


class DuplicateName(DiscoveryError):
    """Two distributions offer an entry point of the same name in the same group; neither is taken."""


class UnknownPlugin(DiscoveryError):
    """No candidate has that name; the advice names the nearest one."""


class DependencyError(WeighbridgeError):
    """The plugins cannot be put into an order."""


class MissingRequirement(DependencyError):
    """A plugin that must be active first is not installed, was refused, or failed."""


class DependencyCycle(DependencyError):
    """``requires`` and ``after`` form a ring.

    :param ring: the names along the ring; the first is repeated at the end.
    """

    def __init__(self, message: str = "", *, plugin: str | None = None, ring: tuple[str, ...] = ()) -> None:
        super().__init__(
            message, plugin=plugin, step="order", advice="Remove one of these dependencies from a manifest"
        )
        self.ring = ring


class ConflictingPlugin(DependencyError):
    """A plugin that its manifest lists under ``conflicts`` is active (or the other way round)."""


class AdmissionError(WeighbridgeError):
    """The load was not admitted; nothing of the plugin was imported.

    :param needs_bytes: bytes the load was expected to need.
    :param headroom_bytes: bytes there were; None where no ceiling is set.
    """

    def __init__(
        self,
        message: str = "",
        *,
        plugin: str | None = None,
        needs_bytes: int | None = None,
        headroom_bytes: int | None = None,
        wanted: str | None = None,
        had: str | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, step="admit", wanted=wanted, had=had, advice=advice)
        self.needs_bytes = needs_bytes
        self.headroom_bytes = headroom_bytes


class AdmissionRefused(AdmissionError):
    """There is no room, or a policy refused (or failed to answer)."""


class AdmissionDeferred(AdmissionError):
    """There is no room now; the load is queued by priority and is tried again when memory comes back."""


class LifecycleError(WeighbridgeError):
    """A step of the life cycle was asked for that cannot be taken."""


class PluginBlocked(LifecycleError):
    """The operator disabled this plugin."""


class PluginIncompatible(LifecycleError):
    """The plugin was written for another contract, or another version of it was loaded and cannot leave the process."""


class AlreadyLoaded(LifecycleError):
    """The plugin is loaded already."""


class NotLoaded(LifecycleError):
    """The plugin is not loaded."""


class IllegalTransition(LifecycleError):
    """The table of states has no arrow from the present state to the wanted one."""


class NestedLoad(LifecycleError):
    """A plugin asked the host to load or unload a plugin while it was itself being loaded or unloaded."""


class LoadFailed(LifecycleError):
    """Importing, constructing or activating the plugin failed; everything already done was undone.

    :param cause: type and text of what the plugin raised.
    :param traceback: its traceback, as text.
    :param residue: what could not be undone, in words (a thread that does not end, say).
    """

    def __init__(
        self,
        message: str = "",
        *,
        plugin: str | None = None,
        step: str | None = None,
        cause: str = "",
        traceback: str = "",
        residue: tuple[str, ...] = (),
        advice: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, step=step, advice=advice)
        self.cause = cause
        self.traceback = traceback
        self.residue = residue


class UnloadRefused(LifecycleError):
    """Other plugins depend on this one, one of them objects, or the call came from inside the plugin itself."""


class UnloadTimeout(LifecycleError):
    """A thread or a coroutine was still inside the plugin at the deadline; the plugin is active again.

    :param inside: one line for each: the thread's or coroutine's name, file, line and function.
    """

    def __init__(
        self,
        message: str = "",
        *,
        plugin: str | None = None,
        inside: tuple[str, ...] = (),
        wanted: str | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, step="drain", wanted=wanted, advice=advice)
        self.inside = inside


class CleanupFailed(LifecycleError):
    """One clean-up raised while a plugin was unloaded; all the others still ran."""


class LeaseError(WeighbridgeError):
    """A leased service could not do what was asked of it."""


class ContextClosed(LeaseError):
    """A plugin used its context after it was unloaded."""


class ServiceUnavailable(LeaseError):
    """This host does not lend the service that was asked for."""


class CeilingExceeded(LeaseError):
    """Memory was wanted beyond the ceiling, and nobody could release enough.

    :param used_bytes: bytes in use.
    :param wanted_bytes: bytes asked for.
    :param ceiling_bytes: the ceiling.
    """

    def __init__(
        self,
        message: str = "",
        *,
        plugin: str | None = None,
        used_bytes: int | None = None,
        wanted_bytes: int | None = None,
        ceiling_bytes: int | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, step="lease", advice=advice)
        self.used_bytes = used_bytes
        self.wanted_bytes = wanted_bytes
        self.ceiling_bytes = ceiling_bytes


class Saturated(LeaseError):
    """A gate or a queue is full: backpressure, not a failure.

    :param retry_after_seconds: when it is worth trying again.
    """

    def __init__(
        self, message: str = "", *, plugin: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, plugin=plugin, step="lease")
        self.retry_after_seconds = retry_after_seconds


class StorageFailed(LeaseError):
    """A disk or a remote store did not do what was asked: it is full, broken or out of reach.

    What was acknowledged before is still there. What this call was to write is there whole or not at all.
    """


class StorageDamaged(LeaseError):
    """What is stored is not what was put there: a checksum is wrong, a file is missing, an index cannot be read.

    Nothing of it is removed, so that it can be looked at and restored.
    """


class WorkError(WeighbridgeError):
    """Work that was given to a plugin was not taken, or did not come to its end."""


class InvalidModule(WorkError):
    """Code that cannot be run: it is no valid module, wants what nobody provides, or begins above its limits."""


class UnknownModule(WorkError):
    """No module is registered under that name; the advice names the nearest one."""


class UnknownFunction(WorkError):
    """The module exports no function of that name; the advice names the nearest one."""


class Trapped(WorkError):
    """The code did what it may not do, such as to read beyond its memory. Nothing else was harmed.

    :param code: what it was, in the words of the engine, such as ``"MEMORY_OUT_OF_BOUNDS"``.
    """

    def __init__(
        self, message: str = "", *, plugin: str | None = None, code: str | None = None, advice: str | None = None
    ) -> None:
        super().__init__(message, plugin=plugin, step="call", advice=advice)
        self.code = code


class OutOfFuel(WorkError):
    """The code used up what it was given to run with."""


class DeadlineExceeded(WorkError):
    """The work did not end in time, and was stopped.

    :param deadline_seconds: the time that it had.
    """

    def __init__(
        self,
        message: str = "",
        *,
        plugin: str | None = None,
        deadline_seconds: float | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, step="call", advice=advice)
        self.deadline_seconds = deadline_seconds


class StateRefused(WorkError):
    """State that was kept is of other code, or of another format; it is left as it is."""


class InvalidPipeline(WorkError):
    """A graph of stages that cannot be run: two of one name, an unknown need, a ring, or too deep.

    :param problems: every problem found, each naming its stage.
    :param path: stages along the ring, the first repeated at the end, or along the longest path.
    """

    def __init__(
        self,
        message: str = "",
        *,
        plugin: str | None = None,
        problems: tuple[str, ...] = (),
        path: tuple[str, ...] = (),
        advice: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, step="build", advice=advice)
        self.problems = problems
        self.path = path


class StageFailed(WorkError):
    """A stage did not do its work; where it raised, that is the error's cause.

    :param stage: its name.
    """

    def __init__(
        self, message: str = "", *, plugin: str | None = None, stage: str | None = None, advice: str | None = None
    ) -> None:
        super().__init__(message, plugin=plugin, step="run", advice=advice)
        self.stage = stage


class StageWithdrawn(WorkError):
    """The plugin that contributed the stage is leaving, or has gone."""


class UndoFailed(WorkError):
    """What a stage did could not be undone; where its undo raised, that is the error's cause.

    :param stage: its name.
    :param attempts: how often it was tried.
    """

    def __init__(
        self,
        message: str = "",
        *,
        plugin: str | None = None,
        stage: str | None = None,
        attempts: int | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message, plugin=plugin, step="undo", advice=advice)
        self.stage = stage
        self.attempts = attempts


class Cancelled(WorkError):
    """Somebody called the work off; what it had done was undone."""
