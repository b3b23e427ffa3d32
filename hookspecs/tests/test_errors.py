"""The errors: one tree, exact texts, and nothing in them that could keep a plugin alive."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import weighbridge_hookspecs
from weighbridge_hookspecs import errors
from weighbridge_hookspecs.errors import (
    AdmissionDeferred,
    AdmissionError,
    AdmissionRefused,
    AlreadyLoaded,
    Cancelled,
    CeilingExceeded,
    CleanupFailed,
    ConfigurationError,
    ConflictingPlugin,
    ContextClosed,
    DeadlineExceeded,
    DependencyCycle,
    DependencyError,
    DiscoveryError,
    DuplicateName,
    IllegalTransition,
    InvalidModule,
    InvalidPipeline,
    LeaseError,
    LifecycleError,
    LoadFailed,
    ManifestError,
    MetadataError,
    MissingRequirement,
    NestedLoad,
    NotLoaded,
    OutOfFuel,
    PluginBlocked,
    PluginIncompatible,
    Saturated,
    ServiceUnavailable,
    StageFailed,
    StageWithdrawn,
    StateRefused,
    StorageDamaged,
    StorageFailed,
    Trapped,
    UndoFailed,
    UnknownFunction,
    UnknownModule,
    UnknownPlugin,
    UnloadRefused,
    UnloadTimeout,
    WeighbridgeError,
    WorkError,
)

CLASSES: Final[list[type[WeighbridgeError]]] = [
    cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, WeighbridgeError) and cls.__module__ == errors.__name__
]

# What the base class takes, so that an error of any class can be given everything that it can carry.
PLAIN: Final = {
    "plugin": "lamp",
    "step": "import",
    "wanted": "5 MiB",
    "had": "2 MiB",
    "advice": "Turn it off and on",
}
FIXED: Final = (
    (ManifestError, {"problems": ("memory.load: no size", "plugin.api: no number")}),
    (DependencyCycle, {"ring": ("lamp", "shade", "lamp")}),
    (AdmissionError, {"needs_bytes": 5 << 20, "headroom_bytes": 2 << 20}),
    (LoadFailed, {"cause": "OSError: no", "traceback": "Traceback ...", "residue": ("thread 'x' still runs",)}),
    (UnloadTimeout, {"inside": ("thread 'x' at lamp.py:7 in shine",)}),
    (CeilingExceeded, {"used_bytes": 90, "wanted_bytes": 20, "ceiling_bytes": 100}),
    (Saturated, {"retry_after_seconds": 0.25}),
    (Trapped, {"code": "MEMORY_OUT_OF_BOUNDS"}),
    (DeadlineExceeded, {"deadline_seconds": 0.5}),
    (InvalidPipeline, {"problems": ("stage 'lamp': needs 'wick'",), "path": ("lamp", "wick")}),
    (StageFailed, {"stage": "wick"}),
    (UndoFailed, {"stage": "wick", "attempts": 3}),
)


def drawn() -> Iterator[tuple[str, str | None]]:
    """Class and base class of each line of the tree in the module's docstring."""
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.fullmatch(r"    (?P<stem>[|` ]*(?:-- )?)(?P<name>[A-Z]\w+)(?: .*)?", line):
            depth = len(found["stem"]) // 4
            above[depth:] = [found["name"]]
            yield found["name"], above[depth - 1] if depth else None


def complete(cls: type[WeighbridgeError]) -> WeighbridgeError:
    """An error of `cls` with every field that its constructor takes."""
    taken = inspect.signature(cls).parameters
    known: dict[str, Any] = dict(PLAIN)
    for base, fields in FIXED:
        if issubclass(cls, base):
            known |= fields
    assert taken.keys() <= {"message", *known}, f"{cls.__name__} takes something that this test does not know"
    return cls("it is dark", **{name: value for name, value in known.items() if name in taken})


every_class = pytest.mark.parametrize("cls", CLASSES, ids=[cls.__name__ for cls in CLASSES])


# -- the tree ----------------------------------------------------------------------------------------------------------


def test_the_drawn_tree_is_the_tree_of_the_classes() -> None:
    """Every error class is drawn under its base class, nothing else is drawn, and none is drawn twice."""
    lines = list(drawn())
    assert dict(lines) == {
        cls.__name__: None if cls is WeighbridgeError else cls.__mro__[1].__name__ for cls in CLASSES
    }
    assert len(lines) == len(CLASSES)


def test_the_tree_is_drawn_in_the_order_of_the_file() -> None:
    """Who reads the file from the tree downwards meets the classes in the order in which they are drawn."""
    assert [name for name, _ in drawn()] == [cls.__name__ for cls in CLASSES]


@every_class
def test_every_error_is_part_of_the_contract(cls: type[WeighbridgeError]) -> None:
    """An error can be imported from the package itself, and says in a docstring what happened."""
    assert getattr(weighbridge_hookspecs, cls.__name__) is cls
    assert cls.__name__ in weighbridge_hookspecs.__all__
    assert vars(cls)["__doc__"]


def test_an_error_of_any_kind_can_be_caught_as_one() -> None:
    """The base class is an Exception and no builtin error, so nothing foreign is caught with it."""
    assert WeighbridgeError.__mro__[1:] == (Exception, BaseException, object)
    assert all(len(cls.__bases__) == 1 for cls in CLASSES)


# -- what they hold ----------------------------------------------------------------------------------------------------


@every_class
def test_every_error_survives_pickling_with_all_its_fields(cls: type[WeighbridgeError]) -> None:
    """What a worker process sends is what the host gets, in every version of pickle: class, text and every field."""
    error = complete(cls)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(error, protocol))
        assert type(back) is cls
        assert vars(back) == vars(error)
        assert (back.args, str(back)) == (error.args, str(error))


@every_class
def test_every_error_can_be_copied(cls: type[WeighbridgeError]) -> None:
    """A fresh error to raise is the old one in every field, without its traceback."""
    error = complete(cls)
    try:
        raise error
    except WeighbridgeError:
        fresh = copy.copy(error)
    assert vars(fresh) == vars(error)
    assert error.__traceback__ is not None
    assert fresh.__traceback__ is None


@every_class
def test_every_error_keeps_what_it_is_given(cls: type[WeighbridgeError]) -> None:
    """Each argument of the constructor is a field of the same name."""
    error = complete(cls)
    given = {name: value for base, fields in FIXED if issubclass(cls, base) for name, value in fields.items()}
    given |= {name: value for name, value in PLAIN.items() if name in inspect.signature(cls).parameters}
    assert {name: getattr(error, name) for name in given} == given
    assert error.message == "it is dark"


@every_class
def test_an_error_holds_names_and_numbers_only(cls: type[WeighbridgeError]) -> None:
    """No field is an object that could lead to a plugin, and the signature asks for none."""
    for name, value in vars(complete(cls)).items():
        parts = value if type(value) is tuple else (value,)
        assert all(type(part) in (str, int, float, type(None)) for part in parts), f"{name} holds {value!r}"
    for parameter in inspect.signature(cls).parameters.values():
        assert parameter.annotation in {"str", "str | None", "int | None", "float | None", "tuple[str, ...]"}


@every_class
def test_an_error_is_made_of_a_message_and_named_fields(cls: type[WeighbridgeError]) -> None:
    """The message comes first and everything else is given by name; without arguments an error is still whole."""
    message, *others = inspect.signature(cls).parameters.values()
    assert (message.name, message.default) == ("message", "")
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in others)
    assert not cls().message


def test_an_error_with_a_fixed_step_says_it_itself() -> None:
    """Errors that only one step of the life cycle raises name that step."""
    steps = {cls.__name__: step for cls in CLASSES if (step := cls().step) is not None}
    assert steps == {
        "ManifestError": "discover",
        "DependencyCycle": "order",
        "AdmissionError": "admit",
        "AdmissionRefused": "admit",
        "AdmissionDeferred": "admit",
        "UnloadTimeout": "drain",
        "CeilingExceeded": "lease",
        "Saturated": "lease",
        "Trapped": "call",
        "DeadlineExceeded": "call",
        "InvalidPipeline": "build",
        "StageFailed": "run",
        "UndoFailed": "undo",
    }


# -- what they say -----------------------------------------------------------------------------------------------------

REMOVE: Final = "Remove one of these dependencies from a manifest"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (WeighbridgeError("it is dark"), "it is dark"),
        (WeighbridgeError(), ""),
        (WeighbridgeError("it is dark", plugin="lamp"), "lamp: it is dark"),
        (WeighbridgeError("it is dark", step="activate"), "it is dark"),
        (WeighbridgeError("it is dark", wanted="light"), "it is dark (wanted light)"),
        (WeighbridgeError("it is dark", had="2 MiB"), "it is dark (had 2 MiB)"),
        (WeighbridgeError("it is dark", advice="Wait"), "it is dark. Wait"),
        (
            WeighbridgeError("it is dark", plugin="lamp", wanted="light", had="none", advice="Wait for morning"),
            "lamp: it is dark (wanted light, had none). Wait for morning",
        ),
        (ConfigurationError("a ceiling of 0"), "a ceiling of 0"),
        (DiscoveryError("odd", plugin="lamp"), "lamp: odd"),
        (MetadataError("broken", advice="Install it again"), "broken. Install it again"),
        (ManifestError("cannot be used", plugin="lamp", problems=("a", "b")), "lamp: cannot be used"),
        (DuplicateName("is offered twice", plugin="lamp"), "lamp: is offered twice"),
        (UnknownPlugin("no plugin is called 'lmp'", advice="Take 'lamp'"), "no plugin is called 'lmp'. Take 'lamp'"),
        (DependencyError("no order"), "no order"),
        (MissingRequirement("requires 'shade'", plugin="lamp", advice="Load it"), "lamp: requires 'shade'. Load it"),
        (DependencyCycle("lamp -> lamp", plugin="lamp", ring=("lamp", "lamp")), f"lamp: lamp -> lamp. {REMOVE}"),
        (ConflictingPlugin("conflicts with sun", plugin="lamp"), "lamp: conflicts with sun"),
        (AdmissionError("no", needs_bytes=1, headroom_bytes=0), "no"),
        (
            AdmissionRefused("no room", plugin="lamp", wanted="5 MiB", had="2 MiB", advice="Unload sun"),
            "lamp: no room (wanted 5 MiB, had 2 MiB). Unload sun",
        ),
        (AdmissionDeferred("has to wait", plugin="lamp"), "lamp: has to wait"),
        (LifecycleError("no", plugin="lamp"), "lamp: no"),
        (PluginBlocked("is disabled", plugin="lamp"), "lamp: is disabled"),
        (PluginIncompatible("is of version 2", plugin="lamp"), "lamp: is of version 2"),
        (AlreadyLoaded("is loaded", plugin="lamp"), "lamp: is loaded"),
        (NotLoaded("is not loaded", plugin="lamp"), "lamp: is not loaded"),
        (
            IllegalTransition("cannot go", plugin="lamp", advice="Legal from here: active"),
            "lamp: cannot go. Legal from here: active",
        ),
        (NestedLoad("cannot be loaded now", plugin="lamp"), "lamp: cannot be loaded now"),
        (
            LoadFailed("importing it failed", plugin="lamp", cause="OSError: x", traceback="T", residue=("r",)),
            "lamp: importing it failed",
        ),
        (UnloadRefused("is required by shade", plugin="lamp"), "lamp: is required by shade"),
        (
            UnloadTimeout("1 still inside", plugin="lamp", inside=("thread",), wanted="nobody", advice="Wait"),
            "lamp: 1 still inside (wanted nobody). Wait",
        ),
        (CleanupFailed("timer raised", plugin="lamp"), "lamp: timer raised"),
        (LeaseError("no", plugin="lamp"), "lamp: no"),
        (ContextClosed("is unloaded", plugin="lamp"), "lamp: is unloaded"),
        (ServiceUnavailable("no store here", plugin="lamp"), "lamp: no store here"),
        (
            CeilingExceeded("too much", plugin="lamp", used_bytes=1, advice="Ask for less"),
            "lamp: too much. Ask for less",
        ),
        (Saturated("the gate is full", plugin="lamp", retry_after_seconds=1.0), "lamp: the gate is full"),
        (
            StorageFailed("no room on the disk", wanted="64.0 KiB", advice="Make room"),
            "no room on the disk (wanted 64.0 KiB). Make room",
        ),
        (
            StorageDamaged("the value of 'tea' is damaged", wanted="7 bytes", had="6 bytes"),
            "the value of 'tea' is damaged (wanted 7 bytes, had 6 bytes)",
        ),
        (WorkError("was not taken", plugin="lamp"), "lamp: was not taken"),
        (InvalidModule("is no WebAssembly", plugin="lamp"), "lamp: is no WebAssembly"),
        (UnknownModule("no module 'hsh'", advice="Take 'hash'"), "no module 'hsh'. Take 'hash'"),
        (UnknownFunction("no function 'ad'", advice="Take 'add'"), "no function 'ad'. Take 'add'"),
        (Trapped("read beyond its memory", plugin="lamp", code="MEMORY_OUT_OF_BOUNDS"), "lamp: read beyond its memory"),
        (OutOfFuel("used up 5 units", plugin="lamp"), "lamp: used up 5 units"),
        (DeadlineExceeded("did not end", plugin="lamp", deadline_seconds=2.0), "lamp: did not end"),
        (StateRefused("is of other code", plugin="lamp"), "lamp: is of other code"),
        (
            InvalidPipeline("too deep", path=("wick", "lamp"), problems=("two",), advice="Cut it"),
            "too deep. Cut it",
        ),
        (StageFailed("stage 'wick' failed: OSError: no", stage="wick"), "stage 'wick' failed: OSError: no"),
        (StageWithdrawn("its stages are gone", plugin="lamp"), "lamp: its stages are gone"),
        (UndoFailed("stage 'wick' was not undone", stage="wick", attempts=3), "stage 'wick' was not undone"),
        (Cancelled("was called off", plugin="lamp"), "lamp: was called off"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, WeighbridgeError) else "",
)
def test_an_error_says_plugin_facts_and_advice(error: WeighbridgeError, text: str) -> None:
    """The text is: plugin, what happened, what was wanted and had, and what to do; each only if it is known."""
    assert str(error) == text


def test_every_class_has_its_text_tested() -> None:
    """The list of exact texts above leaves no class out."""
    (mark,) = [one for one in test_an_error_says_plugin_facts_and_advice.pytestmark if one.name == "parametrize"]  # type: ignore[attr-defined]
    assert {type(error) for error, _ in mark.args[1]} == set(CLASSES)


def test_the_repr_of_an_error_is_short() -> None:
    """The repr shows class and message, without facts and advice."""
    assert repr(UnknownPlugin("no 'x'", plugin="lamp", advice="Look again")) == """UnknownPlugin("no 'x'")"""
