"""Sources of pressure, on generated machines and with descriptors that tests can move."""

from __future__ import annotations

import base64
import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_balloon.sources.choose import choose_sources
from weighbridge_balloon.sources.environment import WATCH, WRITE, StreamSource, Wish, open_wish, read_wish
from weighbridge_balloon.sources.group1 import PressureLevelSource
from weighbridge_balloon.sources.psi import (
    CRITICAL,
    ELEVATED,
    PsiSource,
    Trigger,
    open_psi,
    parse_total,
    parse_trigger,
    why_not,
)
from weighbridge_balloon.sources.source import SourceGone

PSI = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
MS = 1000


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


class Kernel:
    """Takes triggers as the kernel does: windows of whole 2 s only, unless it is privileged."""

    def __init__(self, *, privileged: bool = False, error: int = 0) -> None:
        self.privileged = privileged
        self.error = error
        self.written: list[bytes] = []

    def arm(self, path: Path, text: bytes) -> int:
        self.written.append(text)
        if self.error:
            raise OSError(self.error, os.strerror(self.error), str(path))
        assert text.endswith(b"\0"), "without a NUL the kernel overwrites the last digit"
        window = int(text.rstrip(b"\0").split()[2])
        if not self.privileged and window % 2_000_000:
            raise OSError(errno.EINVAL, "no such window", str(path))
        return os.eventfd(0)


class Total:
    """``total=`` of a file."""

    def __init__(self, value: int | None = 0) -> None:
        self.value = value

    def __call__(self) -> int | None:
        return self.value


@pytest.fixture
def total() -> Total:
    return Total()


@pytest.fixture
def source(total: Total) -> Iterator[PsiSource]:
    made = PsiSource(Path("/group/memory.pressure"), ELEVATED, "elevated", os.eventfd(0), total)
    yield made
    made.close()


# -- what is written ---------------------------------------------------------------------------------------------------


@given(st.sampled_from(["some", "full"]), st.integers(1, 10**7), st.integers(1, 10**7))
def test_trigger_is_read_as_it_was_written(kind: str, stall: int, window: int) -> None:
    """The text ends with the NUL that the kernel wants, and says what was meant."""
    trigger = Trigger(kind, stall, window)
    assert trigger.text().endswith(b"\0")
    assert parse_trigger(trigger.text()) == trigger


@given(st.sampled_from(["some", "full"]), st.integers(1, 10**7), st.integers(500_000, 10**7))
def test_coarser_trigger_is_one_that_everybody_may_have(kind: str, stall: int, window: int) -> None:
    """A window of whole 2 s up to 10, with the same share of waiting, and no coarser one beyond it."""
    coarser = Trigger(kind, min(stall, window), window).coarser()
    assert coarser.window_us % 2_000_000 == 0
    assert window <= coarser.window_us <= 10_000_000
    assert coarser.stall_us <= coarser.window_us
    assert coarser.stall_us / coarser.window_us == pytest.approx(min(stall, window) / window, abs=1e-5)
    assert coarser.coarser() == coarser


@given(st.binary(max_size=60))
def test_any_words_are_a_trigger_or_none(text: bytes) -> None:
    """What another protocol writes is none, and nothing raises."""
    trigger = parse_trigger(text)
    assert trigger is None or trigger.window_us > 0
    assert parse_total(text, "some") is None or b"total=" in text


def test_total_is_that_of_its_own_line() -> None:
    """Each kind has a line and a sum."""
    text = PSI.format(1234).encode()
    assert (parse_total(text, "some"), parse_total(text, "full"), parse_total(None, "some")) == (1234, 7, None)


@pytest.mark.parametrize("privileged", [True, False])
def test_window_that_is_not_taken_becomes_coarser(privileged: bool, tmp_path: Path) -> None:
    """Who may have a window of half a second has it; who may not has 2 s with the same share."""
    kernel = Kernel(privileged=privileged)
    path = put(tmp_path, "memory.pressure", PSI.format(0))
    source = open_psi(path, Trigger("some", 50_000, 500_000), "elevated", arm=kernel.arm)
    assert source.trigger == (Trigger("some", 50_000, 500_000) if privileged else Trigger("some", 200_000, 2_000_000))
    assert len(kernel.written) == (1 if privileged else 2)
    source.close()


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.EBUSY, errno.EINVAL])
def test_kernel_that_takes_no_trigger_is_an_error(error: int, tmp_path: Path) -> None:
    """It is tried once where another window would not help, and the reason has words."""
    kernel = Kernel(error=error)
    with pytest.raises(OSError, match=os.strerror(error)) as raised:
        open_psi(tmp_path / "memory.pressure", ELEVATED, "elevated", arm=kernel.arm)
    assert kernel.written == [ELEVATED.text()]
    assert why_not(raised.value)


# -- what events mean --------------------------------------------------------------------------------------------------


def test_event_counts_if_tasks_have_waited(source: PsiSource, total: Total) -> None:
    """As long as the trigger says, since it was set."""
    total.value = 150 * MS
    pressure = source.look(select.POLLPRI)
    assert pressure is not None
    assert (pressure.level, pressure.evidence) == ("elevated", "tasks waited 150 ms for memory since the last time")


def test_false_first_event_does_not_count(source: PsiSource, total: Total) -> None:
    """The kernel may speak up though the sum has grown by 37 ms of 150."""
    total.value = 37 * MS
    assert source.look(select.POLLPRI) is None


def test_event_that_did_not_count_is_not_forgotten(source: PsiSource, total: Total) -> None:
    """Waiting adds up until an event counts, and begins anew then."""
    heard = []
    for total.value in (100 * MS, 160 * MS, 300 * MS, 310 * MS):
        heard.append(source.look(select.POLLPRI) is not None)
    assert heard == [False, True, False, True]


def test_sum_that_is_hidden_lets_every_event_count(source: PsiSource, total: Total) -> None:
    """Where the file cannot be read any more, an event is all there is; once it can be, the sum begins there."""
    total.value = None
    assert source.look(select.POLLPRI) is not None
    total.value = 500 * MS
    assert source.look(select.POLLPRI) is not None
    assert source.look(select.POLLPRI) is None


@pytest.mark.parametrize("events", [select.POLLERR, select.POLLERR | select.POLLPRI, select.POLLNVAL])
def test_group_that_was_removed_is_gone(events: int, source: PsiSource, total: Total) -> None:
    """An error on the descriptor is no event, whatever the sum says."""
    total.value = 500 * MS
    with pytest.raises(SourceGone, match=r"memory\.pressure is gone"):
        source.look(events)


def test_closing_gives_the_descriptor_back(source: PsiSource) -> None:
    """Once; closing twice does nothing."""
    number = source.fileno()
    assert number is not None
    source.close()
    source.close()
    assert source.fileno() is None
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)


# -- the service manager -----------------------------------------------------------------------------------------------


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode("ascii")


def test_environment_without_a_wish() -> None:
    """No variable, or an empty one, says nothing."""
    assert read_wish({}) is read_wish({WATCH: ""}) is None


def test_null_device_means_off() -> None:
    """The operator wants nobody to watch."""
    wish = read_wish({WATCH: "/dev/null"})
    assert wish is not None
    assert wish.is_off


@given(st.binary(max_size=60))
def test_text_to_write_comes_in_base64(text: bytes) -> None:
    """Whatever it is, a NUL at its end included."""
    assert read_wish({WATCH: "/run/pressure", WRITE: encoded(text)}) == Wish("/run/pressure", text)


@pytest.mark.parametrize(("watch", "write"), [("run/pressure", ""), ("/run/x", "not base64!"), ("/run/x", "YQ")])
def test_wish_that_makes_no_sense_is_an_error(watch: str, write: str) -> None:
    """The text names the variable."""
    with pytest.raises(ValueError, match="MEMORY_PRESSURE_"):
        read_wish({WATCH: watch, WRITE: write})


def test_fifo_speaks_by_whatever_it_gives(tmp_path: Path) -> None:
    """Many messages are one event; nothing to read is none, and a writer that goes is no end."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    source = open_wish(Wish("/fifo"), tmp_path)
    assert source.mask == select.POLLIN
    assert source.look(select.POLLIN) is None
    with path.open("wb") as file:
        file.write(b"low" * 3000)
    pressure = source.look(select.POLLIN)
    assert pressure is not None
    assert pressure.evidence == "9000 bytes came"
    assert source.look(select.POLLIN) is None
    source.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        yield listening


def test_socket_is_written_to_and_listened_to(server: socket.socket, tmp_path: Path) -> None:
    """What was asked for is written first; then whatever comes is an event, and the end is the end."""
    source = open_wish(Wish("/s", b"hello\0"), tmp_path)
    other, _ = server.accept()
    with other:
        assert other.recv(100) == b"hello\0"
        other.sendall(b"x")
        number = source.fileno()
        assert number is not None
        assert select.select([number], [], [], 60)[0]
        assert source.look(select.POLLIN) is not None
        assert source.look(select.POLLIN) is None
    with pytest.raises(SourceGone, match="was closed"):
        source.look(select.POLLIN | select.POLLHUP)
    source.close()


def test_file_is_written_to_and_waited_for_as_urgent(tmp_path: Path) -> None:
    """A trigger that is understood is filtered like the driver's own."""
    put(tmp_path, "pressure", "x" * 40)
    source = open_wish(Wish("/pressure", Trigger("full", 5 * MS, 2_000_000).text()), tmp_path)
    assert source.mask == select.POLLPRI
    assert (tmp_path / "pressure").read_bytes().startswith(b"full 5000 2000000\0")
    put(tmp_path, "pressure", "full avg10=0 total=0\n")
    assert source.look(select.POLLPRI) is not None
    assert source.look(select.POLLPRI) is None
    put(tmp_path, "pressure", "full avg10=0 total=6000\n")
    assert source.look(select.POLLPRI) is not None
    source.close()


def test_file_without_a_trigger_counts_every_event(tmp_path: Path) -> None:
    """Nobody knows what its events mean, so each means that memory is short."""
    put(tmp_path, "events", "")
    source = open_wish(Wish("/events"), tmp_path)
    assert all(source.look(select.POLLPRI) is not None for _ in range(3))
    source.close()


def test_folder_is_nothing_to_wait_for(tmp_path: Path) -> None:
    """Neither a file nor a FIFO nor a socket."""
    with pytest.raises(ValueError, match="neither a file nor"):
        open_wish(Wish("/"), tmp_path)


def test_stream_that_was_given_back_is_gone() -> None:
    """A look after closing is the end, and no crash."""
    ends = os.pipe()
    source = StreamSource("pipe", ends[0])
    source.close()
    os.close(ends[1])
    with pytest.raises(SourceGone):
        source.look(select.POLLIN)


# -- version 1 ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def group(tmp_path: Path) -> Path:
    put(tmp_path, "memory.pressure_level", "")
    put(tmp_path, "cgroup.event_control", "")
    return tmp_path


def test_group_is_told_of_the_eventfd(group: Path) -> None:
    """By its number, that of the file, and the level."""
    source = PressureLevelSource(group, "medium", "elevated")
    eventfd, _, word = (group / "cgroup.event_control").read_text().split()
    assert (int(eventfd), word) == (source.fileno(), "medium")
    source.close()


def test_events_of_a_group_add_up(group: Path) -> None:
    """Thousands are one; none is none."""
    source = PressureLevelSource(group, "critical", "critical")
    number = source.fileno()
    assert number is not None
    assert source.look(select.POLLIN) is None
    for _ in range(7464):
        os.eventfd_write(number, 1)
    pressure = source.look(select.POLLIN)
    assert pressure is not None
    assert (pressure.level, pressure.evidence) == ("critical", "7464 events since the last look")
    assert source.look(select.POLLIN) is None
    source.close()


def test_removed_group_of_version_1_is_gone(tmp_path: Path) -> None:
    """The kernel counts the eventfd up when it removes the group."""
    folder = tmp_path / "group"
    put(folder, "memory.pressure_level", "")
    put(folder, "cgroup.event_control", "")
    source = PressureLevelSource(folder, "medium", "elevated")
    number = source.fileno()
    assert number is not None
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    os.eventfd_write(number, 1)
    with pytest.raises(SourceGone, match="removed"):
        source.look(select.POLLIN)
    source.close()


def test_group_that_cannot_be_told_leaves_nothing_open(tmp_path: Path) -> None:
    """Without the files of version 1 no descriptor stays."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        PressureLevelSource(tmp_path, "medium", "elevated")
    assert len(os.listdir("/proc/self/fd")) == before


# -- which one ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Path]:
    """Make a machine with groups of the versions that are asked for, and with the pressure of the machine."""

    def make(*, v1: bool = False, v2: bool = False, psi: bool = False, top: bool = False) -> Path:
        put(tmp_path, "proc/self/cgroup", "4:memory:/box\n0::/\n" if top else "4:memory:/box\n0::/box\n")
        mounts = "35 31 0:32 / /v1 rw - cgroup cgroup rw,memory\n" if v1 else ""
        mounts += "41 31 0:38 / /v2 rw - cgroup2 cgroup2 rw\n" if v2 else ""
        put(tmp_path, "proc/self/mountinfo", mounts)
        if v2:
            folder = "v2" if top else "v2/box"
            put(tmp_path, f"{folder}/memory.pressure", PSI.format(0))
            if not top:
                put(tmp_path, f"{folder}/cgroup.type", "domain\n")
        if v1:
            put(tmp_path, "v1/box/memory.pressure_level", "")
            put(tmp_path, "v1/box/cgroup.event_control", "")
        if psi:
            put(tmp_path, "proc/pressure/memory", PSI.format(0))
        return tmp_path

    return make


def names(root: Path, environ: dict[str, str] | None = None) -> list[str]:
    choice = choose_sources(root, environ or {}, platform="linux")
    found = [str(Path(source.name.split(" ")[0]).relative_to(root)) for source in choice.sources]
    choice.close()
    return sorted(set(found))


def test_own_group_of_version_2_goes_first(machine: Callable[..., Path]) -> None:
    """Its pressure is that of this process and its like."""
    assert names(machine(v1=True, v2=True, psi=True)) == ["v2/box/memory.pressure"]


def test_top_of_version_2_is_no_group(machine: Callable[..., Path]) -> None:
    """A machine that counts memory in version 1 mounts version 2 beside it, and shows the machine's pressure there."""
    assert names(machine(v1=True, v2=True, psi=True, top=True)) == ["v1/box/memory.pressure_level"]


def test_machine_comes_last(machine: Callable[..., Path]) -> None:
    """Where there is no group, the machine as a whole is listened to."""
    assert names(machine(psi=True)) == ["proc/pressure/memory"]


def test_service_manager_goes_before_all(machine: Callable[..., Path]) -> None:
    """What it says is listened to and nothing else."""
    root = machine(v1=True, v2=True, psi=True)
    os.mkfifo(root / "fifo")
    assert names(root, {WATCH: "/fifo"}) == ["fifo"]


def test_off_is_off(machine: Callable[..., Path]) -> None:
    """Nobody is listened to, and it is said why."""
    choice = choose_sources(machine(v2=True, psi=True), {WATCH: "/dev/null"}, platform="linux")
    assert (choice.sources, choice.is_off) == ((), True)
    assert "/dev/null" in choice.notes[0]


@pytest.mark.parametrize("watch", ["nowhere", "/nowhere"])
def test_broken_wish_is_noted_and_passed_over(watch: str, machine: Callable[..., Path]) -> None:
    """A service manager that makes no sense does not leave the process deaf."""
    choice = choose_sources(machine(psi=True), {WATCH: watch}, platform="linux")
    assert len(choice.sources) == 2
    assert WATCH in choice.notes[0]
    choice.close()


def test_machine_without_any_says_why(machine: Callable[..., Path]) -> None:
    """A kernel without pressure information has no source, and the note names the file."""
    choice = choose_sources(machine(), {}, platform="linux")
    assert choice.sources == ()
    assert "proc/pressure/memory: this kernel, or this control group, has no such file" in choice.notes[0]


def test_other_systems_have_none() -> None:
    """Nothing is tried where nothing is known."""
    choice = choose_sources(Path("/"), {}, platform="darwin")
    assert (choice.sources, choice.notes) == ((), ("no source is known on darwin",))


def test_both_levels_have_a_descriptor_each(machine: Callable[..., Path]) -> None:
    """A second trigger on the same descriptor would be refused."""
    choice = choose_sources(machine(psi=True), {}, platform="linux")
    numbers = {source.fileno() for source in choice.sources}
    assert len(numbers) == 2
    assert {source.name.split(" ")[1] for source in choice.sources} == {ELEVATED.kind, CRITICAL.kind}
    choice.close()
