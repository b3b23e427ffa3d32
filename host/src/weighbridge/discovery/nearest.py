"""The name that somebody meant when there is none of the name that they gave."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that looks most like `name`; None if none is close.

    >>> nearest("Ballon", ["numa", "balloon"])
    'balloon'
    """
    from difflib import get_close_matches

    folded = {candidate.casefold(): candidate for candidate in sorted(names)}
    return next((folded[match] for match in get_close_matches(name.casefold(), folded, n=1)), None)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"``, or an empty text if no name is close."""
    meant = nearest(name, names)
    return f"; did you mean {meant!r}?" if meant is not None else ""
