"""Which modules are registered, what each may take, and where its uses get their instance."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from typing import Any, Final

import attrs
from weighbridge_hookspecs import (
    ConfigurationError,
    Gate,
    InvalidModule,
    PluginContext,
    ServiceUnavailable,
    Store,
    UnknownModule,
)

from .binary import ModuleFacts, read
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
    functions: Functions | None
    nregistered: int = 1


class Registry:
    """Modules by id. Thread-safe; one registration at a time."""

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
        self._entries: dict[str, Entry] = {}
        self._lock: Final = threading.RLock()

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
            near = get_close_matches(module_id, self._entries, 1) if isinstance(module_id, str) else []
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
        with self._lock:
            facts = read(wasm)
            wish = self._wish(facts, config)
            entry = self._entries.get(module_id)
            if entry is not None:
                self._again(entry, digest, wish, functions)
            else:
                self._entries[module_id] = self._made(module_id, digest, wasm, facts, wish, functions, owner)
            return module_id

    def unregister(self, module_id: str) -> None:
        """See :meth:`.WasmScaling.unregister`."""
        with self._lock:
            entry = self.find(module_id)
            if entry.nregistered == 1:
                entry.supply.settle(self._settings.wait_seconds)
                self._end(entry)
            else:
                entry.nregistered -= 1

    def unregister_of(self, owner: str) -> int:
        """See :meth:`.WasmScaling.unregister_of`."""
        with self._lock:
            gone = [entry for entry in self._entries.values() if entry.module.owner == owner]
            self._end_all(gone)
            return len(gone)

    def configure(self, module_id: str, changes: Mapping[str, Any]) -> ModuleConfig:
        """See :meth:`.WasmScaling.configure`."""
        if fixed := _FIXED.intersection(changes):
            raise ConfigurationError(
                f"{min(fixed)} cannot be changed while the module is registered",
                step="configure",
                advice="Unregister it, and register it anew",
            )
        with self._lock:
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
            self._end_all(self.entries())

    # --- one registration --------------------------------------------------------------------------------------------

    def _wish(self, facts: ModuleFacts, config: object) -> ModuleConfig:
        return self._settings.config_for(facts.custom.get(SECTION), _registration(config))

    def _again(self, entry: Entry, digest: bytes, wish: ModuleConfig, functions: Functions | None) -> None:
        same = (
            digest == entry.module.sha256
            and wish == entry.wish
            and dict(functions or {}) == dict(entry.functions or {})
        )
        if not same:
            what = "other code" if digest != entry.module.sha256 else "another configuration or other functions"
            raise ConfigurationError(
                f"a module {entry.module.module_id!r} is registered already, with {what}",
                step="register",
                advice="Give this one another name, or unregister that one first",
            )
        entry.nregistered += 1

    def _made(
        self,
        module_id: str,
        digest: bytes,
        wasm: bytes,
        facts: ModuleFacts,
        wish: ModuleConfig,
        functions: Functions | None,
        owner: str | None,
    ) -> Entry:
        if wish.keep_state:
            _check_state_can_be_kept(module_id, facts)
        config = self._kept.effective(module_id, wish)
        program = Program(
            self._engine,
            wasm,
            functions=functions,
            wasi=None if config.wasi is None else WasiGrants.read(config.wasi),
            max_pages=config.max_pages,
            max_table_elements=config.max_table_elements,
            resetter=self._resetter,
            compile=partial(self._cache.module, compiler=self._engine),
        )
        try:
            module = Module(module_id, digest, program, config, owner)
            return Entry(module, self._supply(module), wish, functions)
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

    def _end_all(self, entries: list[Entry]) -> None:
        failures = []
        for entry in entries:
            try:
                entry.supply.settle(self._settings.wait_seconds)
            except Exception as error:
                error.__traceback__ = None
                failures.append(error)
            self._end(entry)
        if failures:
            raise ExceptionGroup("what modules know could not be kept", failures)

    def _end(self, entry: Entry) -> None:
        del self._entries[entry.module.module_id]
        entry.supply.release()
        entry.module.close()


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
