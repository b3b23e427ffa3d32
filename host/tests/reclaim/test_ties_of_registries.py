"""Ties to registries of the standard library: what stays as it was for everybody else."""

from __future__ import annotations

import codecs
import faulthandler
import gc
import logging
import sys
import textwrap
import warnings
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, get_origin

import pytest

from weighbridge.reclaim.belongings import Belongings
from weighbridge.reclaim.ties import foreign
from weighbridge.reclaim.ties.catalogue import wanted
from weighbridge.reclaim.ties.codings import CachedCodecs, CodecErrors, CodecSearches
from weighbridge.reclaim.ties.conversions import Browsers, Translations
from weighbridge.reclaim.ties.copying import Extensions, Reducers
from weighbridge.reclaim.ties.foreign import Callbacks, FaultFiles, Libraries, LineEditing
from weighbridge.reclaim.ties.logs import (
    LastResorts,
    LogFormatters,
    LoggerClasses,
    Loggers,
    LogHandlers,
    RecordFactories,
)
from weighbridge.reclaim.ties.tie import Finding, Tie
from weighbridge.reclaim.ties.warned import ModuleFilters, WarningFilters, WarningHooks
from weighbridge.reclaim.ties.wrapping import beneath

NAME = "leaver_of_registries"
Plant = Callable[[str], Any]


@pytest.fixture
def plant() -> Iterator[Plant]:
    """Makes a module of some source, as the plugin's only one."""

    def make(source: str) -> ModuleType:
        module = sys.modules[NAME] = ModuleType(NAME)
        exec(textwrap.dedent(source), vars(module))
        return module

    yield make
    sys.modules.pop(NAME, None)


@pytest.fixture
def tree() -> Iterator[dict[str, Any]]:
    """The tree of loggers, afterwards as it was before."""
    loggers = logging.Logger.manager.loggerDict
    before = dict(loggers)
    yield loggers
    for name in loggers.keys() - before.keys():
        del loggers[name]


def cut(tie: Tie, *, unsafe: bool = False) -> tuple[Finding, ...]:
    return tie.cut_all(Belongings.of([NAME], wanted()), unsafe=unsafe)


LOGGERS = """
    import logging
    own = logging.getLogger(__name__)
"""


def test_a_child_that_stays_hangs_on_the_next_logger_above(plant: Plant, tree: dict[str, Any]) -> None:
    """A logger between two others is taken out as if it had never been asked for."""
    plant(LOGGERS)
    child = logging.getLogger(f"{NAME}.child.deep")
    child.setLevel("INFO")  # somebody configured it: it stays
    [finding] = cut(Loggers())
    assert finding.outcome == "cut"
    assert child.parent is logging.root
    assert type(tree[NAME]) is logging.PlaceHolder
    again = logging.getLogger(NAME)
    assert child.parent is again


def test_names_above_know_of_a_child_that_stays(plant: Plant, tree: dict[str, Any]) -> None:
    """A logger that is made later above the one that went gets its children."""
    plant("import logging\nown = logging.getLogger(__name__ + '.middle')")
    child = logging.getLogger(f"{NAME}.middle.deep")
    child.setLevel("INFO")
    assert [one.outcome for one in cut(Loggers())] == ["cut"]
    assert child.parent is logging.root
    above = logging.getLogger(NAME)
    assert child.parent is above


@pytest.mark.parametrize("change", ["setLevel('INFO')", "addHandler(logging.StreamHandler())", "propagate = False"])
def test_a_logger_that_was_configured_stays(plant: Plant, tree: dict[str, Any], change: str) -> None:
    """What the application set for a plugin's logger is there when the plugin is loaded again."""
    plant(LOGGERS + f"    own.{change}\n")
    assert cut(Loggers()) == ()
    assert NAME in tree


def test_a_logger_goes_with_a_handler_that_does_nothing(plant: Plant, tree: dict[str, Any]) -> None:
    """Libraries add one to their own logger whenever they are imported; it says nothing of what anybody wants."""
    plant(LOGGERS + "    own.addHandler(logging.NullHandler())\n")
    assert [one.outcome for one in cut(Loggers())] == ["cut"]
    assert NAME not in tree


def test_a_logger_that_somebody_holds_stays(plant: Plant, tree: dict[str, Any]) -> None:
    """Were it forgotten, its holder and the next load would talk to two loggers of the same name."""
    plant(LOGGERS)
    held = {"log": logging.getLogger(NAME)}
    assert cut(Loggers()) == ()
    held.clear()
    assert [one.outcome for one in cut(Loggers())] == ["cut"]
    assert NAME not in tree


def test_a_placeholder_above_goes_with_the_last_logger_below(plant: Plant, tree: dict[str, Any]) -> None:
    """The names between a logger and the root are not left behind either."""
    plant("import logging\nown = logging.getLogger(__name__ + '.a.b')")
    assert f"{NAME}.a" in tree
    cut(Loggers())
    assert not [name for name in tree if name.startswith(NAME)]


def test_a_logger_of_others_gets_the_class_that_its_own_one_extends(plant: Plant, tree: dict[str, Any]) -> None:
    """It was made while the plugin had set the class of all loggers; it stays, and what it is set to."""
    plant("""
        import logging
        class Scribe(logging.Logger): pass
        logging.setLoggerClass(Scribe)
    """)
    log = logging.getLogger("application.of.registries")
    log.setLevel("INFO")
    assert [one.outcome for one in (*cut(LoggerClasses()), *cut(Loggers()))] == ["cut", "cut"]
    assert logging.getLoggerClass() is logging.Logger
    assert type(log) is logging.Logger
    assert log.level == logging.INFO


def test_handlers_formatters_and_last_resorts_are_set_back(plant: Plant) -> None:
    """Handlers of others stay where they are, in their order."""
    first, second = logging.NullHandler(), logging.NullHandler()
    log = logging.Logger("unlisted")
    log.handlers = logging.root.handlers
    logging.root.addHandler(first)
    module = plant("""
        import logging
        class Clerk(logging.NullHandler): pass
        class Form(logging.Formatter): pass
        logging.root.addHandler(Clerk())
        logging.lastResort = Clerk()
    """)
    logging.root.addHandler(second)
    second.setFormatter(module.Form())
    try:
        assert len(cut(LogHandlers())) == 1
        assert [one for one in logging.root.handlers if type(one) is logging.NullHandler] == [first, second]
        assert len(cut(LogFormatters())) == 1
        assert second.formatter is None
        assert len(cut(LastResorts())) == 1
        assert logging.lastResort is vars(logging)["_defaultLastResort"]
    finally:
        logging.root.removeHandler(first)
        logging.root.removeHandler(second)


def test_the_record_factory_is_the_one_that_was_wrapped(plant: Plant) -> None:
    """A factory that the application had set before the plugin is in place again."""

    def application(*arguments: Any, **named: Any) -> logging.LogRecord:
        return logging.LogRecord(*arguments, **named)

    logging.setLogRecordFactory(application)
    try:
        plant("""
            import logging
            original = logging.getLogRecordFactory()
            def factory(*arguments, **named):
                return original(*arguments, **named)
            logging.setLogRecordFactory(factory)
        """)
        assert [one.outcome for one in cut(RecordFactories())] == ["cut"]
        assert logging.getLogRecordFactory() is application
    finally:
        logging.setLogRecordFactory(logging.LogRecord)


def test_filters_of_others_stay_in_their_order(plant: Plant) -> None:
    """Only the filter for a category of the plugin's goes."""
    with warnings.catch_warnings():
        plant("""
            import warnings
            class OverloadWarning(UserWarning): pass
            warnings.simplefilter("ignore", OverloadWarning)
        """)
        warnings.filterwarnings("ignore", "something else")
        before = list(warnings.filters)
        assert [one.outcome for one in cut(WarningFilters())] == ["cut"]
        assert list(warnings.filters) == [before[0], *before[2:]]


def test_a_filter_for_its_module_is_cut_on_demand_only(plant: Plant) -> None:
    """The application may have set it; one that matches others as well is nobody's."""
    with warnings.catch_warnings():
        plant("")
        warnings.filterwarnings("ignore", module="leaver_of|logging")
        warnings.filterwarnings("ignore", module="leaver_of")
        assert [one.outcome for one in cut(ModuleFilters())] == ["left"]
        assert [one.outcome for one in cut(ModuleFilters(), unsafe=True)] == ["cut"]
        assert warnings.filters[0][3].pattern == "leaver_of|logging"  # type: ignore[union-attr]


def test_warnings_are_shown_by_the_function_that_was_wrapped(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the application set before the plugin shows warnings again."""

    def application(message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any) -> None:
        raise AssertionError(message)

    with warnings.catch_warnings():
        monkeypatch.setattr(warnings, "showwarning", application)
        plant("""
            import warnings
            original = warnings.showwarning
            def show(message, category, filename, lineno, file=None, line=None):
                original(message, category, filename, lineno, file, line)
            warnings.showwarning = show
        """)
        assert [one.outcome for one in cut(WarningHooks())] == ["cut"]
        assert warnings.showwarning is application


def test_an_error_handler_of_pythons_own_is_back(plant: Plant) -> None:
    """Encoding goes on as the documentation of Python says."""
    plant("""
        import codecs
        def question(error):
            return "?", error.end
        codecs.register_error("namereplace", question)
        codecs.register_error("registries", question)
    """)
    assert "\u20ac".encode("ascii", "namereplace") == b"?"
    assert [one.outcome for one in cut(CodecErrors())] == ["cut", "cut"]
    assert "\u20ac".encode("ascii", "namereplace") == b"\\N{EURO SIGN}"
    with pytest.raises(LookupError):
        codecs.lookup_error("registries")


def test_a_lost_error_handler_is_said_to_be_lost(plant: Plant) -> None:
    """Nobody can put back what nobody has: the plugin's stays in place."""
    original = codecs.lookup_error("surrogatepass")
    plant("""
        import codecs
        def question(error):
            return "?", error.end
        codecs.register_error("surrogatepass", question)
    """)
    try:
        [finding] = cut(CodecErrors(), unsafe=True)
        assert (finding.outcome, "no copy" in finding.note) == ("left", True)
    finally:
        codecs.register_error("surrogatepass", original)


def test_a_codec_is_not_found_any_more(plant: Plant) -> None:
    """Neither its search nor what was looked up is left, and other codecs are."""
    plant("""
        import codecs
        def search(name):
            return codecs.CodecInfo(encode, None, name=name) if name == "registries" else None
        def encode(text, errors="strict"):
            return b"!", len(text)
        codecs.register(search)
    """)
    assert codecs.encode("a", "registries") == b"!"
    assert {one.outcome for one in (*cut(CachedCodecs()), *cut(CodecSearches()))} == {"cut"}
    with pytest.raises(LookupError):
        codecs.lookup("registries")
    assert codecs.lookup("utf-8").encode("a") == (b"a", 1)


def test_registries_that_were_never_imported_are_not_imported_to_look(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tie looks in ``sys.modules``; what is not there holds nothing."""
    names = ("sqlite3", "webbrowser", "gettext", "readline", "copy", "pickle", "shutil", "ctypes", "_ctypes")
    plant("def weigh(): pass")
    own = Belongings.of([NAME], wanted())
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for tie in (Browsers(), Translations(), LineEditing(), Callbacks(), Libraries(), Extensions(), Reducers()):
        assert tie.find(own) == ()
    assert sys.modules.keys().isdisjoint(names)


def test_a_callback_outlives_whoever_made_it(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """C code that kept its address can go on calling it."""
    ctypes = pytest.importorskip("ctypes")
    monkeypatch.setattr(foreign, "called_from_c", {})
    module = plant("""
        import ctypes
        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
        def weigh(load):
            return load + 1
    """)
    address = ctypes.cast(module.weigh, ctypes.c_void_p).value
    kept = weakref.ref(module)
    [finding] = cut(Callbacks(), unsafe=True)
    assert finding.outcome == "left"
    del module, sys.modules[NAME]
    gc.collect()
    assert ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(address)(6) == 7
    foreign.called_from_c.clear()
    gc.collect()
    assert kept() is None


def test_faulthandler_is_left_alone_unless_asked(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can see whose file it is; a plugin that never mentions it is not suspected."""
    monkeypatch.setattr(faulthandler, "is_enabled", lambda: True)
    plant("def weigh(): pass")
    assert cut(FaultFiles()) == ()
    plant("import faulthandler")
    assert [one.outcome for one in cut(FaultFiles())] == ["left"]


@pytest.mark.parametrize(
    ("name", "says"), [("get_origin", False), ("threshold", False), ("_original_scale", True), ("oldscale", True)]
)
def test_what_was_there_before_is_told_by_whole_words(plant: Plant, name: str, says: bool) -> None:
    """A function that a patch merely calls is never put in the place of what the patch replaced."""
    plant(f"""
        from typing import get_origin as {name}
        def weigh(thing): return {name}(thing)
    """)
    module = sys.modules[NAME]
    found = beneath(vars(module)["weigh"], Belongings.of([NAME]), lambda thing: False)
    assert (found is get_origin) == says
