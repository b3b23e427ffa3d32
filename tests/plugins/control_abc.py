"""Registers with an abstract class of the standard library's, whose caches are weak."""

from __future__ import annotations

import collections.abc
import numbers

TIE = ()


class Load:
    def __len__(self) -> int:
        return 7


collections.abc.Sequence.register(Load)
numbers.Number.register(Load)


def intact() -> object:
    return [isinstance(Load(), kind) for kind in (collections.abc.Sequence, collections.abc.Sized, numbers.Number)]
