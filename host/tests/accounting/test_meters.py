"""The meters: what they cost, that tracing is left as it was found, and whose bytes are whose."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from weighbridge_hookspecs import ConfigurationError

from weighbridge.accounting.attribution import SHARED, attribute, run_tagged, run_untagged, tag
from weighbridge.accounting.meters import METERS, GateMeter, Meter, ProcessMeter, TraceMeter, make_meter, read

BLOCK = 123 * 8 * 1024
SLACK = 64 * 1024


@pytest.fixture(autouse=True)
def untraced() -> Iterator[None]:
    """Tracing is off before and after each test."""
    assert not tracemalloc.is_tracing()
    yield
    was_left_on = tracemalloc.is_tracing()
    tracemalloc.stop()
    assert not was_left_on


def code(file: str, source: str, **names: object) -> dict[str, Any]:
    """Functions whose frames say that they are from `file`."""
    scope: dict[str, Any] = dict(names)
    exec(compile(source, file, "exec"), scope)
    return scope


def maker(file: str) -> Callable[[int], bytearray]:
    made: Callable[[int], bytearray] = code(file, "def make(nbytes): return bytearray(nbytes)")["make"]
    return made


# -- choosing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["process", "gate", "trace"])
def test_a_meter_is_made_by_its_name(name: str) -> None:
    """Each name on the command line makes a fresh meter that says it."""
    meter: Meter = make_meter(name)
    assert meter.name == name
    assert make_meter(name) is not meter


def test_the_meters_are_these() -> None:
    """The names are what the documentation and the command line offer."""
    assert dict(METERS) == {"process": ProcessMeter, "gate": GateMeter, "trace": TraceMeter}


@pytest.mark.parametrize("name", ["scales", "", "Gate"])
def test_an_unknown_meter_is_a_configuration_error(name: str) -> None:
    """The error quotes the name and lists those that there are."""
    with pytest.raises(ConfigurationError) as caught:
        make_meter(name)
    assert str(caught.value) == f"no meter is called {name!r}. Take one of: process, gate, trace"


# -- tracing is left as it was found -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["process", "trace"])
def test_only_the_gate_meter_switches_at_the_gate(name: str) -> None:
    """The process meter never traces, and the trace meter not until it is opened."""
    with make_meter(name).gate():
        assert not tracemalloc.is_tracing()


def test_the_gate_meter_traces_inside_only() -> None:
    """Tracing is off before, on inside, off after, also if the load raises, and as often as you like."""
    meter = GateMeter()
    for _ in range(3):
        with contextlib.suppress(ValueError), meter.gate():
            assert tracemalloc.is_tracing()
            raise ValueError
        assert not tracemalloc.is_tracing()


def test_the_gate_meter_leaves_the_applications_tracing_alone() -> None:
    """Who traces already goes on tracing, with as many frames as before and with nothing forgotten."""
    tracemalloc.start(7)
    held = bytearray(BLOCK)
    with GateMeter().gate():
        assert tracemalloc.get_traceback_limit() == 7
    assert tracemalloc.is_tracing()
    assert tracemalloc.get_traceback_limit() == 7
    assert tracemalloc.get_object_traceback(held) is not None
    tracemalloc.stop()


def test_gates_nest() -> None:
    """A load inside of a load does not end the outer one's tracing."""
    meter = GateMeter()
    with meter.gate():
        with meter.gate():
            assert tracemalloc.is_tracing()
        assert tracemalloc.is_tracing()
    assert not tracemalloc.is_tracing()


def test_a_plugin_that_stops_tracing_does_no_harm() -> None:
    """A gate that finds tracing off at its end leaves it off."""
    with GateMeter().gate():
        tracemalloc.stop()
    assert not tracemalloc.is_tracing()


def test_the_trace_meter_traces_from_opening_to_closing() -> None:
    """It is on in between, with many frames; closing twice is fine."""
    meter = TraceMeter(frames=9)
    meter.open()
    assert tracemalloc.get_traceback_limit() == 9
    with meter.gate():
        assert tracemalloc.is_tracing()
    assert tracemalloc.is_tracing()
    meter.close()
    meter.close()
    assert not tracemalloc.is_tracing()


def test_the_trace_meter_leaves_the_applications_tracing_alone() -> None:
    """What it did not start it does not stop."""
    tracemalloc.start(3)
    meter = TraceMeter()
    meter.open()
    meter.close()
    assert tracemalloc.get_traceback_limit() == 3
    assert tracemalloc.is_tracing()
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["process", "gate"])
def test_a_meter_that_is_closed_has_nothing_to_stop(name: str) -> None:
    """Opening and closing a meter that does not trace all the time changes nothing, even while others trace."""
    tracemalloc.start()
    meter = make_meter(name)
    meter.open()
    meter.close()
    assert tracemalloc.is_tracing()
    tracemalloc.stop()


# -- readings ----------------------------------------------------------------------------------------------------------


def test_a_reading_without_tracing_knows_no_bytes() -> None:
    """None, not 0: nobody looked."""
    assert read().traced_bytes is None


def test_two_readings_tell_what_came_between() -> None:
    """Bytes, blocks and seconds of a reading all go on."""
    with GateMeter().gate():
        before = read()
        held = [object() for _ in range(10_000)], bytearray(BLOCK)
        after = read()
    assert before.traced_bytes is not None
    assert after.traced_bytes is not None
    assert abs(after.traced_bytes - before.traced_bytes - BLOCK - 10_000 * (16 + 8)) < SLACK
    assert 10_000 <= after.blocks - before.blocks < 10_500
    assert after.seconds > before.seconds
    del held


# -- whose bytes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["process", "gate"])
def test_a_meter_that_does_not_trace_all_the_time_attributes_nothing(name: str) -> None:
    """Without tracing an account's live bytes are not known."""
    assert make_meter(name).attribution({}) is None


def test_attribution_is_unknown_once_somebody_stopped_tracing() -> None:
    """An application that ends tracing gets unknown figures, not an error."""
    meter = TraceMeter()
    meter.open()
    tracemalloc.stop()
    assert meter.attribution({}) is None


@pytest.fixture
def trace() -> Iterator[TraceMeter]:
    meter = TraceMeter()
    meter.open()
    yield meter
    meter.close()


OWNERS = {"/lamp.py": "lamp", "/torch.py": "torch", "/both.py": SHARED, "/both_too.py": SHARED}


def test_the_parts_add_up_to_what_is_traced(trace: TraceMeter) -> None:
    """Plugins, shared and unattributed together are all that tracemalloc knows of."""
    held = [maker("/lamp.py")(BLOCK), maker("/torch.py")(2 * BLOCK), maker("/both.py")(4 * BLOCK), bytearray(8 * BLOCK)]
    traced = tracemalloc.get_traced_memory()[0]
    found = trace.attribution(OWNERS)
    assert found is not None
    assert abs(sum(found.by_plugin.values()) + found.shared_bytes + found.unattributed_bytes - traced) < SLACK
    assert traced > 15 * BLOCK
    assert abs(found.by_plugin["lamp"] - BLOCK) < SLACK
    assert abs(found.by_plugin["torch"] - 2 * BLOCK) < SLACK
    assert abs(found.shared_bytes - 4 * BLOCK) < SLACK
    assert found.unattributed_bytes >= 8 * BLOCK
    del held


def test_bytes_are_the_innermost_plugins(trace: TraceMeter) -> None:
    """What a plugin allocates on behalf of another one is its own: it is in whose code the block was made."""
    call = "def call(other, nbytes): return other(nbytes)"
    lamp, torch = code("/lamp.py", call)["call"], code("/torch.py", call)["call"]
    held = [lamp(maker("/torch.py"), BLOCK), torch(maker("/lamp.py"), 2 * BLOCK)]
    found = trace.attribution(OWNERS)
    assert found is not None
    assert abs(found.by_plugin["torch"] - BLOCK) < SLACK
    assert abs(found.by_plugin["lamp"] - 2 * BLOCK) < SLACK
    del held


def test_a_shared_library_works_for_who_calls_it(trace: TraceMeter) -> None:
    """Bytes that a shared module allocates are those of the plugin that called it, over any number of such modules."""
    call = "def call(other, nbytes): return other(nbytes)"
    both, lamp = code("/both_too.py", call)["call"], code("/lamp.py", call)["call"]
    held = lamp(lambda nbytes: both(maker("/both.py"), nbytes), BLOCK)
    found = trace.attribution(OWNERS)
    assert found is not None
    assert abs(found.by_plugin["lamp"] - BLOCK) < SLACK
    assert found.shared_bytes < SLACK
    del held


def test_bytes_of_a_shared_library_that_no_plugin_called_are_shared(trace: TraceMeter) -> None:
    """Where no plugin is on the way a shared module keeps its bytes, and other code's are nobody's."""
    held = [maker("/both.py")(BLOCK), maker("/application.py")(BLOCK)]
    found = trace.attribution(OWNERS)
    assert found is not None
    assert abs(found.shared_bytes - BLOCK) < SLACK
    assert dict(found.by_plugin) == {}
    assert found.unattributed_bytes >= BLOCK
    del held


def test_what_is_given_back_is_attributed_to_nobody(trace: TraceMeter) -> None:
    """An account is what is held now, not what was ever allocated."""
    held = maker("/lamp.py")(BLOCK)
    del held
    found = trace.attribution(OWNERS)
    assert found is not None
    assert found.by_plugin.get("lamp", 0) < SLACK


def test_what_is_done_for_a_plugin_at_its_load_is_its_own(trace: TraceMeter) -> None:
    """Work of the import system carries the plugin's tag, for no frame of the plugin is there yet."""
    held = run_tagged("lamp", lambda: bytearray(BLOCK))
    found = attribute({tag("lamp"): "lamp"})
    assert abs(found.by_plugin["lamp"] - BLOCK) < SLACK
    assert len(held) == BLOCK


def test_what_the_host_does_for_itself_meanwhile_is_nobodys(trace: TraceMeter) -> None:
    """A plugin that works inside of that is charged for its own work all the same."""
    held: list[bytearray] = []

    def work() -> None:
        held.append(bytearray(BLOCK))
        run_tagged("bulb", lambda: held.append(bytearray(3 * BLOCK)))

    run_tagged("lamp", lambda: run_untagged(work))
    found = attribute({tag("lamp"): "lamp", tag("bulb"): "bulb"})
    assert found.by_plugin.get("lamp", 0) < BLOCK
    assert 3 * BLOCK <= found.by_plugin["bulb"] < 4 * BLOCK
    assert found.unattributed_bytes >= BLOCK


def test_a_tagged_call_passes_results_and_errors_on() -> None:
    """The tag is a frame and nothing else."""
    assert run_tagged("lamp", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError) as caught:
        run_tagged("lamp", lambda: 1 // 0)
    files = {str(entry.path) for entry in caught.traceback}
    assert any(file.endswith("<weighbridge load of lamp>") for file in files)


def test_two_plugins_have_two_tags() -> None:
    """Even names with odd characters lead to different file names."""
    assert len({tag("lamp"), tag("torch"), tag("lamp>"), tag("")}) == 4
