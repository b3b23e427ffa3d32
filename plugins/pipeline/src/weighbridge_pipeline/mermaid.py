"""A graph as Mermaid draws it: https://mermaid.js.org/syntax/flowchart.html."""

from __future__ import annotations

from collections.abc import Sequence

from .stage import Stage


def draw(stages: Sequence[Stage], needs: Sequence[Sequence[int]]) -> str:
    """One line for each stage and each need. Stages are numbered: their names may have what the syntax does not."""
    lines = ["flowchart TD"]
    for index, stage in enumerate(stages):
        left, right = ("[[", "]]") if stage.undo is not None else ("[", "]")
        lines.append(f'    s{index}{left}"{_escaped(stage.name)}"{right}')
    lines += [f"    s{need} --> s{index}" for index, wanted in enumerate(needs) for need in wanted]
    return "\n".join(lines) + "\n"


def _escaped(name: str) -> str:
    """Entity codes, by number: https://mermaid.js.org/syntax/flowchart.html#entity-codes-to-escape-characters."""
    return "".join(letter if letter.isalnum() or letter in " -_.," else f"#{ord(letter)};" for letter in name)
