"""A plugin for the pages: it provides buffers."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

from weighbridge_hookspecs import Buffer, Fact, PluginContext, Terminal, hookimpl


# snippet: allocate
class MappedBuffer:
    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, size)
        self.nbytes = size
        self.node: int | None = None

    def view(self) -> memoryview:
        return memoryview(self._map)

    def release(self) -> None:
        self._map.close()


class Arena:
    def __init__(self, context: PluginContext) -> None:
        pass

    @hookimpl
    def weighbridge_allocate_buffer(self, size: int, node: int | None) -> Buffer | None:
        return MappedBuffer(size) if node is None else None

    # end snippet
    # snippet: examine
    @hookimpl
    def weighbridge_examine(self) -> list[Fact]:
        where = Path("/sys/kernel/mm/transparent_hugepage/enabled")
        try:
            setting = where.read_text(encoding="ascii")
        except OSError as error:
            return [Fact(subject="huge pages", finding=None, evidence=f"{where}: {error.strerror}")]
        chosen = setting.partition("[")[2].partition("]")[0]
        return [Fact(subject="huge pages", finding=chosen or None, evidence=f"{where} says {setting.strip()!r}")]

    # end snippet
    # snippet: command
    @hookimpl
    def weighbridge_command(self, arguments: Sequence[str], terminal: Terminal) -> int:
        if arguments not in ((), ("--json",)):
            terminal.complain(f"arena: wanted nothing or --json, had {' '.join(arguments)}")
            return 2
        facts = self.weighbridge_examine()
        if arguments:
            terminal.print_json({"facts": facts})
        else:
            terminal.print_table(("subject", "found"), [(one.subject, one.finding or "unknown") for one in facts])
        return 0

    # end snippet
