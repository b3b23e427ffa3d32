"""Cores and load, read from trees in the shapes that real machines have."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weighbridge_hookspecs import ConfigurationError

from weighbridge_wasm.cores import (
    Cores,
    Quota,
    find_cores,
    find_quotas,
    parse_groups,
    parse_max,
    parse_mounts,
    parse_usage,
)
from weighbridge_wasm.load import (
    ExternalLoad,
    ProcStat,
    PsutilTimes,
    Spent,
    SystemLoad,
    Times,
    difference,
    lines_of,
    open_load,
    open_times,
    own_seconds,
)

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
V1_APART = (
    "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n"
)


def plant(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def machine(root: Path, groups: str, mounts: str, files: Mapping[str, str]) -> Path:
    return plant(root, {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files})


def found_in(root: Path, processors: int = 8) -> Cores:
    return find_cores(root, cpus=range(processors))


# --- cores ------------------------------------------------------------------------------------------------------------


def test_cores_without_groups_are_the_processors_we_may_run_on(tmp_path: Path) -> None:
    """And of the machine's, those that a mask leaves."""
    assert found_in(tmp_path, 3) == Cores(count=3, share=3.0, source="affinity", cpus=frozenset({0, 1, 2}))


def test_lowest_quota_of_all_groups_around_counts(tmp_path: Path) -> None:
    """A pod's quota holds for its container, whatever the container's own is."""
    top = "sys/fs/cgroup/kube"
    root = machine(
        tmp_path,
        "0::/kube/pod/box\n",
        V2,
        {
            f"{top}/pod/box/cpu.max": "600000 100000\n",
            f"{top}/pod/box/cpu.stat": "usage_usec 1000000\nuser_usec 1\n",
            f"{top}/pod/cpu.max": "250000 100000\n",
            f"{top}/pod/cpu.stat": "usage_usec 3000000\n",
            f"{top}/cpu.max": "max 100000\n",
        },
    )
    cores = found_in(root)
    assert (cores.count, cores.share, cores.processors) == (3, 2.5, 8)
    assert cores.source == str(root / top / "pod/cpu.max")
    assert [quota.cores for quota in cores.quotas] == [6.0, 2.5]
    assert [quota.used_seconds() for quota in cores.quotas] == [1.0, 3.0]


@pytest.mark.parametrize(("quota", "count"), [("1000 100000", 1), ("50000 100000", 1), ("100001 100000", 2)])
def test_part_of_a_core_counts_as_one(tmp_path: Path, quota: str, count: int) -> None:
    """There is always one at least."""
    root = machine(tmp_path, "0::/box\n", V2, {"sys/fs/cgroup/box/cpu.max": quota})
    assert found_in(root).count == count


def test_quota_above_the_processors_limits_nothing(tmp_path: Path) -> None:
    """It is kept, for it can be used up by others."""
    root = machine(tmp_path, "0::/box\n", V2, {"sys/fs/cgroup/box/cpu.max": "900000 100000"})
    cores = found_in(root, 4)
    assert (cores.count, cores.source) == (4, "affinity")
    assert [quota.cores for quota in cores.quotas] == [9.0]
    assert cores.quotas[0].used_seconds() is None


def test_quota_of_version_1_is_read(tmp_path: Path) -> None:
    """-1 is no limit there; what was used is counted in nanoseconds."""
    top = "sys/fs/cgroup/cpu,cpuacct"
    root = machine(
        tmp_path,
        "4:memory:/elsewhere\n3:cpu,cpuacct:/docker/1f\n",
        V1,
        {
            f"{top}/docker/1f/cpu.cfs_quota_us": "150000\n",
            f"{top}/docker/1f/cpu.cfs_period_us": "100000\n",
            f"{top}/docker/1f/cpuacct.usage": "2500000000\n",
            f"{top}/docker/cpu.cfs_quota_us": "-1\n",
            f"{top}/docker/cpu.cfs_period_us": "100000\n",
        },
    )
    cores = found_in(root)
    assert (cores.count, cores.share) == (2, 1.5)
    assert cores.source.endswith("docker/1f/cpu.cfs_quota_us")
    assert cores.quotas[0].used_seconds() == 2.5


@pytest.mark.parametrize(("account", "used"), [("/box", 7.0), ("/another", None)])
def test_usage_is_found_where_version_1_mounts_it_apart(tmp_path: Path, account: str, used: float | None) -> None:
    """If it is of the same group: that of another would be somebody else's."""
    root = machine(
        tmp_path,
        f"2:cpuacct:{account}\n1:cpu:/box\n",
        V1_APART,
        {
            "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "300000",
            "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpuacct/box/cpuacct.usage": "7000000000\n",
            "sys/fs/cgroup/cpuacct/another/cpuacct.usage": "9000000000\n",
        },
    )
    (quota,) = found_in(root).quotas
    assert (quota.cores, quota.used_seconds()) == (3.0, used)


def test_container_that_sees_its_group_as_the_top_has_its_quota(tmp_path: Path) -> None:
    """With a name space of its own, with the host's path, and where a space is in the name of the mount."""
    trees = {
        "own": ("0::/\n", V2),
        "mounted": ("0::/docker/1f\n", V2.replace(" / /sys", " /docker/1f /sys")),
        "outside": ("0::/../2e\n", V2),
        "space": ("0::/\n", V2.replace("/sys/fs/cgroup", r"/sys/fs/my\040group")),
    }
    for name, (groups, mounts) in trees.items():
        folder = "sys/fs/my group" if name == "space" else "sys/fs/cgroup"
        beside = {"sys/fs/2e/cpu.max": "100000 100000"}
        root = machine(tmp_path / name, groups, mounts, {f"{folder}/cpu.max": "200000 100000", **beside})
        assert found_in(root).share == 2.0, name


@pytest.mark.parametrize(
    "text", ["", "max", "100000", "0 100000", "100000 0", "-1 100000", "x y", "1 2 3", "9" * 30 + " 1"]
)
def test_text_that_is_no_quota_is_no_limit(tmp_path: Path, text: str) -> None:
    """Damage, and words of a kernel to come."""
    root = machine(tmp_path, "0::/box\n", V2, {"sys/fs/cgroup/box/cpu.max": text})
    assert parse_max(text.encode()) is None
    assert found_in(root).quotas == ()


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_text_is_read_without_complaint(text: bytes) -> None:
    """Nothing that a file may hold raises, and what comes out is a number above 0 or none."""
    cores, used = parse_max(text), parse_usage(text)
    assert cores is None or cores > 0
    assert used is None or used >= 0
    assert isinstance(parse_groups(text), dict)
    assert isinstance(parse_mounts(text), tuple)
    assert all(len(numbers) > 3 for numbers in lines_of(text).values())


def test_cores_of_this_machine_are_found() -> None:
    """Whatever it is that the tests run on."""
    cores = find_cores()
    assert 1 <= cores.count <= (os.cpu_count() or 1)
    assert 0 < cores.share <= cores.count
    assert list(cores.quotas) == list(find_quotas())


# --- load -------------------------------------------------------------------------------------------------------------


@attrs.define
class Counters:
    """Processors that are busy as a test wants it, one second after the other."""

    processors: int = 4
    busy: float = 0.0
    idle: float = 0.0
    is_there: bool = True
    closed: int = 0

    def pass_time(self, seconds: float, cores_in_use: float) -> None:
        self.busy += cores_in_use * seconds
        self.idle += (self.processors - cores_in_use) * seconds

    def read(self) -> Times | None:
        return {-1: Spent(self.busy, self.idle)} if self.is_there else None

    def close(self) -> None:
        self.closed += 1


@attrs.define
class Account:
    """CPU time of this process."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def four_cores(*quotas: Quota, share: float = 4.0) -> Cores:
    return Cores(count=4, share=share, source="affinity", cpus=frozenset(range(4)), quotas=quotas)


def test_load_of_the_system_is_the_share_in_use() -> None:
    """Since the last sample, and at first since the source was made."""
    times = Counters()
    source = SystemLoad(four_cores(), times=times)
    for in_use in (1.0, 4.0, 0.0):
        times.pass_time(10.0, in_use)
        assert source.sample() == pytest.approx(in_use / 4)


def test_load_of_others_leaves_our_own_work_out() -> None:
    """With our work on three cores of four, and others on half of one, one eighth is taken."""
    times, own = Counters(), Account()
    source = ExternalLoad(four_cores(), times=times, own=own)
    times.pass_time(10.0, 3.5)
    own.seconds += 30.0
    assert source.sample() == pytest.approx(0.125)
    times.pass_time(10.0, 3.5)
    assert source.sample() == pytest.approx(0.875)


def test_child_that_is_waited_for_never_makes_less_than_nothing() -> None:
    """The work of its whole life comes off at once."""
    times, own = Counters(), Account()
    source = ExternalLoad(four_cores(), times=times, own=own)
    times.pass_time(10.0, 1.0)
    own.seconds += 3600.0
    assert source.sample() == 0.0


def test_counters_that_have_not_moved_are_no_sample() -> None:
    """And the next one tells of the whole time."""
    times = Counters()
    source = SystemLoad(four_cores(), times=times)
    assert source.sample() is None
    times.pass_time(10.0, 2.0)
    times.is_there = False
    assert source.sample() is None
    times.is_there = True
    times.pass_time(10.0, 4.0)
    assert source.sample() == pytest.approx(0.75)


def test_counters_that_appear_late_begin_then() -> None:
    """The first look is the one to compare with."""
    times = Counters(is_there=False, busy=1000.0)
    source = SystemLoad(four_cores(), times=times)
    assert source.sample() is None
    times.is_there = True
    assert source.sample() is None
    times.pass_time(1.0, 1.0)
    assert source.sample() == pytest.approx(0.25)


def usage(file: Path, seconds: float) -> str:
    file.write_text(f"usage_usec {round(seconds * 1e6)}\n")
    return str(file)


def test_quota_that_its_group_uses_up_is_full_load(tmp_path: Path) -> None:
    """Others in our group, not we, have used the two cores that it may use; the machine is nearly idle."""
    file = tmp_path / "cpu.stat"
    quota = Quota(cores=2.0, source="cpu.max", usage=usage(file, 0.0))
    times, own = Counters(), Account()
    sources = [
        ExternalLoad(four_cores(quota, share=2.0), times=times, own=own),
        SystemLoad(four_cores(quota, share=2.0), times=times),
    ]
    times.pass_time(10.0, 2.0)
    usage(file, 20.0)
    assert [source.sample() for source in sources] == pytest.approx([1.0, 1.0])
    times.pass_time(10.0, 2.0)
    usage(file, 40.0)
    own.seconds += 15.0
    assert [source.sample() for source in sources] == pytest.approx([0.25, 1.0])


def test_busy_machine_is_no_load_while_it_leaves_us_our_quota(tmp_path: Path) -> None:
    """Others on two of four cores take nothing off a quota of one; on all four they take everything."""
    quota = Quota(cores=1.0, source="cpu.max", usage=usage(tmp_path / "cpu.stat", 0.0))
    times = Counters()
    source = ExternalLoad(four_cores(quota, share=1.0), times=times, own=Account())
    for others, load in ((2.0, 0.0), (3.0, 0.0), (3.5, 0.5), (4.0, 1.0)):
        times.pass_time(10.0, others)
        assert source.sample() == pytest.approx(load)


def test_quota_whose_use_is_not_known_leaves_the_machine_to_look_at() -> None:
    """The file may be gone, or never have been there."""
    quotas = (Quota(cores=2.0, source="cpu.max"), Quota(cores=2.0, source="cpu.max", usage="/nowhere/cpu.stat"))
    times = Counters()
    source = SystemLoad(four_cores(*quotas, share=2.0), times=times)
    times.pass_time(10.0, 3.0)
    assert source.sample() == pytest.approx(0.5)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(0, 100), st.floats(0, 1000), st.booleans()), min_size=1, max_size=20
    )
)
def test_any_counters_give_a_share_or_none(steps: list[tuple[float, float, float, bool]]) -> None:
    """Whatever moves how far, and whichever way; others never take more than all do."""
    times, own = Counters(), Account()
    sources = [ExternalLoad(four_cores(), times=times, own=own), SystemLoad(four_cores(), times=times)]
    for busy, idle, ours, is_reset in steps:
        times.busy, times.idle = (busy, idle) if is_reset else (times.busy + busy, times.idle + idle)
        own.seconds += ours
        external, system = (source.sample() for source in sources)
        if external is None or system is None:
            assert external is system
        else:
            assert 0 <= external <= system <= 1


def test_processors_that_come_and_go_are_left_out() -> None:
    """Only those that were there at both looks count, and no counter counts backwards."""
    before = {0: Spent(10.0, 90.0), 1: Spent(50.0, 50.0), 2: Spent(0.0, 0.0)}
    after = {0: Spent(13.0, 97.0), 1: Spent(51.0, 49.0), 3: Spent(1000.0, 1000.0)}
    assert difference(before, after) == (4.0, 11.0)


# --- /proc/stat -------------------------------------------------------------------------------------------------------

STAT = """\
cpu  400 40 120 5000 200 20 20 60 300 30
cpu0 100 10 30 1250 50 5 5 15 75 7
cpu1 300 30 90 3750 150 15 15 45 225 23
intr 114930548 113199788 3 0 5 263 0 4
ctxt 1990473
btime 1062191376
"""


def stat_file(tmp_path: Path, text: str = STAT) -> Path:
    return plant(tmp_path, {"proc/stat": text}) / "proc/stat"


@pytest.mark.parametrize(
    ("cpus", "wanted"),
    [
        (None, {-1: Spent(6.6, 52.0)}),
        ({0, 1, 7}, {-1: Spent(6.6, 52.0)}),
        ({1}, {1: Spent(4.95, 39.0)}),
        ({5}, None),
    ],
)
def test_counters_of_our_processors_are_read(tmp_path: Path, cpus: set[int] | None, wanted: Times | None) -> None:
    """Waiting for a disk is idle, stolen time is not; guests are in user's time already, and count once."""
    stat = ProcStat(stat_file(tmp_path), cpus, ticks=100)
    assert stat.read() == wanted
    stat.close()


def test_file_is_read_anew_each_time_through_one_descriptor(tmp_path: Path) -> None:
    """And opened again after a close."""
    file = stat_file(tmp_path, "cpu  100 0 0 100\nintr 0\n")
    stat = ProcStat(file, ticks=100)
    assert stat.read() == {-1: Spent(1.0, 1.0)}
    file.write_text("cpu  300 0 0 100\nintr 0\n")
    assert stat.read() == {-1: Spent(3.0, 1.0)}
    stat.close()
    stat.close()
    assert stat.read() == {-1: Spent(3.0, 1.0)}
    stat.close()


def test_machine_with_hundreds_of_processors_is_read_to_its_end(tmp_path: Path) -> None:
    """Its lines are longer than one read."""
    numbers = " ".join(["1234567890"] * 10)
    lines = [f"cpu{number} {numbers}" for number in range(512)]
    text = "\n".join([f"cpu  {numbers}", *lines, "intr 0", ""])
    stat = ProcStat(stat_file(tmp_path, text), {0, 511}, ticks=100)
    assert len(text) > 3 * 16 * 1024
    assert (stat.read() or {}).keys() == {0, 511}
    stat.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cpu",
        "cpu  1 2 3\n",
        "cpu  1 2 three 4\n",
        "intr 0\ncpu  1 2 3 4\n",
        "cpu  1 2 3 " + "9" * 30 + "\n",
        "cpux 1 2 3 4\n",
    ],
)
def test_damaged_counters_are_unknown(tmp_path: Path, text: str) -> None:
    """A part of a line is none, and what is after other lines is not of processors."""
    stat = ProcStat(stat_file(tmp_path, text))
    assert stat.read() is None
    stat.close()


def test_missing_file_is_unknown(tmp_path: Path) -> None:
    """It is looked for again each time."""
    stat = ProcStat(tmp_path / "proc/stat", {0})
    assert stat.read() is None
    stat_file(tmp_path)
    assert (stat.read() or {}).keys() <= {-1, 0}
    stat.close()


def test_source_gives_its_descriptor_back(tmp_path: Path) -> None:
    """By a close, and when it is dropped without one."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("this system does not list descriptors")

    def to_stat() -> int:
        links = (os.path.join(folder, name) for name in os.listdir(folder))
        return sum(os.path.lexists(link) and os.path.realpath(link) == str(file) for link in links)

    file = stat_file(tmp_path)
    source = SystemLoad(four_cores(), times=ProcStat(file))
    assert to_stat() == 1
    source.close()
    assert to_stat() == 0
    source.sample()
    assert to_stat() == 1
    gc.collect()
    del source
    assert to_stat() == 0


# --- elsewhere --------------------------------------------------------------------------------------------------------


class FakePsutil:
    """psutil on a system without steal and iowait."""

    Error = type("Error", (Exception,), {})

    def __init__(self) -> None:
        self.times: Iterator[Any] = iter(())

    def cpu_times(self, *, percpu: bool) -> list[Any]:
        assert percpu
        answer = next(self.times)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


def test_psutil_counts_elsewhere() -> None:
    """Fields that a system does not have are 0, and what it refuses is unknown."""
    module = FakePsutil()
    mac = SimpleNamespace(user=5.0, nice=1.0, system=2.0, idle=12.0)
    linux = SimpleNamespace(
        user=5.0, nice=1.0, system=2.0, idle=12.0, iowait=3.0, irq=0.5, softirq=0.25, steal=0.25, guest=4.0
    )
    module.times = iter([[mac, linux], [mac, linux], OSError(), module.Error(), []])
    assert PsutilTimes(psutil=module).read() == {0: Spent(8.0, 12.0), 1: Spent(9.0, 15.0)}
    times = PsutilTimes({1}, psutil=module)
    assert times.read() == {1: Spent(9.0, 15.0)}
    assert [times.read() for _ in range(3)] == [None, None, None]
    times.close()


def test_machine_that_counts_nothing_has_no_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc/stat and without psutil the load is unknown, and nothing raises."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    times = open_times(None, tmp_path)
    assert isinstance(times, PsutilTimes)
    source = SystemLoad(four_cores(), times=times)
    assert source.sample() is None
    source.close()


def test_counters_of_linux_are_taken_where_they_are(tmp_path: Path) -> None:
    """Without a look at psutil."""
    stat_file(tmp_path)
    times = open_times({0}, tmp_path)
    assert isinstance(times, ProcStat)
    times.close()


# --- this machine -----------------------------------------------------------------------------------------------------


def test_own_time_has_threads_and_children_in_it() -> None:
    """A child counts once it was waited for."""
    before = own_seconds()
    busy = "import time\nwhile time.process_time() < 0.1: sum(range(10_000))"
    subprocess.run([sys.executable, "-S", "-c", busy], check=True)
    assert own_seconds() - before >= 0.05  # its time comes in whole hundredths of a second, each part rounded down


@pytest.mark.parametrize(("kind", "made"), [("external", ExternalLoad), ("system", SystemLoad)])
def test_kinds_by_name_work_on_this_machine(kind: Any, made: type) -> None:
    """Each gives a share or nothing."""
    source = open_load(kind)
    assert type(source) is made
    sample = source.sample()
    assert sample is None or 0 <= sample <= 1
    source.close()


def test_other_kinds_are_refused() -> None:
    """With the names of those that there are."""
    with pytest.raises(ConfigurationError, match="'external' or 'system'"):
        open_load("plain")  # type: ignore[arg-type]


def test_psutil_is_not_imported_where_it_is_not_needed() -> None:
    """An import of the module alone takes nothing from anybody."""
    code = "import sys, weighbridge_wasm.load; sys.exit('psutil' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
