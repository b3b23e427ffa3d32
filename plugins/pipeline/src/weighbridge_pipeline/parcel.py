"""What crosses the border of a process: a stage's function, what it is given, and what comes of it.

Values travel pickled, and the driver does not unpickle what it only hands on. Above a MiB they do not go through the
pipe: the sender puts them into a file of a private folder, and the pipe has a claim to it, with the digest of what it
must be. So nothing is unpickled that did not come from the driver or from one of its workers.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import time
import traceback
import uuid
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, Literal

import attrs
from weighbridge_hookspecs import Cancelled, StorageDamaged

from .cancel import CancelToken
from .stage import Job, UndoJob

MIB: Final = 1024 * 1024
LIMIT_BYTES: Final = MIB
"""What a value may have to go with the call itself; a larger one goes by reference."""
FLAG: Final = "called off"
"""The file in a transaction's folder that tells its stages to end."""

_PROTOCOL: Final = 5
_DIGEST_BYTES: Final = 32
_POLL_SECONDS: Final = 0.05


@attrs.frozen
class Claim:
    """Stands for a value that lies in a file."""

    path: str
    nbytes: int
    digest: bytes

    def redeem(self) -> bytes:
        """The content of the file.

        :raises StorageDamaged: if it is not what was put there, or the file cannot be read.
        """
        try:
            with open(self.path, "rb") as file:
                content = file.read()
        except OSError as error:
            raise self._damaged(f"cannot be read: {error.strerror}") from None
        if _digest(content) != self.digest:
            raise self._damaged("is not what was put there")
        return content

    def _damaged(self, problem: str) -> StorageDamaged:
        return StorageDamaged(
            f"a value of {self.nbytes:,} bytes {problem}",
            step="run",
            advice="It goes through a folder: workers must be on the machine of their driver, and of the same user",
        )


def lodge(folder: str, content: bytes) -> Claim:
    """Put a value into a new file, which nobody else may read.

    :raises OSError: if the disk does not take it; then there is no file.
    """
    path = os.path.join(folder, uuid.uuid4().hex)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
    except BaseException:
        os.unlink(path)
        raise
    return Claim(path, len(content), _digest(content))


class Packed:
    """A value as the driver keeps it that hands it on: pickled, in memory or in a file, which goes with it."""

    __slots__ = ("content", "replica")

    def __init__(self, content: bytes | Claim) -> None:
        self.content = content
        self.replica: Any = None
        """What a cluster has of it."""

    def open(self) -> Any:
        """The value, made anew at each call.

        :raises StorageDamaged: if the file is not what it was.
        """
        content = self.content
        return pickle.loads(content.redeem() if isinstance(content, Claim) else content)

    def __del__(self) -> None:
        if isinstance(self.content, Claim):
            with suppress(OSError):
                os.unlink(self.content.path)


def opened(value: Any) -> Any:
    """The value itself, whether it is packed or not."""
    return value.open() if type(value) is Packed else value


def unpacked(job: Job) -> Job:
    """The same for a function that runs in this process."""
    results = {name: opened(value) for name, value in job.results.items()}
    return Job(job.transaction, job.stage, job.inputs, results, job.cancel)


def pickler(*, by_value: bool) -> Callable[[Any], bytes]:
    """What makes pickles.

    :param by_value: whether code of a script goes along, which a worker of another machine cannot import.
    """
    if by_value:
        return import_module("cloudpickle").dumps  # type: ignore[no-any-return]  # dask brings it
    return _dumps


def _dumps(value: Any) -> bytes:
    return pickle.dumps(value, _PROTOCOL)


@attrs.frozen(kw_only=True)
class Order:
    """One call of a function of a stage, without the values that it is given."""

    function: bytes
    transaction: str
    stage: str
    attempt: int
    """Of an undo, counted from 1; 0: the stage itself."""
    needs: tuple[str, ...]
    """What the values are the results of, behind the first, which is the transaction's inputs."""
    remaining_seconds: float | None
    folder: str | None
    """Where large results go, and the flag is; None: there is no folder that driver and workers share."""
    by_value: bool

    def job(self, values: list[Any], token: CancelToken) -> Job | UndoJob:
        """What the function is called with."""
        if self.attempt:
            return UndoJob(self.transaction, self.stage, values[0], self.attempt, token)
        return Job(self.transaction, self.stage, values[0], dict(zip(self.needs, values[1:], strict=True)), token)

    def token(self) -> CancelToken:
        """Tells that the time is up, and that the transaction was called off where there is a folder to see it in.

        Clocks of two machines differ, so it is the time that is left which travels.
        """
        left = self.remaining_seconds
        deadline = None if left is None else time.monotonic() + left
        if self.folder is None or self.attempt:
            return CancelToken(deadline)
        return WatchingToken(deadline, os.path.join(self.folder, FLAG))


class WatchingToken(CancelToken):
    """A token that is set once there is a file."""

    __slots__ = ("_flag",)

    def __init__(self, deadline: float | None, flag: str) -> None:
        super().__init__(deadline)
        self._flag = flag

    def is_set(self) -> bool:
        """True once the work should end."""
        if not super().is_set() and os.path.exists(self._flag):
            self.set()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until the work should end or `timeout` seconds have passed; true if it should end."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = _POLL_SECONDS if end is None else min(end - time.monotonic(), _POLL_SECONDS)
            if left <= 0:
                return False
            super().wait(left)
        return True


@attrs.frozen(kw_only=True)
class Answer:
    """What came of an order. `content` is a pickle of the result, or of what was raised."""

    kind: Literal["done", "raised", "not begun"]
    content: bytes | Claim
    trace: str = ""
    """Where it was raised, as text: a traceback does not leave its process."""

    def failure(self) -> BaseException:
        """What was raised, with that as a note."""
        error: BaseException = Packed(self.content).open()
        if self.trace:
            error.add_note(f"It was raised in a worker:\n{self.trace}")
        return error


def work(order: Order, *contents: bytes | Claim) -> Answer:
    """Carry out an order, in a worker. Nothing is raised here: how a pool pickles errors is a matter of the pool."""
    dumps = pickler(by_value=order.by_value)
    try:
        function = pickle.loads(order.function)
        values = [Packed.open(_unowned(each)) for each in contents]
        token = order.token()
        if not order.attempt and token.is_set():
            raise Cancelled("the work was called off before it had begun", step="run")
    except BaseException as error:
        return _answer("not begun", error, dumps)
    try:
        result = function(order.job(values, token))
    except BaseException as error:
        return _answer("raised", error, dumps)
    return _delivered(None if order.attempt else result, order, dumps)


def _unowned(content: bytes | Claim) -> Packed:
    """A copy in memory, for the file is the driver's."""
    return Packed(content.redeem() if isinstance(content, Claim) else content)


def _delivered(result: Any, order: Order, dumps: Callable[[Any], bytes]) -> Answer:
    try:
        content = dumps(result)
    except Exception as error:
        name = type(result).__name__
        return _answer(
            "raised", TypeError(f"the result, a {name}, cannot be sent to the driver: {_text(error)}"), dumps
        )
    if order.folder is None or len(content) <= LIMIT_BYTES:
        return Answer(kind="done", content=content)
    try:
        return Answer(kind="done", content=lodge(order.folder, content))
    except OSError as error:
        return _answer("raised", error, dumps)


def _answer(kind: Literal["raised", "not begun"], error: BaseException, dumps: Callable[[Any], bytes]) -> Answer:
    frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
    trace = "".join(traceback.format_exception(type(error), error, frames))
    return Answer(kind=kind, content=portable(error, dumps), trace=trace)


def portable(error: BaseException, dumps: Callable[[Any], bytes] = _dumps) -> bytes:
    """A pickle of an error that can be read again; of its text where it cannot, as with arguments of its own."""
    try:
        content = dumps(error)
        if isinstance(pickle.loads(content), BaseException):
            return content
    except Exception:
        pass
    return dumps(RuntimeError(_text(error)))


def _text(error: BaseException) -> str:
    """Type and text."""
    return traceback.format_exception_only(error)[-1].strip()


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
