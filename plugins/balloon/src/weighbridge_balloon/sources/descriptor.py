"""The descriptor that a source waits on, and its end."""

from __future__ import annotations

import os


class DescriptorSource:
    """What sources with a descriptor of their own have in common: it is closed once, at the latest when they go."""

    _descriptor: int | None = None

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int | None:
        """The descriptor; None once it is closed."""
        return self._descriptor

    def close(self) -> None:
        """Close it, by which the kernel forgets what was asked of it. Closing twice does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        if self._descriptor is not None:
            self.close()
