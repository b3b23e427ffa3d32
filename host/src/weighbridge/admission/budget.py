"""The budget: pure arithmetic over the ceiling, what is in use, and what was promised. No I/O."""

from __future__ import annotations

import attrs


def _natural(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    _check(attribute.name, value)


def _check(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} has to be a whole number of bytes from 0 up, not {value!r}")


@attrs.frozen(kw_only=True)
class Budget:
    """How much there is, how much of it is in use, and how much is promised to plugins but not in use yet.

    All three are bytes. A budget never changes: taking a share and returning it give a new one.
    """

    ceiling_bytes: int = attrs.field(validator=_natural)
    usage_bytes: int = attrs.field(validator=_natural)
    promised_bytes: int = attrs.field(default=0, validator=_natural)

    @property
    def headroom_bytes(self) -> int:
        """What is left for others; below 0 when more is in use or promised than the ceiling allows."""
        return self.ceiling_bytes - self.usage_bytes - self.promised_bytes

    def admits(self, needs_bytes: int) -> bool:
        """Whether `needs_bytes` more fit under the ceiling."""
        return needs_bytes <= self.headroom_bytes

    def shortfall_bytes(self, needs_bytes: int) -> int:
        """How much would have to be released before `needs_bytes` fit; 0 if they fit now."""
        return max(0, needs_bytes - self.headroom_bytes)

    def promise(self, share_bytes: int) -> Budget:
        """The budget with `share_bytes` more promised.

        :raises ValueError: if `share_bytes` is no number of bytes.
        """
        _check("share_bytes", share_bytes)
        return attrs.evolve(self, promised_bytes=self.promised_bytes + share_bytes)

    def take_back(self, share_bytes: int) -> Budget:
        """The budget with a promise of `share_bytes` returned.

        :raises ValueError: if less than that is promised, or it is no number of bytes.
        """
        _check("share_bytes", share_bytes)
        if share_bytes > self.promised_bytes:
            raise ValueError(f"{share_bytes} bytes cannot be taken back of {self.promised_bytes} that are promised")
        return attrs.evolve(self, promised_bytes=self.promised_bytes - share_bytes)


def unused_promise(peak_bytes: int | None, held_bytes: int) -> int:
    """What a plugin may still take of the peak that it declared; 0 if it declared none or is past it."""
    return max(0, (peak_bytes or 0) - held_bytes)
