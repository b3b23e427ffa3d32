"""Which modules are registered, what each may take, and where its uses get their instance."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from functools import partial
from typing import Any, Final

import attrs
from weighbridge_hookspecs import (
    ConfigurationError,
    ContextClosed,
    Gate,
    InvalidModule,
    PluginContext,
    ServiceUnavailable,
    Store,
    UnknownModule,
)

from .binary import Exposed, ModuleFacts, expose
from .compiled import CompiledCache
from .config import ModuleConfig, ScalingSettings
from .engine import Engine
from .functions import Functions
from .instance import Instance
from .kept_configs import KeptConfigs
from .module import Module
from .pool import WarmPool
from .program import Program
from .reset import Resetter
from .state import StateSlots
from .supply import StateSupply, Supply, WarmSupply
from .turns import Turns
from .wasi import WasiGrants

SECTION: Final = "weighbridge"
"""The custom section in which a module says what it asks for."""
_ID_DIGITS: Final = 16
_NAME: Final = re.compile(r"[\w@][\w.@+-]*(?:/[\w@][\w.@+-]*)*", re.ASCII)
_MOST_NAME: Final = 100
_FIXED: Final = frozenset({"keep_state", "wasi"})


@attrs.define(eq=False)
class Entry:
    """One module that is registered."""

    module: Module
    supply: Supply
    wish: ModuleConfig
    """What it was registered with, before any change."""
    functions: Functions
    owners: list[str | None]
    """Who has registered it, once for each time."""


class Registry:
    """Modules by id. Thread-safe: changes of one module wait for each other, and nobody else waits for them."""

    def __init__(
        self,
        context: PluginContext,
        settings: ScalingSettings,
        engine: Engine,
        resetter: Resetter,
        cache: CompiledCache,
        pool: WarmPool[Instance],
    ) -> None:
        self._context: Final = context
        self._settings: Final = settings
        self._engine: Final = engine
        self._resetter: Final = resetter
        self._cache: Final = cache
        self._pool: Final = pool
        self._kept: Final = KeptConfigs(partial(_store_of, context), context.log)
        self._turns: Final = Turns()  # of ids: taken while a module is compiled, or its state is written
        self._lock: Final = threading.RLock()  # held for moments
        self._entries: dict[str, Entry] = {}
        self._arriving: Counter[tuple[str, str | None]] = Counter()  # ids and owners of what is being registered
        self._is_closed = False

    def entries(self) -> list[Entry]:
        """All that are registered, in the order in which they were."""
        with self._lock:
            return list(self._entries.values())

    def find(self, module_id: str) -> Entry:
        """The one of this id.

        :raises UnknownModule: if there is none; the advice names the nearest one.
        """
        entry = self._entries.get(module_id)
        if entry is None:
            near = get_close_matches(module_id, list(self._entries), 1) if isinstance(module_id, str) else []
            raise UnknownModule(
                f"no module {module_id!r} is registered",
                step="call",
                advice=f"Did you mean {near[0]!r}?" if near else "Register it first",
            )
        return entry

    def register(
        self, wasm: bytes, config: object, name: str | None, functions: Functions | None, owner: str | None
    ) -> str:
        """See :meth:`.WasmScaling.register`."""
        digest = hashlib.sha256(wasm).digest()
        module_id = _id(name, digest)
        exposed = expose(wasm)
        wish = self._wish(exposed.facts, config)
        provided = dict(functions or {})  # a copy: it is compared with later ones
        with self._arrival(module_id, owner), self._turns.turn(module_id):
            entry = self._entries.get(module_id)
            if entry is not None:
                _check_same(entry, digest, wish, provided)
                entry.owners.append(owner)
            else:
                self._enter(self._made(module_id, digest, exposed, wish, provided, owner))
            return module_id

    def unregister(self, module_id: str, owner: str | None) -> None:
        """See :meth:`.WasmScaling.unregister`."""
        with self._turns.turn(module_id):
            entry = self.find(module_id)
            if len(entry.owners) == 1:
                entry.supply.settle(self._settings.wait_seconds)
                self._remove(entry)  # its code goes with the last call
            else:
                del entry.owners[-1 if owner not in entry.owners else entry.owners.index(owner)]

    def unregister_of(self, owner: str) -> int:
        """See :meth:`.WasmScaling.unregister_of`."""
        with self._lock:
            ids = [each.module.module_id for each in self._entries.values() if owner in each.owners]
            ids += [module_id for module_id, each in self._arriving if each == owner]
        return self._leave(ids, owner)

    def configure(self, module_id: str, changes: Mapping[str, Any]) -> ModuleConfig:
        """See :meth:`.WasmScaling.configure`."""
        if fixed := _FIXED.intersection(changes):
            raise ConfigurationError(
                f"{min(fixed)} cannot be changed while the module is registered",
                step="configure",
                advice="Unregister it, and register it anew",
            )
        with self._turns.turn(module_id):
            entry = self.find(module_id)
            before = entry.module.config
            config = self._settings.checked(before.changed(**changes))
            entry.module.configure(config)
            try:
                self._kept.change(module_id, config)
            except BaseException:
                entry.module.configure(before)
                raise
            entry.supply.resize()
            return config

    def close(self) -> None:
        """Let go of all.

        :raises ExceptionGroup: of what kept states from being suspended; all of them are let go of.
        """
        with self._lock:
            self._is_closed = True
            ids = [*self._entries, *(module_id for module_id, _ in self._arriving)]
        self._leave(ids, None)

    # --- one registration --------------------------------------------------------------------------------------------

    def _wish(self, facts: ModuleFacts, config: object) -> ModuleConfig:
        return self._settings.config_for(facts.custom.get(SECTION), _registration(config))

    @contextmanager
    def _arrival(self, module_id: str, owner: str | None) -> Iterator[None]:
        """Have those who let go of modules wait for this registration."""
        with self._lock:
            self._check_open()
            self._arriving[module_id, owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._arriving[module_id, owner] -= 1
                if not self._arriving[module_id, owner]:
                    del self._arriving[module_id, owner]

    def _enter(self, entry: Entry) -> None:
        with self._lock:
            is_late = self._is_closed
            if not is_late:
                self._entries[entry.module.module_id] = entry
        if is_late:
            entry.supply.release()
            entry.module.close()
            self._check_open()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ContextClosed("the plugin wasm is unloaded, and registers no modules any more", step="register")

    def _made(
        self,
        module_id: str,
        digest: bytes,
        exposed: Exposed,
        wish: ModuleConfig,
        functions: Functions,
        owner: str | None,
    ) -> Entry:
        if wish.keep_state:
            _check_state_can_be_kept(module_id, exposed.facts)
        config = self._settings.bounded(self._kept.effective(module_id, wish))
        program = Program(
            self._engine,
            exposed,
            functions=functions,
            wasi=None if config.wasi is None else WasiGrants.read(config.wasi),
            max_pages=config.max_pages,
            max_table_elements=config.max_table_elements,
            resetter=self._resetter,
            compile=partial(self._cache.module, compiler=self._engine),
        )
        try:
            module = Module(module_id, digest, program, config)
            return Entry(module, self._supply(module), wish, functions, [owner])
        except BaseException:
            program.close()
            raise

    def _supply(self, module: Module) -> Supply:
        if not module.config.keep_state:
            return WarmSupply(module, self._pool)
        door: Gate = self._context.gate(1, max_waiting=self._settings.max_waiting)
        try:
            return StateSupply(module, StateSlots(self._context.store), door, self._resetter, self._context.log)
        except BaseException:
            door.release()
            raise

    def _leave(self, ids: list[str], owner: str | None) -> int:
        """Let go of all of them, or of those that a plugin has registered; how many.

        :raises ExceptionGroup: of what kept states from being suspended.
        """
        count = 0
        failures: dict[str, Exception] = {}
        for module_id in dict.fromkeys(ids):
            with self._turns.turn(module_id):
                entry = self._entries.get(module_id)
                if entry is None or not (owner is None or owner in entry.owners):
                    continue
                count += 1
                others = [] if owner is None or entry.functions else [one for one in entry.owners if one != owner]
                if others:
                    entry.owners[:] = others
                else:
                    self._end(entry, failures)
        if failures:
            told = "; ".join(f"{module_id!r}: {error}" for module_id, error in failures.items())
            raise ExceptionGroup(f"what modules know could not be kept: {told}", list(failures.values()))
        return count

    def _end(self, entry: Entry, failures: dict[str, Exception]) -> None:
        try:
            entry.supply.settle(self._settings.wait_seconds)
        except Exception as error:
            error.__traceback__ = None
            failures[entry.module.module_id] = error
            # a receipt has it as well, which nobody sees when a host is closed
            self._context.log.error(
                "what the module %r knows is lost since it was last suspended: %s", entry.module.module_id, error
            )
        self._remove(entry)
        entry.module.close()

    def _remove(self, entry: Entry) -> None:
        with self._lock:
            del self._entries[entry.module.module_id]
        entry.module.is_gone = True
        entry.supply.release()


def _store_of(context: PluginContext) -> Store | None:
    with suppress(ServiceUnavailable):
        return context.store
    return None


def _registration(config: object) -> ModuleConfig | Mapping[str, Any] | None:
    if config is None or isinstance(config, ModuleConfig | Mapping):
        return config
    raise ConfigurationError(
        f"a configuration of a module is {type(config).__name__}",
        step="register",
        advice="Give a ModuleConfig, or a table such as {'max_pages': 64}",
    )


def _id(name: object, digest: bytes) -> str:
    if name is None:
        return digest.hex()[:_ID_DIGITS]
    if not isinstance(name, str) or len(name) > _MOST_NAME or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"a module cannot be called {name!r:.120}",
            step="register",
            advice=f"Give at most {_MOST_NAME} letters, digits and any of . _ @ + - with / between them",
        )
    return name


def _check_same(entry: Entry, digest: bytes, wish: ModuleConfig, functions: Functions) -> None:
    if (digest, wish, functions) != (entry.module.sha256, entry.wish, entry.functions):
        what = "other code" if digest != entry.module.sha256 else "another configuration or other functions"
        raise ConfigurationError(
            f"a module {entry.module.module_id!r} is registered already, with {what}",
            step="register",
            advice="Give this one another name, or unregister that one first",
        )


def _check_state_can_be_kept(module_id: str, facts: ModuleFacts) -> None:
    reasons = list(facts.obstacles)
    if len(facts.memories) > 1:
        reasons.append(f"it has {len(facts.memories)} memories")
    if reasons:
        raise InvalidModule(
            f"the state of the module {module_id!r} cannot be kept whole: {'; '.join(reasons)}",
            step="register",
            advice="Register it without keep_state",
        )
