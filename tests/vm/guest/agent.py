"""Does in the guest what it is asked to on a serial line, one JSON object a line, and answers in the same way.

A question is ``{"call": "module:function", "with": {...}}``. The function runs in a process of its own, which may send
``{"event": ...}`` any number of times; the answer is ``{"result": ...}``, ``{"error": "traceback"}``, or
``{"killed": signal}`` if the kernel put an end to it. When the line ends, so does the agent.
"""

from __future__ import annotations

import json
import os
import select
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Any, BinaryIO

import attrs


@attrs.frozen
class Line:
    """The serial line, both ways."""

    stream: BinaryIO

    def send(self, **message: object) -> None:
        """Send an object."""
        self.stream.write(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """The next object; None when the line has ended."""
        text = self.stream.readline()
        message: dict[str, Any] | None = json.loads(text) if text else None
        return message

    def event(self, name: str, **facts: object) -> None:
        """Tell something while a function is running."""
        self.send(event=name, **facts)

    def is_asked(self, seconds: float = 0) -> bool:
        """Whether something arrives within that time."""
        return bool(select.select([self.stream], [], [], seconds)[0])


def main() -> None:
    """Answer until told to leave."""
    spare("-1000")
    with open(sys.argv[1], "r+b", buffering=0) as stream:
        line = Line(stream)
        line.event("up", pid=os.getpid())
        while (message := line.receive()) is not None and "leave" not in message:
            # What a function was told after its end is nobody's.
            if "call" in message:
                answer(line, message)


def answer(line: Line, message: Mapping[str, Any]) -> None:
    """Run what is asked for in a child, and send what became of it if the child cannot any more."""
    child = os.fork()
    if child == 0:
        run(line, message)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        line.send(killed=os.WTERMSIG(status))


def run(line: Line, message: Mapping[str, Any]) -> None:
    """In the child: call, send the result, and end."""
    spare("0")
    try:
        module, _, name = message["call"].partition(":")
        line.send(result=getattr(import_module(f"guest.{module}"), name)(line, **message.get("with", {})))
    except BaseException:
        line.send(error=traceback.format_exc())
    finally:
        os._exit(0)


def spare(score: str) -> None:
    """Whether the kernel may kill this process for lack of memory: never with -1000, as any other with 0 (proc(5))."""
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(score)


if __name__ == "__main__":
    main()
