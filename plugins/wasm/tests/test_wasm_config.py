"""What a module may take, and the plugin's settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs import ConfigurationError, StateRefused, StorageDamaged

from weighbridge_wasm.config import (
    DEFAULT_MAX_PAGES,
    MOST_PAGES,
    MOST_SECTION_BYTES,
    ModuleConfig,
    ScalingSettings,
    read_section,
    read_settings,
)

CONFIGS = st.builds(
    ModuleConfig,
    max_pages=st.integers(1, MOST_PAGES),
    fuel=st.none() | st.integers(1, 2**63 - 1),
    deadline_seconds=st.none() | st.floats(0.001, 1e6),
    max_table_elements=st.integers(0, 2**32 - 1),
    max_idle=st.integers(0, 1000),
    keep_state=st.booleans(),
    reset=st.sampled_from(["auto", "never"]),
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def test_defaults_are_those_of_the_issue() -> None:
    """256 pages, ten idle instances, thirty seconds, no limit on fuel, nothing kept and nothing granted."""
    config = ModuleConfig()
    assert (config.max_pages, config.max_idle, config.max_table_elements) == (DEFAULT_MAX_PAGES, 10, 10_000)
    assert (config.deadline_seconds, config.fuel, config.keep_state) == (30.0, None, False)
    assert (config.reset, config.wasi) == ("auto", None)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_pages": 0}, "max_pages is 0. Give a whole number of pages of 64 KiB from 1 to 65,536"),
        ({"max_pages": 65_537}, "max_pages is 65537. Give a whole number of pages of 64 KiB from 1 to 65,536"),
        ({"max_pages": True}, "max_pages is True. Give a whole number"),
        ({"max_pages": 1.0}, "max_pages is 1.0. Give a whole number"),
        ({"max_pages": None}, "max_pages is None. Give a whole number"),
        ({"fuel": 0}, "fuel is 0. Give a whole number of units of fuel from 1 to 9,223,372,036,854,775,807, or None"),
        ({"deadline_seconds": 0}, "deadline_seconds is 0. Give a number of seconds above 0"),
        ({"deadline_seconds": float("nan")}, "deadline_seconds is nan. Give a number of seconds above 0"),
        ({"deadline_seconds": float("inf")}, "deadline_seconds is inf. Give a number of seconds above 0"),
        ({"max_table_elements": -1}, "max_table_elements is -1. Give a whole number of elements from 0"),
        ({"max_idle": "10"}, "max_idle is '10'. Give a whole number of instances from 0"),
        ({"keep_state": 1}, "keep_state is 1. Give true or false"),
        ({"reset": "nevr"}, 'reset is \'nevr\'. Give "auto" or "never"; did you mean "never"?'),
        ({"reset": ["auto"]}, 'reset is [\'auto\']. Give "auto" or "never"'),
        ({"wasi": "all"}, "wasi is 'all'. Give a table, or None"),
        ({"wasi": {"clock": object}}, "Give a table of texts, numbers, flags and lists of them"),
        ({"wasi": {1: True}}, "wasi is a table with what cannot be used. Give a table of texts"),
        ({"max_page": 3}, "which is no setting. It may have deadline_seconds, fuel"),
        ({"max_page": 3}, 'did you mean "max_pages"?'),
        ({3: 3}, "the configuration of a module has 3, which is no setting"),
        ("max_pages=3", "the configuration of a module is 'max_pages=3'. Give a table"),
    ],
)
def test_error_names_the_key_the_value_and_what_is_allowed(settings: Any, text: str) -> None:
    """So that nobody has to look it up."""
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        ModuleConfig.read(settings)


@given(st.sampled_from([field.name for field in attrs.fields(ModuleConfig)]), ANYTHING)
def test_any_value_is_taken_or_refused(name: str, value: object) -> None:
    """Whatever is given for a key, it is a configuration or a ConfigurationError, and never another error."""
    try:
        config = ModuleConfig.read({name: value})
    except ConfigurationError as error:
        refusal = str(error)
    else:
        refusal = name
        assert getattr(config, name) == value
        assert ModuleConfig.from_json(config.to_json()) == attrs.evolve(config, wasi=None)
    assert name in refusal


@given(CONFIGS)
def test_kept_configuration_is_the_same(config: ModuleConfig) -> None:
    """What is written to the store is read from it."""
    assert ModuleConfig.from_json(config.to_json()) == config


def test_grants_are_not_kept() -> None:
    """An environment may hold secrets, so what was granted is not written."""
    config = ModuleConfig(wasi={"environment": {"TOKEN": "secret"}})
    assert b"secret" not in config.to_json()
    assert ModuleConfig.from_json(config.to_json()).wasi is None


def test_grants_are_copied() -> None:
    """Who changes a table afterwards grants nothing more."""
    folders = [{"guest": "/", "host": "/srv"}]
    config = ModuleConfig(wasi={"folders": folders})
    folders.append({"guest": "/etc", "host": "/etc"})
    assert config.wasi == {"folders": [{"guest": "/", "host": "/srv"}]}


def test_grants_may_be_an_object() -> None:
    """What has `to_mapping` is taken as the table that it gives."""

    class Grants:
        def to_mapping(self) -> Mapping[str, Any]:
            return {"clock": True}

    assert ModuleConfig.read({"wasi": Grants()}).wasi == {"clock": True}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"3",
        b'{"format": "1"}',
        b'{"format": 0}',
        b'{"format": true}',
        b'{"format": 1, "max_pages": 0}',
        b'{"format": 1, "pages": 3}',
        b"[" * 100_000,
    ],
)
def test_damaged_configuration_is_named(content: bytes) -> None:
    """What is in the store and is none of ours is damage."""
    with pytest.raises(StorageDamaged, match="kept configuration"):
        ModuleConfig.from_json(content)


def test_configuration_of_a_newer_version_is_refused() -> None:
    """It may mean something that this version does not know."""
    document = json.loads(ModuleConfig().to_json()) | {"format": 2, "colour": "red"}
    with pytest.raises(StateRefused, match="has the format 2"):
        ModuleConfig.from_json(json.dumps(document).encode())


def test_changes_are_checked() -> None:
    """What is not changed stays, and what is changed is looked at."""
    config = ModuleConfig(fuel=7).changed(max_pages=3)
    assert (config.max_pages, config.fuel) == (3, 7)
    with pytest.raises(ConfigurationError, match="max_pages is -1"):
        config.changed(max_pages=-1)


# -- a module's own section --------------------------------------------------------------------------------------------


def test_section_may_ask_for_pages_and_state() -> None:
    """A module knows how much memory it needs."""
    config = ScalingSettings().config_for(b"max_pages = 1024\nkeep_state = true\n")
    assert (config.max_pages, config.keep_state) == (1024, True)


@given(config=CONFIGS, wish=CONFIGS, allowed=st.integers(1, MOST_PAGES))
def test_section_gives_itself_nothing(config: ModuleConfig, wish: ModuleConfig, allowed: int) -> None:
    """Whatever a module asks for, it gets no more time, fuel, elements, instances or pages than it may have."""
    names = ("max_pages", "fuel", "deadline_seconds", "max_table_elements", "max_idle", "keep_state")
    given = config.asked({name: getattr(wish, name) for name in names}, max_pages_allowed=allowed)
    assert given.max_pages <= allowed
    for name in ("fuel", "deadline_seconds"):
        bound, value = getattr(config, name), getattr(given, name)
        assert bound is None or (value is not None and value <= bound)
    assert given.max_table_elements <= config.max_table_elements
    assert given.max_idle <= config.max_idle
    assert (given.reset, given.wasi) == (config.reset, config.wasi)


def test_registration_decides_over_the_section() -> None:
    """What is registered as a table is laid over the section, and a configuration replaces it."""
    settings = ScalingSettings(module={"fuel": 100})
    section = b"max_pages = 1024\nmax_idle = 2\n"
    config = settings.config_for(section, {"max_pages": 8, "fuel": None})
    assert (config.max_pages, config.max_idle, config.fuel) == (8, 2, None)
    assert settings.config_for(section, ModuleConfig(max_pages=3)) == ModuleConfig(max_pages=3)


def test_operator_bounds_the_pages() -> None:
    """A module that asks for more gets what is allowed; a registration that asks for more is refused."""
    settings = ScalingSettings(module={"max_pages": 16}, max_pages_allowed=100)
    assert settings.config_for(b"max_pages = 1024").max_pages == 100
    for registration in ({"max_pages": 101}, ModuleConfig(max_pages=101)):
        with pytest.raises(ConfigurationError, match="wanted at most 100, the setting max_pages_allowed"):
            settings.config_for(None, registration)
    with pytest.raises(ConfigurationError, match="the default of the modules has max_pages of 200"):
        ScalingSettings(module={"max_pages": 200}, max_pages_allowed=100)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"max_pages = 0", "the custom section 'weighbridge': max_pages is 0"),
        (b"wasi = {clock = true}", "has 'wasi', which is no setting"),
        (b"max_pagse = 3", 'did you mean "max_pages"?'),
        (b'reset = "auto"', 'Write "never", or leave it out'),
        (b"max_pages", "is no TOML: "),
        (b"max_pages = \xff", "is no UTF-8 at byte 12"),
        (b"fuel = " + b"9" * 10_000, "the custom section 'weighbridge'"),
        (b"fuel = " + b"[" * 20_000, "is no TOML that can be read"),
        (b"#" * (MOST_SECTION_BYTES + 1), "has 65,537 bytes. Write at most 65,536"),
    ],
)
def test_section_of_a_stranger_is_refused_in_words(content: bytes, text: str) -> None:
    """It says where it is from, and what is wrong with it."""
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        read_section(content)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_section_is_read_or_refused(content: bytes) -> None:
    """Whatever a module carries, there is no other error."""
    where = "the custom section 'weighbridge'"
    try:
        config = ModuleConfig().asked(read_section(memoryview(content)))
    except ConfigurationError as error:
        refusal = str(error)
    else:
        refusal = where
        assert config.wasi is None
    assert where in refusal


def test_longest_section_is_read() -> None:
    """Its bound is part of what is allowed."""
    assert read_section(b"fuel = 3\n".ljust(MOST_SECTION_BYTES, b"#")) == {"fuel": 3}


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_are_read() -> None:
    """As they are written into the host's configuration."""
    settings = read_settings(
        {"module": {"max_pages": 32}, "load_source": "system", "interval_seconds": 5, "cache_folder": "/var/cache/w"}
    )
    assert settings.module == ModuleConfig(max_pages=32)
    assert (settings.load_source, settings.interval_seconds, settings.cache_folder) == ("system", 5, "/var/cache/w")
    assert (settings.wait_seconds, settings.cache_bytes) == (30.0, 256 * 1024 * 1024)
    assert read_settings({}) == ScalingSettings()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"load_source": "extrnal"},
            'load_source is \'extrnal\'. Give "external" or "system"; did you mean "external"?',
        ),
        ({"interval_seconds": -1}, "interval_seconds is -1. Give a number of seconds above 0"),
        ({"interval_seconds": None}, "interval_seconds is None"),
        ({"max_idle_bytes": "64 MiB"}, "max_idle_bytes is '64 MiB'. Give a whole number of bytes"),
        ({"cache_folder": ""}, "cache_folder is ''. Give the path of a folder"),
        ({"cache_folder": 3}, "cache_folder is 3"),
        ({"wait_second": 3}, "[plugins.wasm] has 'wait_second', which is no setting"),
        ({"wait_second": 3}, 'did you mean "wait_seconds"?'),
        ({"module": {"max_pages": 0}}, "max_pages is 0"),
        ({"module": 3}, "the configuration of a module is 3. Give a table"),
    ],
)
def test_setting_that_makes_no_sense_is_refused(settings: Mapping[str, Any], text: str) -> None:
    """The error names the setting, the value and what is allowed."""
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        read_settings(settings)


def test_no_error_and_no_text_shows_an_environment() -> None:
    """Its values may be secrets, whatever else is wrong with the table."""
    secret = {"environment": {"TOKEN": "hidden"}}
    with pytest.raises(ConfigurationError) as refused:
        ModuleConfig(wasi={**secret, "folders": [{"guest": "/data", "host": object()}]})
    assert "hidden" not in f"{refused.value!r} {refused.value}"
    assert refused.value.__context__ is None
    config = ModuleConfig(wasi=secret)
    assert "wasi=<environment>" in repr(config)
    assert "hidden" not in repr(config)
