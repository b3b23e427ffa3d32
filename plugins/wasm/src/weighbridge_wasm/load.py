"""How much of the cores that are ours is in use, by all or by others.

Sources: ``/proc/stat`` in https://docs.kernel.org/filesystems/proc.html and
https://man7.org/linux/man-pages/man5/proc_stat.5.html; elsewhere psutil, if it is installed.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

import attrs
from weighbridge_hookspecs import ConfigurationError

from .cores import Cores, find_cores

LoadKind: TypeAlias = Literal["external", "system"]

_LINE: Final = 512  # the line of all processors: ten numbers of 20 digits at most
_CHUNK: Final = 16 * 1024
_MOST: Final = 1 << 20
_DIGITS: Final = 20
_IDLE, _IOWAIT, _STEAL = 3, 4, 7  # places in a line
_ALL: Final = -1


class LoadSource(Protocol):
    """Something that says how busy the cores are."""

    def sample(self) -> float | None:
        """The share of the cores that was in use since the last sample, 0 to 1; None if that is not known."""

    def close(self) -> None:
        """Give back what it holds. Closing twice does nothing."""


@attrs.frozen
class Spent:
    """CPU time of one processor, or of all together, since the machine was started."""

    busy_seconds: float
    idle_seconds: float


Times: TypeAlias = Mapping[int, Spent]
"""By processor; -1 stands for all together."""


class CpuTimes(Protocol):
    """Counters of CPU time."""

    def read(self) -> Times | None:
        """What they say now; None if they cannot be read."""

    def close(self) -> None:
        """Give back what it holds."""


class SystemLoad:
    """What everybody takes of the cores that are ours, this process included.

    Several things may leave us less than all of our cores: the processors are busy, or a control group around us has
    used up its quota. Whichever leaves us least counts, so a quota that its group uses up is a load of 1, and half of
    the processors of a machine in use is a load of 0 to a group that may use less than the other half.

    Time that the hypervisor gave to other machines (steal) counts as used; waiting for disks (iowait) does not, since
    the processor is free meanwhile.

    A sample costs microseconds on Linux: one small read for the machine, and one for each quota. Use one source in one
    thread at a time. The first sample tells of the time since the source was made.

    :param cores: what is ours.
    :param times: counters of the processors; those of this machine if it is None.
    """

    def __init__(self, cores: Cores | None = None, *, times: CpuTimes | None = None) -> None:
        self._cores: Final = find_cores() if cores is None else cores
        self._times: Final = open_times(self._cores.cpus) if times is None else times
        self._last: _Look | None = self._look()

    def sample(self) -> float | None:
        """The share of our cores in use since the last sample, 0 to 1.

        None if the counters cannot be read, or have not moved: their unit is a hundredth of a second, as a rule. The
        next sample then tells of the whole time.
        """
        now = self._look()
        if now is None or self._last is None:
            self._last = self._last or now
            return None
        busy, total = difference(self._last.times, now.times)
        seconds = total / self._cores.processors
        if seconds <= 0:
            return None
        before, self._last = self._last, now
        own = max(now.own_seconds - before.own_seconds, 0.0)
        spare = self._cores.processors - max(busy - own, 0.0) / seconds
        for quota, earlier, later in zip(self._cores.quotas, before.used, now.used, strict=True):
            if earlier is not None and later is not None:
                spare = min(spare, quota.cores - max(later - earlier - own, 0.0) / seconds)
        return min(max(1.0 - spare / self._cores.share, 0.0), 1.0)

    def close(self) -> None:
        """Close the files."""
        self._times.close()

    def _own_seconds(self) -> float:
        """CPU time that is not to count."""
        return 0.0

    def _look(self) -> _Look | None:
        times = self._times.read()
        if times is None:
            return None
        used = tuple(quota.used_seconds() for quota in self._cores.quotas)
        return _Look(times=times, own_seconds=self._own_seconds(), used=used)


class ExternalLoad(SystemLoad):
    """What others take of the cores that are ours: everything but this process and its children.

    A limit that follows the load of the whole system throttles itself, since its own work is the load.

    A child counts as one of the others until it has ended and was waited for; then all of its CPU time is taken off
    at once, down to 0.

    :param own: CPU time of this process and its children so far, in seconds.
    """

    def __init__(
        self,
        cores: Cores | None = None,
        *,
        times: CpuTimes | None = None,
        own: Callable[[], float] | None = None,
    ) -> None:
        self._own: Final = own_seconds if own is None else own
        super().__init__(cores, times=times)

    def _own_seconds(self) -> float:
        return self._own()


@attrs.frozen(kw_only=True)
class _Look:
    times: Times
    own_seconds: float
    used: tuple[float | None, ...]


def open_load(kind: LoadKind, cores: Cores | None = None) -> SystemLoad:
    """The source of load of that name, for this machine.

    :raises ConfigurationError: if there is no such kind.
    """
    if kind not in get_args(LoadKind):
        raise ConfigurationError(f"load_source is {kind!r}", advice="Give 'external' or 'system'")
    return ExternalLoad(cores) if kind == "external" else SystemLoad(cores)


def own_seconds() -> float:
    """CPU time of this process, with its threads, and of its children that ended and were waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def difference(before: Times, after: Times) -> tuple[float, float]:
    """Seconds in use and seconds in all, of the processors that both have.

    No counter counts backwards in truth, but iowait does on the screen, and idle time when a processor is taken away:
    those count for nothing.
    """
    busy = idle = 0.0
    for cpu in before.keys() & after.keys():
        busy += max(after[cpu].busy_seconds - before[cpu].busy_seconds, 0.0)
        idle += max(after[cpu].idle_seconds - before[cpu].idle_seconds, 0.0)
    return busy, busy + idle


# --- counters ---------------------------------------------------------------------------------------------------------


def open_times(cpus: Collection[int] | None = None, root: str | os.PathLike[str] = "/") -> CpuTimes:
    """The counters of this machine: ``/proc/stat`` if it is there, else psutil's."""
    file = os.path.join(os.fsdecode(root), "proc", "stat")
    return ProcStat(file, cpus) if os.path.exists(file) else PsutilTimes(cpus)


class ProcStat:
    """``/proc/stat``, kept open.

    :param file: where it is.
    :param cpus: processors to look at; None is all. Where they are all that there are, only the first line is read.
    :param ticks: the unit of the counters, per second; the system's own if it is None.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] = "/proc/stat",
        cpus: Collection[int] | None = None,
        *,
        ticks: int | None = None,
    ) -> None:
        self._descriptor: int | None = None
        self._file: Final = os.fsdecode(file)
        self._ticks: Final = os.sysconf("SC_CLK_TCK") if ticks is None else ticks
        self._cpus: frozenset[int] | None = None
        if cpus is not None and not set(cpus) >= self._present():
            self._cpus = frozenset(cpus)

    def read(self) -> Times | None:
        """What the kernel says now; None if it cannot be read, or says nothing of these processors."""
        text = self._text(_first_line if self._cpus is None else _all_lines)
        lines = lines_of(text)
        chosen = (_ALL,) if self._cpus is None else self._cpus & lines.keys()
        times = {cpu: _spent(lines[cpu], self._ticks) for cpu in chosen if cpu in lines}
        return times or None

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()

    def _present(self) -> set[int]:
        return lines_of(self._text(_all_lines)).keys() - {_ALL}

    def _text(self, read: Callable[[int], bytes]) -> bytes:
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
            return read(self._descriptor)
        except (OSError, ValueError):  # ValueError: a zero byte in the name
            self.close()
            return b""


def lines_of(text: bytes) -> dict[int, list[int]]:
    r"""The numbers of each processor, by its own number; -1 is the line of all together.

    They are ticks in user, nice, system, idle, iowait, irq, softirq, steal, guest and guest_nice.

    >>> lines_of(b"cpu  40 10 30 500\ncpu3 40 10 30 500\nintr 12 0\n")
    {-1: [40, 10, 30, 500], 3: [40, 10, 30, 500]}
    """
    found = {}
    for line in text.split(b"\n"):
        name, *fields = line.split() or (b"",)
        if not name.startswith(b"cpu"):
            break  # nothing of what follows is about processors
        if len(fields) > _IDLE and all(field.isdigit() and len(field) <= _DIGITS for field in fields):
            number = name[3:]
            if not number or (number.isdigit() and len(number) <= _DIGITS):
                found[int(number or _ALL)] = list(map(int, fields))
    return found


def _spent(ticks: list[int], per_second: int) -> Spent:
    """Guests' time is left out, because the kernel has put it into user and nice as well (``account_guest_time`` in
    https://github.com/torvalds/linux/blob/v6.12/kernel/sched/cputime.c)."""
    idle = sum(ticks[_IDLE : _IOWAIT + 1])
    busy = sum(ticks[:_IDLE]) + sum(ticks[_IOWAIT + 1 : _STEAL + 1])
    return Spent(busy / per_second, idle / per_second)


def _first_line(descriptor: int) -> bytes:
    text = os.pread(descriptor, _LINE, 0)
    return text[: text.find(b"\n") + 1]


def _all_lines(descriptor: int) -> bytes:
    """The lines of processors, and some of what follows. A read may give a part of the text."""
    text = os.pread(descriptor, _CHUNK, 0)
    while b"\nintr" not in text and len(text) < _MOST and (more := os.pread(descriptor, _CHUNK, len(text))):
        text += more
    return text[: text.rfind(b"\n") + 1]


class PsutilTimes:
    """What psutil says, on systems without ``/proc/stat``; unknown where it is not installed.

    :param cpus: processors to look at; None is all.
    :param psutil: the module; it is imported if it is None.
    """

    def __init__(self, cpus: Collection[int] | None = None, *, psutil: Any = None) -> None:
        self._cpus: Final = None if cpus is None else frozenset(cpus)
        self._psutil: Final = _import_psutil() if psutil is None else psutil

    def read(self) -> Times | None:
        """What it says now; None if it says nothing."""
        if self._psutil is None:
            return None
        try:
            found = self._psutil.cpu_times(percpu=True)
        except (OSError, RuntimeError, self._psutil.Error):
            return None
        chosen = ((cpu, times) for cpu, times in enumerate(found) if self._cpus is None or cpu in self._cpus)
        return {cpu: _spent_by_name(times) for cpu, times in chosen} or None

    def close(self) -> None:
        """There is nothing to close."""


def _spent_by_name(times: Any) -> Spent:
    """Fields differ by system: https://psutil.readthedocs.io/en/latest/#psutil.cpu_times"""
    busy = sum(float(getattr(times, name, 0.0)) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    return Spent(busy, float(times.idle) + float(getattr(times, "iowait", 0.0)))


def _import_psutil() -> Any:
    try:
        return importlib.import_module("psutil")
    except ImportError:
        return None
