"""Every tie there is, in the order in which they are cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..belongings import Belongings
from .attributes import FunctionAttributes
from .caches import Dispatchers, LruCaches, Patterns, SourceLines
from .children import ForkHooks, ProcessForks
from .codings import CachedCodecs, CodecErrors, CodecSearches
from .collector import CollectorCallbacks, Frozen, Garbage
from .contexts import ContextValues
from .conversions import ArchiveFormats, Browsers, SqliteAdapters, Translations
from .copying import Copiers, Extensions, Picklers, Reducers
from .exits import ExitCallbacks, Finalizers, ProcessFinalizers, WeakCallbacks
from .foreign import Callbacks, FaultFiles, Libraries, LineEditing, PointerTypes
from .importing import (
    Finders,
    ModuleAliases,
    PackageResources,
    PathFinders,
    PathHooks,
    ZipDirectories,
)
from .interpreter import (
    AsyncGeneratorHooks,
    AuditHooks,
    LastException,
    MonitoringCallbacks,
    Prompts,
    Streams,
    SysHooks,
    TraceFunctions,
)
from .logs import (
    LastResorts,
    LogFilters,
    LogFormatters,
    LoggerClasses,
    Loggers,
    LogHandlers,
    RecordFactories,
)
from .loops import LoopCallbacks, LoopHooks, LoopPolicy, LoopReaders, LoopSignals, Tasks
from .mocks import ActiveMocks, ModuleCleanups
from .overloads import Overloads, TypingCaches
from .patches import ClassAttributes, ModuleAttributes, PatchedClasses, PatchedModules
from .registries import Registries
from .running import FutureCallbacks, QueuedWork, ThreadExits, ThreadHook, ThreadLocals, Timers
from .signals import SignalHandlers
from .stacks import ExitStacks
from .suspended import Suspended, Tracebacks
from .tie import Cut, Finding, Tie
from .warned import ModuleFilters, WarningFilters, WarningHooks, WarningRegistries

TIES: Final[tuple[Tie, ...]] = (
    Overloads(),
    TypingCaches(),
    LruCaches(),
    Dispatchers(),
    SourceLines(),
    Patterns(),
    LogHandlers(),
    LogFilters(),
    LogFormatters(),
    LoggerClasses(),
    Loggers(),
    RecordFactories(),
    LastResorts(),
    WarningFilters(),
    ModuleFilters(),
    WarningHooks(),
    WarningRegistries(),
    CachedCodecs(),
    CodecSearches(),
    CodecErrors(),
    Reducers(),
    Extensions(),
    Copiers(),
    Picklers(),
    SqliteAdapters(),
    ArchiveFormats(),
    Browsers(),
    Translations(),
    PointerTypes(),
    Callbacks(),
    Libraries(),
    LineEditing(),
    FaultFiles(),
    Frozen(),
    ThreadHook(),
    ThreadExits(),
    Timers(),
    QueuedWork(),
    Tasks(),
    LoopCallbacks(),
    LoopReaders(),
    LoopSignals(),
    LoopHooks(),
    LoopPolicy(),
    FutureCallbacks(),
    SignalHandlers(),
    ExitCallbacks(),
    Finalizers(),
    ProcessFinalizers(),
    ProcessForks(),
    ForkHooks(),
    CollectorCallbacks(),
    Garbage(),
    ContextValues(),
    ThreadLocals(),
    SysHooks(),
    AsyncGeneratorHooks(),
    TraceFunctions(),
    MonitoringCallbacks(),
    LastException(),
    Streams(),
    Prompts(),
    AuditHooks(),
    Finders(),
    PathHooks(),
    PathFinders(),
    ModuleAliases(),
    ExitStacks(),
    ZipDirectories(),
    PackageResources(),
    ModuleCleanups(),
    ActiveMocks(),
    # what the others hold is let go of by now
    WeakCallbacks(),
    Tracebacks(),
    Suspended(),
    # after all ties that know a place better
    FunctionAttributes(),
    PatchedModules(),
    PatchedClasses(),
    ModuleAttributes(),
    ClassAttributes(),
    Registries(),
)
KINDS: Final = frozenset(kind for tie in TIES for kind in tie.kinds)


def wanted() -> frozenset[type]:
    """Every type that the ties look for on the heap, those that exist only since their module was imported among them.

    A tie reads ``belongings.heap.get(kind, ())`` where a kind may be younger than the walk.
    """
    return KINDS | {kind for tie in TIES for kind in tie.wanted()}


def cut_ties(belongings: Belongings, cut: Cut) -> Iterator[Finding]:
    """Cut every tie that is found; with ``"none"`` they are only named.

    What stays where it is goes by the name of the first tie that found it there: later ones are more general.
    """
    told: dict[tuple[str, str], str] = {}
    for tie in TIES:
        found = tie.find(belongings) if cut == "none" else tie.cut_all(belongings, unsafe=cut == "all")
        for one in found:
            if told.setdefault((one.place, one.held), tie.name) == tie.name or one.outcome in ("cut", "failed"):
                yield one
