"""``weighbridge check``."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from weighbridge_hookspecs import Candidate, ConfigurationError

from ..discovery.candidates import discover
from ..host import Host
from ..weighing.environment import Environment
from ..weighing.records import Check
from ..weighing.weigh import check as check_one
from .output import group_option, json_option, one_line, print_json, print_table, progress, say


@click.command(short_help="For authors: is this plugin fit to be published?")
@click.argument("target", metavar="NAME|WHEEL")
@group_option
@click.option(
    "--rounds",
    default=5,
    show_default=True,
    metavar="N",
    type=click.IntRange(3),
    help="Rounds of load and unload, at least 3.",
)
@click.option(
    "--timeout",
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="For all rounds of a plugin.",
)
@json_option
def check(target: str, group: str, rounds: int, timeout: float, as_json: bool) -> int:
    """For authors: does a plugin keep its budget and the contract, and come back clean?

    NAME is an installed plugin. A WHEEL is installed into a temporary environment first, in front of what is installed
    here, and all its plugins are checked.

    \b
    Examples:
      weighbridge check lantern
      weighbridge check dist/weighbridge_lantern-0.1.0-py3-none-any.whl
    """
    checks = []
    with _found(target, group) as (candidates, python), progress("checking", len(candidates)) as step:
        for candidate in candidates:
            step(candidate.name)
            checks.append(check_one(candidate, rounds=rounds, timeout_seconds=timeout, python=python))
    if as_json:
        print_json({"checks": checks})
    else:
        for one in checks:
            _show(one)
    if any(one.status != "ok" for one in checks):
        return 3
    return 0 if all(one.passed for one in checks) else 1


@contextmanager
def _found(target: str, group: str) -> Iterator[tuple[list[Candidate], str | None]]:
    """The candidates, and the interpreter that has them if it is not this one."""
    wheel = Path(target)
    if wheel.suffix == ".whl":
        with tempfile.TemporaryDirectory(prefix="weighbridge-check-", ignore_cleanup_errors=True) as folder:
            environment = Environment.create(Path(folder, "venv"))
            yield _installed(wheel, group, environment), str(environment.python)
        return
    if wheel.exists() and len(wheel.parts) > 1:
        raise ConfigurationError(
            f"{target} is no wheel", step="check", advice="Build one: python -m build --wheel; or give a plugin's name"
        )
    with Host(group=group) as host:
        candidate = host.candidate(target)
    yield [candidate], None


def _installed(wheel: Path, group: str, environment: Environment) -> list[Candidate]:
    """Install a wheel; the plugins that it has, and not those that came with what it depends on."""
    if not wheel.is_file():
        raise ConfigurationError(f"there is no wheel {wheel}", step="check", advice="Build it: python -m build --wheel")
    with progress("installing", 1) as step:
        step(wheel.name)
        environment.install(wheel)
    found = discover(group, [str(environment.site)])
    mine = _normal(wheel.name.partition("-")[0])
    candidates = [one for one in found.candidates if _normal(one.distribution) == mine]
    if not candidates and found.problems:
        raise found.problems[0]
    if not candidates:
        raise ConfigurationError(f"{wheel.name} has no entry point in the group {group!r}", step="check")
    return candidates


def _normal(distribution: str) -> str:
    """https://packaging.python.org/en/latest/specifications/name-normalization/."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _show(one: Check) -> None:
    say(f"{one_line(one.name)} ({one_line(one.distribution)} {one_line(one.version)}): {_verdict(one)}")
    if one.findings:
        rows = [("ok" if finding.passed else "NO", finding.criterion, finding.detail) for finding in one.findings]
        print_table(("", "criterion", "what was found"), rows)
    for line in (one.traceback or "").rstrip().splitlines():
        say(f"  {line}")


def _verdict(one: Check) -> str:
    if one.status != "ok":
        return f"not fine: {one_line(one.error).removeprefix(f'{one.name}: ')}"
    return "fine" if one.passed else "not fine"
