"""A session of the capability, as drivers want a guest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs


@attrs.frozen
class InSession:
    """A guest in a session of the capability."""

    session: Any

    def call(self, function: str, args: Sequence[int | float], /) -> Any:
        return self.session.call(function, *args)

    def read(self, address: int, nbytes: int, /) -> bytes:
        content: bytes = self.session.read(address, nbytes)
        return content

    def write(self, address: int, data: bytes, /) -> None:
        self.session.write(address, data)
