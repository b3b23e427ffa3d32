"""Why a call did not come to its end, as errors of the contract."""

from __future__ import annotations

import re
from typing import Final

import wasmtime
from weighbridge_hookspecs import DeadlineExceeded, OutOfFuel, Trapped, WorkError

_FRAME: Final = re.compile(r"^\s+0:\s+(?:0x[0-9a-f]+ - )?(.+)$", re.MULTILINE)
_NUMBER: Final = re.compile(r"^\d+: ")


class Exited(Exception):
    """A WASI program ended itself, with ``proc_exit``: not a failure, and its instance is not used again.

    :param code: the exit code that it gave, 0 for success.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"the module exited with code {self.code}"


def from_trap(code: int | None, text: str) -> WorkError:
    """The error that stands for a trap.

    :param code: the trap's number (``wasmtime_trap_code_t``); None for a trap that somebody else than the engine made.
    :param text: the engine's words, with the trace of the stack.
    """
    name = _name_of(code)
    if name == "OUT_OF_FUEL":
        return OutOfFuel("the call used up its fuel", step="call")
    if name == "INTERRUPT":
        return DeadlineExceeded("the call did not end in time and was stopped")
    return Trapped(_words(text), code=name)


def from_error(text: str) -> WorkError:
    """The error that stands for what the engine refused to do, such as to map one more memory."""
    return WorkError(_words(text), step="call")


def lost() -> WorkError:
    """The error that stands for a trap whose reason was taken by another call, which only the public API lets happen.

    https://github.com/bytecodealliance/wasmtime-py/issues/254
    """
    return Trapped("the call trapped; its reason was lost to another call that failed at the same moment")


def _name_of(code: int | None) -> str | None:
    if code is None:
        return None
    try:
        return wasmtime.TrapCode(code).name
    except ValueError:  # a trap that this wasmtime-py has no word for
        return f"TRAP_{code}"


def _words(text: str) -> str:
    """The causes, the general one last, and the innermost frame: the rest of the trace says little and is long."""
    trace, _, causes = text.partition("Caused by:")
    lines = [_NUMBER.sub("", line.strip()) for line in (causes or trace).splitlines()]
    cause = "; ".join(line for line in lines if line)
    frame = _FRAME.search(trace) if causes else None
    return f"{cause}, in {frame[1]}" if frame else cause
