"""Programs of modules from npm, each compiled once for a run of tests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import attrs

from weighbridge_wasm.compiled import CompiledCache
from weighbridge_wasm.engine import Engine
from weighbridge_wasm.program import Program
from weighbridge_wasm.reset import Resetter, open_resetter

from .catalogue import Module
from .drivers.driver import Driver

MAX_PAGES: Final = 1_234
"""More than each module begins with, so that all that may grow can."""


@attrs.define(eq=False)
class Workshop:
    """An engine, a resetter and what was made with them."""

    engine: Engine
    resetter: Resetter
    compiled: CompiledCache
    code: Callable[[Module], bytes]
    _programs: ExitStack
    _made: dict[Module, Program] = attrs.field(factory=dict)

    def program(self, driver: Driver) -> Program:
        """The program of a driver's module, with what the driver answers to it."""
        if driver.module not in self._made:
            program = Program(
                self.engine,
                self.code(driver.module),
                functions=driver.functions,
                max_pages=MAX_PAGES,
                resetter=self.resetter,
                compile=lambda wasm: self.compiled.module(wasm, self.engine),
            )
            self._made[driver.module] = self._programs.enter_context(program)
        return self._made[driver.module]


@contextmanager
def workshop(
    folder: Path, code: Callable[[Module], bytes], *, private: bool = True, without: Collection[str] = ()
) -> Iterator[Workshop]:
    """Open one; everything is closed when the context ends.

    :param folder: where compiled modules are kept.
    :param code: gives the bytes of a module.
    :param private: whether the private names of wasmtime-py are used.
    :param without: ways to reset that are switched off, by name.
    """
    with ExitStack() as stack:
        engine = stack.enter_context(Engine(private=private))
        resetter = stack.enter_context(open_resetter(without))
        programs = stack.enter_context(ExitStack())
        yield Workshop(engine, resetter, CompiledCache(folder, log=logging.getLogger(__name__)), code, programs)
