"""``weighbridge check``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import click
from weighbridge_hookspecs import Candidate, ConfigurationError

from ..discovery.candidates import discover
from ..host import Host
from ..weighing.environment import Environment
from ..weighing.records import Check, Finding
from ..weighing.weigh import check as check_one
from .output import group_option, json_option, print_json, print_table, progress


@click.command()
@click.argument("target", metavar="NAME|WHEEL")
@group_option
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(3), help="Rounds of load and unload.")
@click.option(
    "--timeout", default=120.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Seconds for all."
)
@json_option
def check(target: str, group: str, rounds: int, timeout: float, as_json: bool) -> int:
    """For authors: does a plugin load within its declared budget, keep to the contract, and come back clean?

    NAME is an installed plugin. A WHEEL is installed into a temporary environment first, and all its plugins are checked.

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
    checks = [_with_manifest(one, candidate) for one, candidate in zip(checks, candidates, strict=True)]
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
    """The candidates, and the interpreter that has them."""
    wheel = Path(target)
    if wheel.suffix != ".whl":
        with Host(group=group) as host:
            yield [host.candidate(target)], None
        return
    if not wheel.is_file():
        raise ConfigurationError(
            f"there is no wheel {target}", step="check", advice="Build it: python -m build --wheel"
        )
    with tempfile.TemporaryDirectory(prefix="weighbridge-check-") as folder:
        environment = Environment.create(Path(folder))
        environment.install(wheel)
        found = discover(group, [str(environment.site)])
        if found.problems:
            raise found.problems[0]
        if not found.candidates:
            raise ConfigurationError(f"{wheel.name} has no entry point in the group {group!r}", step="check")
        yield list(found.candidates), str(environment.python)


def _with_manifest(one: Check, candidate: Candidate) -> Check:
    if candidate.manifest is not None or one.status != "ok":
        return one
    finding = Finding(
        criterion="manifest",
        passed=False,
        detail="there is no manifest: add weighbridge.toml and an entry point in the group weighbridge.manifest",
    )
    return attrs.evolve(one, findings=(finding, *one.findings), passed=False)


def _show(one: Check) -> None:
    click.echo(f"{one.name} ({one.distribution} {one.version}): {'fine' if one.passed else 'not fine'}")
    if one.error:
        click.echo(f"  {one.status}: {one.error}")
    if one.findings:
        rows = [("  ok" if finding.passed else "  NO", finding.criterion, finding.detail) for finding in one.findings]
        print_table(("  ", "criterion", "what was found"), rows)
