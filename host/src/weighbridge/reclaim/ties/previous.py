"""What stood in a slot before the plugin took it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any, Final

from ..belongings import Belongings
from ..names import namespace_of

_VARARGS: Final = 4
"""``inspect.CO_VARARGS``: a function that takes any number of arguments."""


def previous(hook: object, default: object, belongings: Belongings, fits: Callable[[object], bool]) -> Any:
    """The hook that `hook` visibly wraps and that is not the plugin's, else `default`.

    Looked for in ``__wrapped__``, in the closure, in the defaults, among the globals that its code names, and, for a
    method or an instance, among the attributes of the instance.

    :param hook: the plugin's, which is to go.
    :param fits: whether something could stand in this slot: any helper may be kept beside the hook that was replaced.
    """
    for held in _kept(hook):
        if held is default or (fits(held) and held not in belongings):
            return held
    return default


def takes(count: int) -> Callable[[object], bool]:
    """Whether something is a function of that many positional arguments, or of any number."""

    def fits(thing: object) -> bool:
        if type(thing) is not FunctionType:
            return False
        code = thing.__code__
        return bool(code.co_flags & _VARARGS) or code.co_argcount == count

    return fits


def _kept(hook: Any) -> Iterator[object]:
    function = hook.__func__ if type(hook) is MethodType else hook
    if type(hook) is MethodType:
        yield from list(namespace_of(hook.__self__).values())
    if type(function) is not FunctionType:
        yield from list(namespace_of(hook).values())
        return
    yield namespace_of(function).get("__wrapped__")
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from function.__defaults__ or ()
    yield from [function.__globals__.get(name) for name in function.__code__.co_names]
