"""Pipelines by the words of a command line: ``package.module:name`` or ``file.py:name``. It needs click."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import click
from weighbridge_hookspecs import WeighbridgeError

from .build import Builder
from .graph import Pipeline

PREFIX: Final = "weighbridge_pipeline_file_"
"""Before the name of a file's module, so that it stands in nobody's way."""


@contextmanager
def opened(text: str) -> Iterator[Pipeline]:
    """The pipeline that was meant. Inside, its code finds what lies beside it, as with ``python`` and ``python -m``.

    :param text: a module or a file that ends in ``.py``, and behind a colon the name of a pipeline, a builder, or a
        function without arguments that gives one of these. Without a name there has to be one and no more.
    :raises click.UsageError: if there is none, or its module cannot be imported.
    :raises InvalidPipeline: if a builder's stages make no pipeline.
    """
    where, name = (text, "") if text.endswith(".py") else _split(text)
    is_file = where.endswith(".py")
    folder = str(Path(where).resolve().parent) if is_file else str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        module = _import_file(Path(where)) if is_file else _import(where)
        yield _made(_meant(where, name, vars(module)), text)
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
        if is_file:
            sys.modules.pop(PREFIX + Path(where).stem, None)


def _split(text: str) -> tuple[str, str]:
    """At the last colon: on Windows a path may have one more."""
    where, separator, name = text.rpartition(":")
    return (where, name) if separator else (name, "")


def _import(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise click.UsageError(f"{name!r} is no module; give package.module:name or file.py:name")
    try:
        return importlib.import_module(name)
    except WeighbridgeError:
        raise
    except (Exception, SystemExit) as error:
        problem = _cannot_be_imported(name, error)
    raise problem


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise click.UsageError(f"{path}: there is no such file")
    spec = importlib.util.spec_from_file_location(PREFIX + path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # before it runs: attrs and pickle look there for their classes
    try:
        spec.loader.exec_module(module)
    except WeighbridgeError:
        raise
    except (Exception, SystemExit) as error:
        problem = _cannot_be_imported(path, error)
    else:
        return module
    raise problem


def _cannot_be_imported(what: object, error: BaseException) -> click.UsageError:
    return click.UsageError(f"{what} cannot be imported: {type(error).__name__}: {error}")


def _meant(where: str, name: str, namespace: Mapping[str, Any]) -> Any:
    offered: dict[str, Any] = {one: value for one, value in namespace.items() if isinstance(value, Pipeline)}
    offered = offered or {one: value for one, value in namespace.items() if isinstance(value, Builder)}
    if name:
        if name in namespace:
            return namespace[name]
        near = difflib.get_close_matches(name, offered or namespace, 1)
        advice = f". Did you mean {near[0]}?" if near else _offer(offered)
        raise click.UsageError(f"{where} has no {name!r}{advice}")
    if len({id(value) for value in offered.values()}) != 1:
        count = "more than one pipeline" if offered else "no pipeline"
        raise click.UsageError(f"{where} has {count}; say which, as in {where}:name{_offer(offered)}")
    return next(iter(offered.values()))


def _offer(offered: Mapping[str, Any]) -> str:
    return f". It has {', '.join(sorted(offered))}" if offered else ""


def _made(thing: Any, text: str) -> Pipeline:
    """A pipeline of what makes one."""
    if callable(thing) and not isinstance(thing, type):
        try:
            thing = thing()
        except WeighbridgeError:
            raise
        except Exception as error:
            thing, problem = None, click.UsageError(f"{text} raised {type(error).__name__}: {error}")
        else:
            problem = click.UsageError(f"{text} gave {type(thing).__name__}, and no pipeline")
    else:
        problem = click.UsageError(f"{text} is {type(thing).__name__}, and no pipeline")
    if isinstance(thing, Builder):
        thing = thing.build()
    if isinstance(thing, Pipeline):
        return thing
    raise problem
