"""Compiled modules, kept on disk from one start to the next.

To load compiled code is to run it: wasmtime checks version, target, CPU features and configuration of a file, and
believes the rest (https://docs.wasmtime.dev/api/wasmtime/struct.Module.html#method.deserialize). Therefore

- only what this plugin compiled and wrote itself is loaded; there is no way to hand it compiled code;
- the folder is this user's alone, and so is every file in it: that is looked at each time, of a file when it is open;
- a file has the SHA-256 of its content in its name. All of it is verified before wasmtime sees it, through the same
  open file. That takes less than a millisecond for each MiB, and compiling a MiB of code takes a third of a second and
  more. Where the processor has instructions for SHA it is as fast as a CRC, which damage could pass.

Whatever goes wrong, the module is compiled, and the reason is logged once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol, TypeVar

import attrs

from .config import DEFAULT_CACHE_BYTES

M = TypeVar("M")

MOST_FILES: Final = 1024
"""How many there may be: they are listed at each look-up."""

_LAYOUT: Final = "weighbridge-wasm 1"
_SUFFIX: Final = ".cwasm"
_TEMPORARY: Final = ".tmp"
_ABANDONED_SECONDS: Final = 3600.0  # nobody writes that long


class Compiler(Protocol[M]):
    """What makes machine code of modules, puts it down and takes it up again; an `Engine` is one."""

    @property
    def fingerprint(self) -> str:
        """Everything that compiled code depends on beside the module: version, configuration, kind of machine."""

    def compile(self, wasm: bytes) -> M:
        """Make machine code."""

    def serialize(self, module: M) -> bytes:
        """It as bytes."""

    def deserialize_file(self, path: str) -> M:
        """What `serialize` gave, from a file."""


@attrs.frozen(kw_only=True)
class CacheStatistics:
    """What the cache holds, and what it did since it was made."""

    folder: str
    files: int | None
    """Compiled modules in the folder; None where it cannot be used."""
    bytes: int | None
    """What they take; None likewise."""
    max_bytes: int
    hits: int
    """Modules that were loaded."""
    misses: int
    """Modules that were compiled, whatever the reason."""
    stored: int
    """Compiled modules that were written."""
    refused: int
    """Files that were not loaded: damaged, not of this user, or not for this machine. They were removed."""
    evicted: int
    """Files that were removed to make room."""
    failures: int
    """Times that the folder or the disk did not do what was asked."""
    unusable: str | None
    """Why the folder cannot be used now; None if it can."""


class CompiledCache:
    """Compiled modules in a private folder. Thread-safe, and safe with several processes at once."""

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, *, max_bytes: int = DEFAULT_CACHE_BYTES, log: logging.Logger
    ) -> None:
        """Nothing is opened or made before a module is asked for.

        :param folder: where; None: :func:`default_folder`. It is made if it is not there.
        :param max_bytes: what the files may have together; those that were not used for longest go. 0: none is kept.
        :param log: gets one line for each kind of trouble.
        """
        self.folder: Final = default_folder() if folder is None else Path(os.path.abspath(folder))
        self.max_bytes: Final = max_bytes
        self._log: Final = log
        self._lock: Final = threading.Lock()
        self._counts = dict.fromkeys(("hits", "misses", "stored", "refused", "evicted", "failures"), 0)
        self._logged: set[str] = set()

    def module(self, wasm: bytes, compiler: Compiler[M]) -> M:
        """The compiled module of `wasm`: loaded if it is here, else compiled and kept.

        :raises Exception: what `compiler.compile` raises.
        """
        if not self.max_bytes:
            self._count("misses")
            return compiler.compile(wasm)
        key = cache_key(wasm, compiler.fingerprint)
        found = self._load(key, compiler)
        if found is not None:
            self._count("hits")
            return found
        compiled = compiler.compile(wasm)
        self._count("misses")
        self._keep(key, compiled, compiler)
        return compiled

    def statistics(self) -> CacheStatistics:
        """What there is now. It lists the folder, if there is one."""
        unusable = self._trouble()
        entries = list(self._entries()) if unusable is None and self.folder.exists() else []
        with self._lock:
            return CacheStatistics(
                folder=str(self.folder),
                files=None if unusable else len(entries),
                bytes=None if unusable else sum(entry.nbytes for entry in entries),
                max_bytes=self.max_bytes,
                unusable=unusable,
                **self._counts,
            )

    def _load(self, key: str, compiler: Compiler[M]) -> M | None:
        with self._tolerated("read"):
            self._check_folder()
            for name in self._names(f"{key}-"):
                path = self.folder / name
                try:
                    found = _verified(path, compiler)
                except FileNotFoundError:  # another process made room
                    continue
                except _Refused as error:
                    self._refuse(path, str(error))
                    continue
                with suppress(OSError):
                    os.utime(path)  # its place among those that go first
                return found
        return None

    def _keep(self, key: str, module: M, compiler: Compiler[M]) -> None:
        with self._tolerated("write"):
            self._check_folder()
            content = compiler.serialize(module)
            if len(content) > self.max_bytes:
                return
            self._make_room(len(content))
            self._write(_name(key, hashlib.sha256(content).hexdigest()), content)
            self._count("stored")

    def _write(self, name: str, content: bytes) -> None:
        """Have the file there whole or not at all. Not synced: what a power cut leaves of it does not pass its name."""
        temporary = self.folder / f".{secrets.token_hex(8)}{_TEMPORARY}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY, 0o600)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                rest = memoryview(content)
                while rest:
                    rest = rest[file.write(rest) :]
            os.replace(temporary, self.folder / name)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    def _make_room(self, nbytes: int) -> None:
        self._sweep()
        entries = sorted(self._entries(), key=lambda entry: entry.used_at)
        held = sum(entry.nbytes for entry in entries) + nbytes
        count = len(entries) + 1
        for entry in entries:
            if held <= self.max_bytes and count <= MOST_FILES:
                return
            with suppress(OSError):  # another process was faster, or Windows, where it is in use
                os.unlink(self.folder / entry.name)
                self._count("evicted")
                held -= entry.nbytes
                count -= 1

    def _sweep(self) -> None:
        """Remove what a process that was killed while it wrote has left."""
        oldest = time.time() - _ABANDONED_SECONDS
        for entry in self._entries(_TEMPORARY):
            if entry.used_at < oldest:
                with suppress(OSError):
                    os.unlink(self.folder / entry.name)

    def _entries(self, suffix: str = _SUFFIX) -> Iterator[_Entry]:
        with suppress(OSError):
            for name in self._names():
                if name.endswith(suffix):
                    with suppress(OSError):
                        found = os.lstat(self.folder / name)
                        yield _Entry(name, found.st_size, found.st_mtime)

    def _names(self, prefix: str = "") -> Iterable[str]:
        return [name for name in os.listdir(self.folder) if name.startswith(prefix)]

    def _check_folder(self) -> None:
        """Make the folder if there is none.

        :raises _Unusable: if it is not this user's alone.
        :raises OSError: if it cannot be made.
        """
        try:
            found = os.lstat(self.folder)
        except FileNotFoundError:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # another process was faster
                self.folder.mkdir(mode=0o700)
            found = os.lstat(self.folder)
        if problem := _foreign(found, stat.S_ISDIR, "folder"):
            raise _Unusable(problem)

    def _trouble(self) -> str | None:
        try:
            problem = _foreign(os.lstat(self.folder), stat.S_ISDIR, "folder")
        except FileNotFoundError:
            return None
        except OSError as error:
            return str(error)
        return problem and f"{self.folder}: {problem}"

    @contextmanager
    def _tolerated(self, kind: str) -> Iterator[None]:
        try:
            yield
        except _Unusable as error:
            self._failed("folder", f"compiled modules are not kept in {self.folder}: {error}")
        except OSError as error:
            self._failed(kind, f"compiled modules cannot be {_DONE[kind]} in {self.folder}: {error}")

    def _refuse(self, path: Path, problem: str) -> None:
        self._count("refused")
        self._say_once("refused", f"the compiled module {path} was not loaded, and is compiled anew: {problem}")
        with suppress(OSError):
            os.unlink(path)

    def _failed(self, kind: str, text: str) -> None:
        self._count("failures")
        self._say_once(kind, text)

    def _say_once(self, kind: str, text: str) -> None:
        with self._lock:
            if kind in self._logged:
                return
            self._logged.add(kind)
        self._log.warning("%s", text)

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1


@attrs.frozen
class _Entry:
    """A file of the folder."""

    name: str
    nbytes: int
    used_at: float


class _Unusable(Exception):
    """The folder may not be used; why."""


class _Refused(Exception):
    """A file may not be loaded; why."""


_DONE: Final = {"read": "read", "write": "written"}
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)


def _verified(path: Path, compiler: Compiler[M]) -> M:
    """The module in a file.

    :raises _Refused: if it is not to be loaded.
    :raises OSError: if it cannot be opened or read.
    """
    if path.is_symlink():
        raise _Refused("it is a symbolic link")
    descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW | _BINARY)
    try:
        if problem := _foreign(os.fstat(descriptor), stat.S_ISREG, "file"):
            raise _Refused(problem)
        if path.name != _name(path.name.partition("-")[0], _checksum(descriptor)):
            raise _Refused("its content is not what was written")
        return _deserialized(_same_file(descriptor, path), compiler)
    finally:
        os.close(descriptor)


def _checksum(descriptor: int) -> str:
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _deserialized(path: str, compiler: Compiler[M]) -> M:
    try:
        return compiler.deserialize_file(path)
    except Exception as error:  # made for another CPU, as in a home folder that machines share
        raise _Refused(f"{type(error).__name__}: {error}") from None


def cache_key(wasm: bytes, fingerprint: str) -> str:
    """What a compiled module is found by: the SHA-256 of the module and of all else that its code depends on."""
    setting = f"{_LAYOUT}\n{len(wasm)}\n{len(fingerprint)}\n{fingerprint}".encode()
    digest = hashlib.sha256(setting)
    digest.update(wasm)
    return digest.hexdigest()


def default_folder() -> Path:
    """``WEIGHBRIDGE_CACHE``, or the user's cache folder, and in it one for compiled modules."""
    folder = os.environ.get("WEIGHBRIDGE_CACHE")
    return (Path(os.path.abspath(folder)) if folder else _user_folder() / "weighbridge") / "compiled-wasm"


def _user_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    # A path that is not absolute is to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/#basics
    folder = os.environ.get("XDG_CACHE_HOME", "")
    return Path(folder) if os.path.isabs(folder) else Path.home() / ".cache"


def _name(key: str, checksum: str) -> str:
    return f"{key}-{checksum}{_SUFFIX}"


def _same_file(descriptor: int, path: Path) -> str:
    """A path to the file that is open: what was verified is what is loaded, whoever renames meanwhile."""
    opened = f"/proc/self/fd/{descriptor}"
    return opened if os.path.exists(opened) else str(path)


def _foreign(found: os.stat_result, is_kind: Callable[[int], bool], word: str) -> str | None:
    """Why a folder or file is not this user's alone; None if it is. Windows keeps a user's folders to the user."""
    if not is_kind(found.st_mode):
        return f"it is no {word}"
    if sys.platform == "win32":
        return None
    if found.st_uid != os.geteuid():
        return f"it belongs to user {found.st_uid}, not to {os.geteuid()}"
    others = stat.S_IMODE(found.st_mode) & (0o077 if word == "folder" else 0o022)
    return f"it has mode {stat.S_IMODE(found.st_mode):04o}: take it from everybody else" if others else None
