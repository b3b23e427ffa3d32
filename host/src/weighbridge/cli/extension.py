"""Commands of plugins: ``weighbridge NAME ...`` loads the plugin of that name and hands over to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

import click
from weighbridge_hookspecs import GROUP, Candidate

from ..discovery.candidates import Discovery, discover
from . import output
from .config import ceiling_option, config_option, make_host, read_config, store_option
from .ending import INTERRUPTED, unload_all

_HOOK: Final = "weighbridge_command"


class CommandsOfPlugins(click.Group):
    """A group that has, beside its own commands, one for each plugin whose manifest lists ``weighbridge_command``.

    They are looked for when none of its own is meant, and nothing is imported for that.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Its own commands, then those of plugins."""
        own = super().list_commands(ctx)
        return [*own, *(one.name for one in _with_command(_found(ctx).candidates) if one.name not in own)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of its own, or else a plugin's.

        :raises DiscoveryError: if there is a plugin of that name, and something is wrong with its manifest.
        """
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        found = _found(ctx)
        for problem in found.problems:
            if problem.plugin == cmd_name:  # it is installed, so "no such command" would mislead
                raise problem
        return next((_command(one) for one in _with_command(found.candidates) if one.name == cmd_name), None)


class CommandTerminal:
    """What the commands of the host themselves print with."""

    say = staticmethod(output.say)
    complain = staticmethod(output.complain)
    print_table = staticmethod(output.print_table)
    print_json = staticmethod(output.print_json)
    progress = staticmethod(output.progress)


def _found(ctx: click.Context) -> Discovery:
    """What is installed; looked for once in an invocation, for the help asks for the commands one by one."""
    if _HOOK not in ctx.meta:
        ctx.meta[_HOOK] = discover(GROUP)
    found: Discovery = ctx.meta[_HOOK]
    return found


def _with_command(candidates: Iterable[Candidate]) -> list[Candidate]:
    return [one for one in candidates if one.manifest is not None and _HOOK in one.manifest.hooks]


def _command(candidate: Candidate) -> click.Command:
    """Takes the options of a host, and leaves everything else, ``--help`` too, to the plugin."""
    assert candidate.manifest is not None
    return click.Command(
        candidate.name,
        callback=partial(_run, candidate.name),
        short_help=candidate.manifest.summary,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        params=[
            *_parameters(ceiling_option, store_option, config_option),
            click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED),
        ],
    )


def _parameters(*decorators: Callable[[click.Command], click.Command]) -> list[click.Parameter]:
    """The parameters that decorators of click give to a command."""
    return [parameter for decorate in decorators for parameter in decorate(click.Command(None)).params]


def _run(name: str, ceiling: str | None, store: Path | None, config: Path | None, arguments: tuple[str, ...]) -> int:
    # nobody looks at the account, and tracing makes a load several times slower
    host = make_host(read_config(config), ceiling=ceiling, store=store, meter="process")
    try:
        host.load(name)
        code = host.command(name, arguments, CommandTerminal())
    finally:
        ending = unload_all(host)
        for problem in ending.problems:
            output.complain(problem)
    return INTERRUPTED if ending.interrupted else code
