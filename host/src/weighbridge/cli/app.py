"""The group of commands, and what an error looks like to a person."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Final

import click
from weighbridge_hookspecs import (
    AdmissionError,
    ConfigurationError,
    UnknownPlugin,
    UnloadTimeout,
    WeighbridgeError,
)

from .. import __version__
from .check import check
from .demo import demo
from .doctor import doctor
from .ending import INTERRUPTED
from .explain import explain
from .extension import CommandsOfPlugins
from .interrupts import Interrupted, interruptible
from .list import list_
from .output import complain
from .run import run as run_
from .weigh import weigh

FINE: Final = 0
REFUSED_OR_STRANDED: Final = 1
USAGE: Final = 2
FAILED: Final = 3

_COMPLETION: Final = "_WEIGHBRIDGE_COMPLETE"
"""https://click.palletsprojects.com/en/stable/shell-completion/"""


@click.group(
    cls=CommandsOfPlugins,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="weighbridge")
@click.pass_context
def weighbridge(context: click.Context) -> None:
    """Weigh plugins, admit them under a memory ceiling, and take their memory back.

    \b
    Exit codes: 0 fine, 1 a plugin was refused or left something behind,
    2 wrong usage, 3 a plugin failed, 130 interrupted.

    \b
    Example: what does each pytest plugin here cost?
      weighbridge weigh --group pytest11
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(USAGE)


for command in (list_, weigh, explain, run_, check, doctor, demo):
    weighbridge.add_command(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. An error of ours is one line, anything else a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that it has no letters for must not stop it
    try:
        with interruptible():
            return _invoke(arguments)
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.UsageError as error:
        about = f" ({error.ctx.command_path} --help)" if error.ctx else ""
        complain(f"{error.format_message()}{about}")
        return USAGE
    except Interrupted as interruption:
        complain("interrupted")
        return interruption.exit_code
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted")
        return INTERRUPTED
    except WeighbridgeError as error:
        complain(error)
        return exit_code(error)
    except BrokenPipeError:
        return FINE


def _invoke(arguments: Sequence[str] | None) -> int:
    """Like ``click.Command.main``, which would catch Ctrl-C and broken pipes in a way of its own."""
    if _COMPLETION in os.environ:
        weighbridge.main(prog_name="weighbridge")
    arguments = sys.argv[1:] if arguments is None else arguments
    with weighbridge.make_context("weighbridge", list(arguments)) as context:
        code = weighbridge.invoke(context)
    return code if isinstance(code, int) else FINE


def exit_code(error: WeighbridgeError) -> int:
    """The exit code that an error stands for."""
    if isinstance(error, ConfigurationError | UnknownPlugin):
        return USAGE
    if isinstance(error, AdmissionError | UnloadTimeout):
        return REFUSED_OR_STRANDED
    return FAILED
