"""What a kernel lets a process do with memory, in words."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

Pages: TypeAlias = Literal["ordinary", "transparent", "reserved"]
"""Small pages; huge ones if the kernel finds some (it was asked); huge ones of the pool that the operator reserved."""


@attrs.frozen(kw_only=True)
class Abilities:
    """What the kernel lets this process do with nodes, and how that is known."""

    can_bind: bool
    """Whether memory can be asked for on a node."""
    can_ask: bool
    """Whether the kernel says where memory is."""
    evidence: str

    @property
    def mode(self) -> Literal["read-write", "read-only"]:
        """``"read-only"``: the topology is known, but memory comes from wherever the kernel takes it."""
        return "read-write" if self.can_bind and self.can_ask else "read-only"
