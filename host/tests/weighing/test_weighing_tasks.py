"""What surrounds a task in a fresh interpreter: signals that wait, crashes in words, what is made of the answers."""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from types import ModuleType

import attrs
import pytest
from weighbridge_hookspecs import Candidate

from weighbridge.accounting.imports import ModuleWeight
from weighbridge.admission.weights import Weights
from weighbridge.discovery.candidates import discover
from weighbridge.fabricate import write_distribution
from weighbridge.reclaim.receipt import Survivor
from weighbridge.weighing import weigh as weighing_module
from weighbridge.weighing.records import Weighing
from weighbridge.weighing.tare import hosts_since, of_stdlib
from weighbridge.weighing.task import Answer, Task, crash, run_task, signals_held
from weighbridge.weighing.ties import holders, kinds
from weighbridge.weighing.weigh import check, remember, weigh

STDLIB = sysconfig.get_path("stdlib")


def install(site: Path, name: str, source: str, manifest: str | None = None) -> Candidate:
    """Write a plugin; its candidate."""
    write_distribution(site, name, source, manifest=manifest)
    (candidate,) = [one for one in discover("weighbridge", [str(site)]).candidates if one.name == name]
    return candidate


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is on ``sys.path``."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


STORING = """
class Plugin:
    def __init__(self, context):
        context.store.put("oil", b"3")
        context.journal().append(b"lit")
        with context.buffers.rent(4096) as view:
            view[:1] = b"x"
"""


def test_a_plugin_that_stores_something_can_be_weighed_and_checked(site: Path) -> None:
    """It gets a store of its own, which goes with the interpreter that it is weighed in."""
    candidate = install(site, "keeper", STORING, '[memory]\nload = "1 MiB"\npeak = "1 MiB"\n')
    weighing = weigh(candidate, rounds=1)
    assert (weighing.status, weighing.error, weighing.survivors) == ("ok", None, ())
    assert (weighing.traced_bytes or 0) < 23_000  # 28,000 with what services make at their first use
    checked = check(candidate)
    assert {finding.criterion: finding.detail for finding in checked.findings if not finding.passed} == {}
    assert (checked.status, checked.passed) == ("ok", True)


# --- signals ----------------------------------------------------------------------------------------------------------


def test_a_signal_that_is_held_comes_after_the_block() -> None:
    """Nothing inside is interrupted, and nothing is forgotten."""
    done = []

    def interrupted_inside() -> None:
        with signals_held():
            signal.raise_signal(signal.SIGINT)
            done.append("the rest of the block")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted_inside()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["the rest of the block"]


def test_a_signal_that_python_does_not_handle_is_left_alone() -> None:
    """One that is ignored, or ends the process, cannot interrupt a block of Python."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_held():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_signals_can_be_held_in_any_thread() -> None:
    """Where there is nothing to do, for Python handles them in its main thread."""
    done: list[str] = []

    def work() -> None:
        with signals_held():
            done.append("worked")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["worked"]


# --- crashes in words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (0, "", "its interpreter ended with exit code 0 before there was a result"),
        (1, "Traceback ...\nOSError", "its interpreter ended with exit code 1 before there was a result"),
        (-9, "", "its interpreter was ended by SIGKILL"),
        (-60, "", "its interpreter was ended by signal 60"),
        (-11, "Fatal Python error: Segmentation fault\n", "its interpreter was ended by SIGSEGV"),
        (
            -11,
            "a line of the plugin's\n"
            "Fatal Python error: Segmentation fault\n\n"
            "Current thread 0x1 (most recent call first):\n"
            f'  File "{STDLIB}/ctypes/__init__.py", line 519 in string_at\n'
            '  File "<frozen importlib._bootstrap>", line 241 in _call_with_frames_removed\n'
            f'  File "{STDLIB}/site-packages/crane.py", line 3 in lift\n'
            '  File "/elsewhere/harbour.py", line 5 in work\n',
            f'its interpreter was ended by SIGSEGV, at "{STDLIB}/site-packages/crane.py", line 3 in lift',
        ),
    ],
)
def test_a_crash_is_one_line(code: int, said: str, words: str) -> None:
    """How it ended, and where, if that is known."""
    assert crash(code, said) == words


def test_an_interpreter_that_cannot_begin_is_a_crash(tmp_path: Path) -> None:
    """What it wrote is kept as its traceback."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such thing >&2\nexit 4\n")
    python.chmod(0o755)
    task = Task(kind="time", group="weighbridge", name="crane", path=())
    assert run_task(task, timeout_seconds=60, python=str(python)) == Answer(
        status="crashed",
        content={},
        error="its interpreter ended with exit code 4 before there was a result",
        traceback="no such thing",
    )


# --- weighing ---------------------------------------------------------------------------------------------------------


def test_settings_arrive_as_they_are(site: Path) -> None:
    """Dates too, which TOML has and JSON has not."""
    source = (
        "class Plugin:\n    def __init__(self, context):\n        raise ValueError(repr(context.settings['since']))\n"
    )
    since = datetime.date(2026, 11, 21)
    weighing = weigh(install(site, "settled", source), settings={"since": since})
    assert weighing.error is not None
    assert weighing.error.endswith(f"ValueError: {since!r}")


def test_only_what_was_weighed_is_remembered(tmp_path: Path) -> None:
    """A plugin that failed has no weight, and the figures of the standard library count."""
    candidate = Candidate(name="crane", group="weighbridge", value="crane", distribution="crane", version="1")
    weighing = Weighing(
        name="crane",
        distribution="crane",
        version="1",
        group="weighbridge",
        status="ok",
        traced_bytes=7,
        stdlib_bytes=3,
    )
    weights = Weights(tmp_path)
    remember(candidate, weighing, weights)
    assert weights.get(candidate) is None
    remember(candidate, attrs.evolve(weighing, resident_bytes=-4096, import_seconds=0.5), weights)
    kept = weights.get(candidate)
    assert kept is not None
    assert (kept.traced_bytes, kept.resident_bytes, kept.import_seconds) == (10, 0, 0.5)


def test_the_median_of_the_rounds_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round that was disturbed changes nothing."""
    answers = iter(
        [
            Answer(status="ok", content={"host": [], "stdlib": []}),
            Answer(status="ok", content={"traced_bytes": 1, "stdlib_bytes": 0, "modules": 1}),
            *(
                Answer(status="ok", content={"import_seconds": seconds, "resident_bytes": nbytes})
                for seconds, nbytes in ((0.2, 4096), (9.0, 999_424), (0.1, 8192))
            ),
        ]
    )
    monkeypatch.setattr(weighing_module, "run_task", lambda task, **options: next(answers))
    candidate = Candidate(name="crane", group="weighbridge", value="crane", distribution="crane", version="1")
    weighing = weigh(candidate, rounds=3)
    assert (weighing.import_seconds, weighing.resident_bytes) == (0.2, 8192)


def test_a_timing_that_fails_is_the_status_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that crashes every other time is not fine."""
    answers = iter(
        [
            Answer(status="ok", content={"host": [], "stdlib": []}),
            Answer(status="ok", content={"traced_bytes": 1, "stdlib_bytes": 0, "modules": 1}),
            Answer(status="timeout", content={}, error="no result after 1 s; it was killed"),
        ]
    )
    monkeypatch.setattr(weighing_module, "run_task", lambda task, **options: next(answers))
    candidate = Candidate(name="crane", group="weighbridge", value="crane", distribution="crane", version="1")
    weighing = weigh(candidate)
    assert (weighing.status, weighing.traced_bytes, weighing.import_seconds) == ("timeout", 1, None)


def test_a_plugin_that_cannot_be_loaded_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first interpreter says why, and there is no second one."""
    answers = iter([Answer(status="crashed", content={}, error="exit code 7")])
    monkeypatch.setattr(weighing_module, "run_task", lambda task, **options: next(answers))
    candidate = Candidate(name="crane", group="weighbridge", value="crane", distribution="crane", version="1")
    weighing = weigh(candidate)
    assert (weighing.status, weighing.error, weighing.traced_bytes) == ("crashed", "exit code 7", None)


def test_what_it_needs_of_the_standard_library_is_weighed_apart(site: Path) -> None:
    """A plugin of a few names that needs a big module is small, and what came back is its share of that."""
    load = "LOAD = [bytes(1000) for _ in range(1000)]"
    source = f"import xml.sax.expatreader, mailbox\n{load}\nclass Plugin:\n    def __init__(self, context): pass\n"
    weighing = weigh(install(site, "clerk", source))
    assert (weighing.status, weighing.modules) == ("ok", 1)
    assert weighing.traced_bytes is not None
    assert weighing.stdlib_bytes is not None
    assert 1000 * 1000 < weighing.traced_bytes < 1100 * 1000
    assert weighing.stdlib_bytes > 200 * 1000
    assert weighing.reclaimed_share == pytest.approx(1, abs=0.05)


def test_what_was_brought_is_told_apart_by_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of the standard library, and neither a dependency nor what the host imported for itself."""
    every = [("this.one", False), ("thisone", False), ("mmap", True)]
    brought = [ModuleWeight(name=name, file=None, traced_bytes=1, seconds=0.1, by_host=ours) for name, ours in every]
    assert of_stdlib(brought) == ["this.one"]
    before = set(sys.modules)
    for name in ("weighbridge.one", "weighbridge_hookspecs.one", "weighbridge_lantern.one", "mmap.one"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert hosts_since(before) == ["weighbridge.one", "weighbridge_hookspecs.one"]


def test_what_the_host_imports_is_not_weighed_with_a_plugin(site: Path) -> None:
    """Neither for its own work nor for a service of which the plugin is the first user."""
    load = "LOAD = [bytes(1000) for _ in range(300)]\nclass Plugin:\n    def __init__(self, context):\n        "
    plain = weigh(install(site, "hermit", load + "pass"))
    uses = "context.bus.subscribe('news', print), context.secret(b'key'), context.cache(9, 9), context.gate(2)"
    lender = weigh(install(site, "lender", load + uses))
    assert (plain.status, plain.modules) == ("ok", 1)
    assert (lender.status, lender.modules, lender.kept_modules) == ("ok", 1, ())
    assert plain.traced_bytes is not None
    assert lender.traced_bytes is not None
    assert plain.traced_bytes < lender.traced_bytes < plain.traced_bytes + 40_000
    assert max(plain.stdlib_bytes or 0, lender.stdlib_bytes or 0) < 1000
    assert lender.reclaimed_share == pytest.approx(1, abs=0.1)


def test_importing_goes_on_after_a_module_that_cannot_be_imported() -> None:
    """The plugin will meet it, and tell."""
    script = (
        "import sys, weighbridge.weighing.tare as tare; brought = tare.import_modules(['no_such_module', 'mailbox']);"
        "print('mailbox' in sys.modules, brought > 50_000)"
    )
    assert run_traced(script) == "True True"


def test_there_is_room_for_names_of_the_plugin() -> None:
    """Ten thousand more of them do not make the interpreter's table grow."""
    script = (
        "import sys, tracemalloc as t, weighbridge.weighing.tare as tare; names = tare.make_room_for_names();"
        "more = [f'more {number}' for number in range(10_000)]; t.reset_peak(); before = t.get_traced_memory()[0];"
        "more = list(map(sys.intern, more)); print(t.get_traced_memory()[1] - before < 200_000)"
    )
    assert run_traced(script) == "True"


def run_traced(script: str) -> str:
    """What a script prints in an interpreter of its own, that traces."""
    command = [sys.executable, "-X", "tracemalloc=1", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_survivors_are_counted_by_kind_and_by_holder() -> None:
    """A holder is named without its keys, or each of its thousand entries would be a holder of its own."""

    def survivor(kind: str, tie: str) -> Survivor:
        return Survivor(kind=kind, name="crane", tie=tie, chain=())

    survivors = [
        survivor("function", "typing._registry['a'][1]"),
        survivor("function", "typing._registry['b'][2]"),
        survivor("class", "frame of work at harbour.py:3, local 'x[0]'"),
    ]
    assert kinds(survivors) == [("class", 1), ("function", 2)]
    assert holders(survivors) == [("typing._registry", 2), ("frame of work at harbour.py:3, local 'x[0]'", 1)]


# --- checking ---------------------------------------------------------------------------------------------------------

SOUND = """\
from weighbridge_hookspecs import hookimpl
class Plugin:
    def __init__(self, context):
        self.ballast = bytes(123 * 1024)
    @hookimpl
    def weighbridge_release_memory(self, request):
        return 0
"""
MANIFEST = '[plugin]\nhooks = ["weighbridge_release_memory"]\n[memory]\nload = "256 KiB"\npeak = "512 KiB"\n'


def findings(candidate: Candidate, *, rounds: int = 3) -> dict[str, tuple[bool, str]]:
    """What a check finds, by criterion."""
    done = check(candidate, rounds=rounds)
    assert (done.status, done.error) == ("ok", None)
    return {finding.criterion: (finding.passed, finding.detail) for finding in done.findings}


def test_a_sound_plugin_passes_every_criterion(site: Path) -> None:
    """Each with the figures that it goes by."""
    found = findings(install(site, "sound", SOUND, MANIFEST))
    assert list(found) == ["load", "peak", "hooks", "clean", "steady"]
    assert all(passed for passed, _ in found.values()), found
    assert found["load"][1].endswith(" of the declared 256.0 KiB")
    assert found["hooks"][1] == "1 implemented, all in the contract"
    assert found["clean"][1] == "3 rounds of load and unload, and nothing outlived them"


def test_a_plugin_that_keeps_nothing_fails_every_criterion_that_it_breaks(site: Path) -> None:
    """Its budget, the contract, and leaving."""
    source = (
        "import logging\n"
        + SOUND.replace("weighbridge_release_memory", "weighbridge_relase_memory")
        + "    @hookimpl(optionalhook=True)\n    def greet(self):\n        return 'hello'\n"
        + "logging.root.greet = Plugin.greet\n"
    )
    found = findings(install(site, "unsound", source, MANIFEST.replace("256 KiB", "64 KiB").replace("512", "64")))
    assert [criterion for criterion, (passed, _) in found.items() if not passed] == ["load", "peak", "hooks", "clean"]
    assert found["load"][1].endswith(" of the declared 64.0 KiB: declare more, or hold less")
    assert found["hooks"][1] == (
        "weighbridge_relase_memory is not in the contract (if an application declares it: "
        "hookimpl(optionalhook=True)); weighbridge_release_memory is in the manifest, but not implemented"
    )
    assert found["clean"][1].startswith("round 1: ")
    assert "logging.root" in found["clean"][1]


def test_a_leak_of_two_kibibytes_a_round_is_not_steady(site: Path) -> None:
    """Though nothing of the plugin's own code outlived it."""
    source = SOUND + "import sys\nsys.leaked = getattr(sys, 'leaked', []) + [bytes(2048)]\n"
    found = findings(install(site, "leaky", source, MANIFEST), rounds=5)
    assert found["clean"][0]
    assert not found["steady"][0]
    assert "a round leaves 2." in found["steady"][1]


def test_what_a_plugin_raised_comes_without_the_frames_of_the_host(site: Path) -> None:
    """An author reads what he has written."""
    done = check(install(site, "broken", "def build(context):\n    return 1 / 0\nPlugin = build\n"))
    assert (done.status, done.passed, done.findings) == ("failed", False, ())
    assert done.traceback is not None
    files = [line for line in done.traceback.splitlines() if line.startswith('  File "')]
    assert [line.partition(", line ")[2] for line in files] == ["2, in build"]
    assert done.traceback.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_a_plugin_of_another_group_is_asked_for_neither_manifest_nor_hooks(site: Path) -> None:
    """Its author never heard of this contract; whether it comes back clean can be asked all the same."""
    write_distribution(site, "foreign", "class Plugin:\n    pass\n", group="a.foreign.host")
    (candidate,) = discover("a.foreign.host", [str(site)]).candidates
    assert list(findings(candidate)) == ["clean", "steady"]


def test_the_path_of_the_caller_is_that_of_the_fresh_interpreter(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what no environment variable has told it."""
    candidate = install(site, "findable", "class Plugin:\n    def __init__(self, context):\n        pass\n")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(site)])
    assert weigh(candidate).status == "failed"
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    assert weigh(candidate).status == "ok"
