"""A module that is ready to run: rewritten so that its state can be reached, compiled, and linked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import wasmtime
from weighbridge_hookspecs import InvalidModule

from .binary import Exposed, FunctionImport, ModuleFacts, expose
from .config import DEFAULT_MAX_PAGES
from .functions import Functions, HostFunctions
from .instance import Instance, Limits, Linked, runs_at_start
from .values import Signature
from .wasi import WasiGrants, imports_wasi

if TYPE_CHECKING:
    from .engine import Engine
    from .reset import Resetter

_WASI: Final = "wasi_snapshot_preview1"


class Program:
    """A module, once compiled and linked, from which instances are made. Close it, or use it in a ``with``.

    :param wasm: the module as bytes in WebAssembly's binary format, or what :func:`.expose` made of them.
    :param functions: host functions by ``"<module>.<name>"``.
    :param wasi: what it is granted of the system; nothing by default.
    :param max_pages: what its memory may grow to, in pages of 65,536 bytes; several have equal parts of it.
    :param max_table_elements: what each table may grow to.
    :param resetter: resets instances in place, where that can be complete; None: every instance is used once.
    :param compile: compiles the rewritten module, such as through a cache; the engine by default.
    :raises InvalidModule: if it is no valid module, wants what nobody provides, or begins above its limits.
    """

    def __init__(
        self,
        engine: Engine,
        wasm: bytes | Exposed,
        *,
        functions: Functions | None = None,
        wasi: WasiGrants | None = None,
        max_pages: int = DEFAULT_MAX_PAGES,
        max_table_elements: int = 10_000,
        resetter: Resetter | None = None,
        compile: Callable[[bytes], wasmtime.Module] | None = None,
    ) -> None:
        self._engine: Final = engine
        exposed = wasm if isinstance(wasm, Exposed) else expose(wasm)
        self.facts: Final[ModuleFacts] = exposed.facts
        self._limits = Limits(max_pages=max_pages, max_table_elements=max_table_elements)
        check_limits(self.facts, self._limits)
        grants = (wasi or WasiGrants()) if imports_wasi(self.facts.function_imports) else None
        provided: dict[str, Callable[..., Any]] = {
            **({} if grants is None else grants.shadows(self.facts.function_imports)),
            **(functions or {}),
        }
        _check_imports(self.facts, provided)
        # held, so that whoever asks the engine for the same code gets this
        self._module: wasmtime.Module | None = (compile or engine.compile)(exposed.wasm)
        module = self._module
        self._linker = wasmtime.Linker(engine.native)
        self._linker.allow_shadowing = True
        if grants is not None:
            grants.define(self._linker)
        host = HostFunctions(engine.seam)
        _define(host, self._linker, module, self.facts, provided)
        self._obstacles: Final = (
            *_obstacles(self.facts, resetter),
            *(() if grants is None else grants.obstacles()),
            *(grants.obstacles_of_start() if grants is not None and runs_at_start(self.facts) else ()),
        )
        self._linked: Linked | None = Linked(
            engine=engine,
            module=_link(self._linker, module),
            facts=self.facts,
            host=host,
            resetter=None if self._obstacles else resetter,
            meter=resetter,
            configure_store=None if grants is None else grants.configure,
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Why its instances are not reset in place, a sentence for each reason; empty if they are.

        Whether its start calls the host is known from the first instance on.
        """
        linked = self._linked
        asked = ("its start calls the host, and keeps what it was told",) if linked and linked.has_asked else ()
        return (*self._obstacles, *asked)

    @property
    def limits(self) -> Limits:
        """What new instances may grow to."""
        return self._limits

    @property
    def code_bytes(self) -> int | None:
        """What its machine code takes; None where the engine does not tell, 0 once it is closed."""
        module = self._module  # once: another thread may close the program
        return 0 if module is None else self._engine.code_bytes(module)

    def set_limits(self, limits: Limits) -> None:
        """Set what new instances may grow to; those that live have :meth:`.Instance.set_limits`.

        :raises InvalidModule: if the module begins above it.
        """
        check_limits(self.facts, limits)
        self._limits = limits

    def signature(self, function: str) -> Signature:
        """The type of an exported function.

        :raises UnknownFunction: if there is none of that name.
        """
        return self._open().signature(function)

    def instantiate(self, *, deadline_seconds: float | None = None, fuel: int | None = None) -> Instance:
        """Make an instance, and run its start function.

        :param deadline_seconds: what the start may take; see :meth:`.Instance.call`.
        :param fuel: what the start may use.
        :raises WorkError: if the start does not come to its end.
        """
        return Instance(self._open(), self._limits, deadline_seconds=deadline_seconds, fuel=fuel)

    def close(self) -> None:
        """Let go of the host functions and of the code. Twice is once.

        Of an instance that lives still the next call of a host function fails, and the code goes with the last one.
        """
        linked, self._linked, self._module = self._linked, None, None
        if linked is None:
            return
        linked.host.close()
        # not what is linked: the engine may be at work in it, in a thread that makes an instance
        self._linker.close()

    def _open(self) -> Linked:
        if self._linked is None:
            raise ValueError("the program is closed")
        return self._linked


def check_limits(facts: ModuleFacts, limits: Limits) -> None:
    """Whether a module begins within its limits.

    :raises InvalidModule: if it does not.
    """
    for memory in facts.memories:
        if memory.is_shared:
            # Neither its limit nor a deadline would hold: https://docs.rs/wasmtime/latest/wasmtime/struct.SharedMemory.html
            # is outside of every store's limits, and memory.atomic.wait32 blocks where no epoch is looked at.
            raise InvalidModule(
                "the module shares its memory between threads, and such a memory cannot be limited",
                step="link",
                advice="Build the module without threads",
            )
        if memory.minimum_pages * memory.page_bytes > limits.memory_bytes(len(facts.memories)):
            among = f" for {len(facts.memories)} memories" if len(facts.memories) > 1 else ""
            raise InvalidModule(
                "the module begins with more memory than it may have",
                step="link",
                wanted=f"{memory.minimum_pages} pages",
                had=f"max_pages = {limits.max_pages}{among}",
                advice="Raise max_pages, or build the module with a smaller memory",
            )
    for table in facts.tables:
        if table.minimum > limits.max_table_elements:
            raise InvalidModule(
                "the module begins with a larger table than it may have",
                step="link",
                wanted=f"{table.minimum} elements",
                had=f"max_table_elements = {limits.max_table_elements}",
            )


def _check_imports(facts: ModuleFacts, provided: Mapping[str, Any]) -> None:
    missing = [f"function {name_of(each)}" for each in facts.function_imports if not _is_there(each, provided)]
    missing.extend(f"global {each.module}.{each.name} ({each.type})" for each in facts.global_imports)
    missing.extend(f"{each.kind} {each.module}.{each.name}" for each in facts.other_imports)
    if missing:
        raise InvalidModule(
            f"the module wants what nobody provides: {', '.join(missing)}",
            step="link",
            advice='Pass host functions by "<module>.<name>"',
        )


def _is_there(wanted: FunctionImport, provided: Mapping[str, Any]) -> bool:
    return wanted.module == _WASI or f"{wanted.module}.{wanted.name}" in provided


def name_of(wanted: FunctionImport) -> str:
    """An import with its type, for people."""
    return str(Signature(f"{wanted.module}.{wanted.name}", wanted.type.params, wanted.type.results))


def _define(
    host: HostFunctions,
    linker: wasmtime.Linker,
    module: wasmtime.Module,
    facts: ModuleFacts,
    provided: Mapping[str, Callable[..., Any]],
) -> None:
    kinds = {(each.module, each.name): each.type for each in module.imports}
    wanted = {(each.module, each.name): each for each in facts.function_imports}
    for names, each in wanted.items():
        dotted = f"{each.module}.{each.name}"
        kind = kinds[names]
        if dotted in provided and isinstance(kind, wasmtime.FuncType):
            signature = Signature(dotted, each.type.params, each.type.results)
            try:
                host.define(linker, names, kind, signature, provided[dotted])
            except TypeError as error:
                raise InvalidModule(f"the module wants a function that cannot be given: {error}", step="link") from None


def _link(linker: wasmtime.Linker, module: wasmtime.Module) -> wasmtime.InstancePre:
    try:
        return linker.instantiate_pre(module)
    except wasmtime.WasmtimeError as error:
        raise InvalidModule(f"the module cannot be linked: {error}", step="link") from None


def _obstacles(facts: ModuleFacts, resetter: Resetter | None) -> tuple[str, ...]:
    if resetter is None:
        return (*facts.obstacles, "instances are not to be reset")
    sizes = [each.minimum_pages * each.page_bytes for each in facts.memories]
    if all(map(resetter.is_worthwhile, sizes)):
        return facts.obstacles
    return (*facts.obstacles, f"on this machine ({resetter.strategy}) a fresh instance is cheaper than to reset one")
