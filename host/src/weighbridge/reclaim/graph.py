"""A drawing of who holds what, in the language of Graphviz. Needs objgraph, which nothing else here does.

objgraph writes labels with the ``repr`` of what it draws: that runs code of strangers, so it has to be done where
nobody else suffers from it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import FrameType

import objgraph

from .chains import ways
from .names import name_of


def draw(things: Sequence[object], *, seconds: float = 2.0, too_many: int = 10) -> str:
    """The shortest way from a root to each of `things`, as a directed graph in DOT; empty if none has a root.

    It has no more nodes than the ways have steps, and at most `too_many` arrows leave a node. The objects on the ways
    are alive until it is drawn. A running frame is left out, for the collector does not know what it holds.

    https://graphviz.org/doc/info/lang.html, https://objgraph.readthedocs.io/en/stable/objgraph.html#objgraph.show_refs

    :param seconds: give up looking for ways after that long.
    """
    found = [[thing for thing in way if type(thing) is not FrameType] for way in ways(things, seconds=seconds)]
    found = [way for way in found if len(way) > 1]
    if not found:
        return ""
    text = io.StringIO()
    wanted = {id(thing) for thing in things}
    shown = {id(thing) for way in found for thing in way}
    # forwards, along what each object refers to: backwards each node would cost a walk over the whole heap
    objgraph.show_refs(
        list({id(way[0]): way[0] for way in found}.values()),
        max_depth=max(map(len, found)) - 1,
        too_many=too_many,
        filter=lambda thing: id(thing) in shown,
        highlight=lambda thing: id(thing) in wanted,
        extra_info=name_of,
        output=text,
    )
    return text.getvalue()
