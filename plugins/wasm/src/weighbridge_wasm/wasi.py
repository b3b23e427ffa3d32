"""WASI preview 1, with nothing granted by default: no file, no environment, no clock, no randomness, no output.

A module that was given nothing still links and starts: it finds no arguments and an empty environment, its input is at
its end, and its output goes nowhere. What it may not know or touch answers with an ``errno`` of the specification:
``notcapable`` for clocks, waiting and randomness, ``badf`` for files, since it has none open. Zeros in place of random
bytes would make keys that anybody knows.

https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs
import wasmtime
from weighbridge_hookspecs import ConfigurationError

from .clocks import Clocks

MODULE: Final = "wasi_snapshot_preview1"
ENOTCAPABLE: Final = 76
"""``errno`` notcapable: the capabilities are insufficient."""
INHERIT: Final = "inherit"
"""In place of a path: the stream of this process."""

_TIME: Final = frozenset({"clock_res_get", "clock_time_get", "poll_oneoff"})
_RANDOM: Final = frozenset({"random_get"})
_STREAMS: Final = ("stdin", "stdout", "stderr")


class Import(Protocol):
    """A function that a module imports."""

    @property
    def module(self) -> str:
        """The first half of its name."""

    @property
    def name(self) -> str:
        """The second half of its name."""


@attrs.frozen(kw_only=True)
class Shadow:
    """A function that stands in the place of one of wasmtime's."""

    function: Callable[..., int]
    wants_memory: bool = False
    """Whether its first argument is the instance that calls, a :class:`~.clocks.Calling`."""
    is_constant: bool = False
    """Whether it always answers the same."""

    def __call__(self, *arguments: Any) -> int:
        """Its ``errno``."""
        return self.function(*arguments)


# --- what is granted --------------------------------------------------------------------------------------------------


def _text(value: object, key: str, *, empty: bool = True) -> str:
    """A string that can be handed to C as UTF-8."""
    if not isinstance(value, str):
        raise _refused(key, value, "text")
    if "\0" in value or (not value and not empty):
        raise _refused(key, value, "text without NUL" if value else "text that is not empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refused(key, value, "text that UTF-8 can say") from None
    return value


def _check_flag(record: object, attribute: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise _refused(attribute.name, value, "true or false")


def _check_stream(record: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is not None:
        _text(value, attribute.name, empty=False)


def _refused(key: str, value: object, wanted: str) -> ConfigurationError:
    return ConfigurationError(f"wasi: {key} is {value!r}", wanted=wanted)


def _sequence(value: object, key: str) -> tuple[Any, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise _refused(key, value, "a list")
    return tuple(value)


def _mapping(value: object, key: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise _refused(key, value, "a table")
    return value


def _read_guest(value: object) -> str:
    return _text(value, "folders: guest", empty=False)


def _read_host(value: object) -> str:
    return os.path.abspath(_text(value, "folders: host", empty=False))


@attrs.frozen(kw_only=True)
class Folder:
    """A folder that a module may open. It cannot leave it: neither by ``..`` nor by a link."""

    guest: str = attrs.field(converter=_read_guest)
    """Under which name the module finds it, such as ``"/data"``."""
    host: str = attrs.field(converter=_read_host)
    """The folder itself; a relative path is looked up when the grant is made."""
    writable: bool = attrs.field(default=False, validator=_check_flag)
    """Whether files may be made, changed and removed in it."""

    @classmethod
    def read(cls, value: object) -> Folder:
        """From a table with ``guest``, ``host`` and perhaps ``writable``.

        :raises ConfigurationError: if it is something else.
        """
        if isinstance(value, cls):
            return value
        table = _mapping(value, "folders")
        _check_keys(table, cls, "folders: ")
        if missing := [key for key in ("guest", "host") if key not in table]:
            raise ConfigurationError(f"wasi: folders: no {missing[0]}", wanted="guest and host")
        return cls(**table)


def _count(pairs: Mapping[str, str]) -> str:
    return f"<{len(pairs)}>"


def _read_arguments(value: object) -> tuple[str, ...]:
    return tuple(_text(text, "arguments") for text in _sequence(value, "arguments"))


def _read_environment(value: object) -> Mapping[str, str]:
    items = _mapping(value, "environment").items()
    names = [_text(name, "environment", empty=False) for name, _ in items]
    if bad := [name for name in names if "=" in name]:
        raise _refused("environment", bad[0], "a name without =")
    return {name: _secret(text, f"environment: {name}") for name, text in items}


def _secret(value: object, key: str) -> str:
    """As :func:`_text`, with errors that do not show it."""
    try:
        return _text(value, key)
    except ConfigurationError as error:
        problem = ConfigurationError(
            f"wasi: {key} is a {type(value).__name__} that cannot be used", wanted=error.wanted
        )
    raise problem


def _read_folders(value: object) -> tuple[Folder, ...]:
    folders = tuple(map(Folder.read, _sequence(value, "folders")))
    names = [folder.guest for folder in folders]
    if twice := [name for name in names if names.count(name) > 1]:
        raise _refused("folders: guest", twice[0], "a name for each folder")
    return folders


@attrs.frozen(kw_only=True)
class WasiGrants:
    """What a module may see of the world. By default it is nothing.

    :raises ConfigurationError: if a value makes no sense; it names the key and what was wanted.
    """

    arguments: tuple[str, ...] = attrs.field(default=(), converter=_read_arguments)
    """The command line; by custom the first is the name of the program."""
    environment: Mapping[str, str] = attrs.field(factory=dict, converter=_read_environment, repr=_count, hash=False)
    """Variables, of which nothing is printed: they may be secrets."""
    folders: tuple[Folder, ...] = attrs.field(default=(), converter=_read_folders)
    clock: bool = attrs.field(default=False, validator=_check_flag)
    """Whether it may know the time, and wait."""
    random: bool = attrs.field(default=False, validator=_check_flag)
    """Whether it gets random bytes, from the operating system."""
    stdin: str | None = attrs.field(default=None, validator=_check_stream)
    """A file, ``"inherit"``, or None: at its end from the beginning."""
    stdout: str | None = attrs.field(default=None, validator=_check_stream)
    """A file, which each use of an instance begins anew, ``"inherit"``, or None: it goes nowhere."""
    stderr: str | None = attrs.field(default=None, validator=_check_stream)
    """As `stdout`."""

    @classmethod
    def read(cls, value: object) -> WasiGrants:
        """From a table with the fields as keys; None grants nothing.

        :raises ConfigurationError: for a key that there is not, naming the nearest, and for values as above.
        """
        if value is None or isinstance(value, cls):
            return value or cls()
        table = _mapping(value, "wasi")
        _check_keys(table, cls, "")
        return cls(**table)

    def to_mapping(self) -> dict[str, Any]:
        """As :meth:`read` takes it, made of what JSON knows; fields with their defaults are left out."""
        table = attrs.asdict(self, recurse=False, filter=lambda field, value: value != getattr(_NOTHING, field.name))
        if self.arguments:
            table["arguments"] = list(self.arguments)
        if self.environment:
            table["environment"] = dict(self.environment)
        if self.folders:
            table["folders"] = [attrs.asdict(folder) for folder in self.folders]
        return table

    def in_words(self) -> tuple[str, ...]:
        """What is granted, for people: no value of the environment is in it."""
        counted = (("argument", self.arguments), ("variable", self.environment))
        lines = [f"{len(given)} {noun}{'s' * (len(given) != 1)}" for noun, given in counted if given]
        lines += [f"{folder.guest} ({'writable' if folder.writable else 'read-only'})" for folder in self.folders]
        lines += [name for name in ("clock", "random") if getattr(self, name)]
        return (*lines, *(f"{name}: {getattr(self, name)}" for name in _STREAMS if getattr(self, name)))

    def obstacles(self) -> tuple[str, ...]:
        """Why an instance with these grants cannot be reset in place, in words.

        Folders and files are opened when an instance is made, so that each use finds what is there then, and has the
        error if it is nothing. A context that is made at a reset would be one use too early for that: it would also
        empty a file right after the use that wrote to it, and keep all of them open until the next.
        """
        files = [name for name in _STREAMS if getattr(self, name) not in (None, INHERIT)]
        opened = [
            *(f"the folder {folder.guest}" for folder in self.folders),
            *(f"the file for {name}" for name in files),
        ]
        return tuple(f"{what} is opened anew for each use" for what in opened)

    def obstacles_of_start(self) -> tuple[str, ...]:
        """Why an instance whose start runs code cannot be reset in place: what it was told was for it alone."""
        told = {"random bytes": self.random, "what it read of stdin": self.stdin == INHERIT}
        return tuple(f"{what} may be in it since its start" for what, is_granted in told.items() if is_granted)

    # --- linking ------------------------------------------------------------------------------------------------------

    def define(self, linker: wasmtime.Linker) -> None:
        """Have `linker` know all of preview 1; what is defined later takes the place of it."""
        linker.allow_shadowing = True
        linker.define_wasi()

    def shadows(self, imports: Iterable[Import]) -> dict[str, Shadow]:
        """By full name, what is to stand in the place of wasmtime's own functions, of those in `imports`.

        They give an ``errno``. Only waiting raises: see :meth:`.clocks.Clocks.poll_oneoff`.
        """
        ours = self._refusals() | (self._clock_functions() if self.clock else {})
        names = [imported.name for imported in imports if imported.module == MODULE]
        return {f"{MODULE}.{name}": ours[name] for name in names if name in ours}

    def _refusals(self) -> dict[str, Shadow]:
        refused = (_TIME if not self.clock else frozenset()) | (_RANDOM if not self.random else frozenset())
        return dict.fromkeys(refused, Shadow(function=_refuse, is_constant=True))

    def _clock_functions(self) -> dict[str, Shadow]:
        clocks = Clocks()
        named: dict[str, Callable[..., int]] = {
            "clock_time_get": clocks.clock_time_get,
            "poll_oneoff": clocks.poll_oneoff,
        }
        return {name: Shadow(function=function, wants_memory=True) for name, function in named.items()}

    def configure(self, store: wasmtime.Store) -> None:
        """Give `store` a new context: what an earlier one had open is closed, files are at their beginning.

        To be called before an instance is made, and at each reset. A store without one would end the process
        at the first call into WASI (``wasi context must be populated`` in wasmtime's crates/c-api/src/linker.rs).

        :raises ConfigurationError: if a folder or a file cannot be opened.
        """
        context = wasmtime.WasiConfig()
        if self.arguments:
            context.argv = list(self.arguments)
        if self.environment:
            context.env = self.environment.items()
        for folder in self.folders:
            _open_folder(context, folder)
        for name in _STREAMS:
            if stream := getattr(self, name):
                _open_stream(context, name, stream)
        store.set_wasi(context)


_NOTHING: Final = WasiGrants()


def imports_wasi(imports: Iterable[Import]) -> bool:
    """Whether any of them is a function of WASI preview 1."""
    return any(imported.module == MODULE for imported in imports)


def _check_keys(table: Mapping[Any, Any], record: type[Any], where: str) -> None:
    known = [field.name for field in attrs.fields(record)]
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            advice = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}"
            raise ConfigurationError(f"wasi: {where}{key!r} is no key", advice=advice)


def _refuse(*arguments: int) -> int:
    return ENOTCAPABLE


def _open_folder(context: wasmtime.WasiConfig, folder: Folder) -> None:
    try:
        context.preopen_dir(folder.host, folder.guest, folder.writable)
    except wasmtime.WasmtimeError:
        problem = _refused("folders: host", folder.host, "a folder that can be read")
        problem.had = _what_is(folder.host)
    else:
        return
    raise problem


def _what_is(path: str) -> str:
    if os.path.isdir(path):
        return "one that cannot be opened"
    return "something else" if os.path.lexists(path) else "nothing"


def _open_stream(context: wasmtime.WasiConfig, name: str, stream: str) -> None:
    if stream == INHERIT:
        getattr(context, f"inherit_{name}")()
        return
    try:
        setattr(context, f"{name}_file", stream)
    except wasmtime.WasmtimeError:
        problem = _refused(name, stream, f"a file that can be {'read' if name == 'stdin' else 'written'}")
    else:
        return
    raise problem
