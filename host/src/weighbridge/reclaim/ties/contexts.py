"""Values of context variables."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any

from ..belongings import Belongings
from ..holders import strangers
from ..names import name_of, short
from .tie import Hold, Tie


class ContextValues(Tie):
    """A context remembers every value that was set in it, for as long as a thread, task or handle has it."""

    name = "context variable"
    sentence = "a context variable still has a value of the plugin's in some context"
    kinds = (Context,)

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A variable in one context each.

        A value cannot be taken out of a context without the token of its setting: it is set to the default instead.
        """
        found = [
            (context, variable, value)
            for context in belongings.heap.get(Context, ())
            for variable, value in context.items()
            if value in belongings
        ]
        where = strangers(found, belongings)
        for context, variable, value in found:
            if id(context) in where:
                cut = partial(_reset, context, variable, value)
                place = f"contextvars.Context[{short(variable.name)}]"
                yield Hold(place=place, held=name_of(value), cut=cut, note=_NOTE)


_NOTE = "it was set to the variable's default, or to None where it has none"


def _reset(context: Context, variable: ContextVar[Any], value: object) -> None:
    default = Context().run(variable.get, None)
    try:
        context.run(variable.set, default)
        return
    except RuntimeError:  # it is entered: by this thread, which can set the value at once, or by another
        if copy_context().get(variable) is not value:
            raise
    variable.set(default)
    if context.get(variable) is value:
        raise RuntimeError("another thread is inside that context")
