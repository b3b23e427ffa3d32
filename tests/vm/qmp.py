"""QEMU's own protocol: the outside of the machine, where the hypervisor is asked for memory.

https://www.qemu.org/docs/master/interop/qmp-spec.html
"""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import attrs


class QmpFailed(Exception):
    """QEMU refused a command."""


@attrs.define
class Qmp:
    """One conversation with a QEMU."""

    _socket: socket.socket
    _lines: Any = attrs.field(init=False)

    @classmethod
    def connect(cls, path: Path, seconds: float) -> Qmp:
        """Greet the QEMU that listens there."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(seconds)
        connection.connect(str(path))
        conversation = cls(connection)
        conversation._receive()
        conversation.ask("qmp_capabilities")
        return conversation

    def __attrs_post_init__(self) -> None:
        self._lines = self._socket.makefile("rw", encoding="utf-8", newline="\n")

    def ask(self, command: str, **arguments: object) -> Any:
        """What a command returns.

        :raises QmpFailed: QEMU says why, or is gone.
        """
        try:
            self._lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            self._lines.flush()
            while "event" in (reply := self._receive()):
                pass
        except OSError as problem:
            raise QmpFailed(f"{command}: QEMU is gone: {problem}") from None
        if "return" not in reply:
            raise QmpFailed(f"{command}: {reply}")
        return reply["return"]

    def set_memory(self, nbytes: int) -> None:
        """Ask the guest, by its balloon, to make do with so much. Returns before it does."""
        self.ask("balloon", value=nbytes)

    def memory(self) -> int:
        """Bytes that the balloon leaves to the guest now."""
        return int(self.ask("query-balloon")["actual"])

    def close(self) -> None:
        """Hang up."""
        # What was not sent any more is of no interest.
        with contextlib.suppress(OSError):
            self._lines.close()
        self._socket.close()

    def _receive(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise QmpFailed("QEMU has hung up")
        reply: dict[str, Any] = json.loads(line)
        return reply
