"""What outlived a plugin, and what holds it, in words."""

from __future__ import annotations

from typing import Final

from .chains import Chain, explain
from .names import qualified
from .receipt import Survivor
from .watch import Watched

_ENDLESS: Final = "a thread that does not end"


def explained(alive: list[Watched], *, seconds: float) -> list[Survivor]:
    """A survivor for each of `alive`, with the shortest chain of references that holds it.

    :param seconds: how long to search.
    """
    if not alive:
        return []
    things = [one.reference() for one in alive]
    try:
        chains = explain(things, seconds=seconds)
    except Exception as error:  # the search looks at everything there is, strangers' objects among it
        chains = [Chain((), f"not known: the search raised {qualified(type(error))}")] * len(alive)
    del things
    return [
        Survivor(kind=one.kind, name=one.name, tie=_ENDLESS if one.kind == "thread" else chain.tie, chain=chain.steps)
        for one, chain in zip(alive, chains, strict=True)
    ]
