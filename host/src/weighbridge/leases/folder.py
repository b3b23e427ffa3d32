"""A folder that one journal has at a time."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from weighbridge_hookspecs import ConfigurationError, LeaseError, ServiceUnavailable

from .replay import disk_error, words
from .segments import sync_folder


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """The absolute path of a folder, which is made if it is not there.

    :raises ConfigurationError: if it cannot be one.
    """
    if not isinstance(folder, str | os.PathLike):
        raise ConfigurationError(f"{folder!r} is no folder", advice="Give the path of a folder")
    path = Path(folder).absolute()
    try:
        if not path.is_dir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(path.parent)
    except OSError as error:
        raise ConfigurationError(
            f"a journal cannot lie in {path}: {words(error)}", advice="Name a folder that can be written to"
        ) from None
    return path


def lock_folder(folder: Path) -> int:
    """Take the folder for this journal alone, until the descriptor is unlocked, or its process has ended.

    :raises LeaseError: if another journal has it.
    :raises ServiceUnavailable: on a system without ``flock``.
    :raises ConfigurationError: if the folder cannot be written to.
    """
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:
        raise ServiceUnavailable(
            "a journal needs flock, which this system does not have: two processes could write into one folder",
            step="lease",
        ) from None
    path = folder / "lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"a journal cannot lie in {folder}: {words(error)}", advice="Name a folder that can be written to"
        ) from None
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except OSError as error:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        if not isinstance(error, BlockingIOError):
            raise disk_error("cannot be locked", folder, error) from None
        raise LeaseError(
            f"another journal has {folder} open",
            step="lease",
            had=f"process {owner}" if owner else None,
            advice="Close that one, or take another folder",
        ) from None
    with suppress(OSError):  # the number is for the message alone, and a full disk is no reason to stay closed
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def unlock(fd: int, *, mine: bool) -> None:
    """Close the descriptor, and give the folder free if it is this process's to give."""
    if mine:
        from fcntl import LOCK_UN, flock

        flock(fd, LOCK_UN)  # children that were forked share it, and closing alone would leave it with them
    os.close(fd)
