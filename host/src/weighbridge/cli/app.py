"""The group of commands, and what an error looks like to a person."""

from __future__ import annotations

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
from .list import list_
from .run import run as run_
from .weigh import weigh

FINE: Final = 0
REFUSED_OR_STRANDED: Final = 1
USAGE: Final = 2
FAILED: Final = 3
INTERRUPTED: Final = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="weighbridge")
def weighbridge() -> None:
    """Weigh plugins, admit them under a memory ceiling, and take their memory back.

    \b
    Exit codes: 0 fine, 1 a plugin was refused or left something behind, 2 wrong usage, 3 a plugin failed.

    \b
    Example:
      weighbridge weigh --group pytest11      what does each pytest plugin here cost?
    """


for command in (list_, weigh, run_, check, demo):
    weighbridge.add_command(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. An error of ours is one message, anything else a traceback."""
    try:
        code = weighbridge.main(args=arguments, prog_name="weighbridge", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except ExceptionGroup as group:
        if not all(isinstance(one, WeighbridgeError) for one in group.exceptions):
            raise
        for one in group.exceptions:
            click.echo(f"weighbridge: {one}", err=True)
        return FAILED
    except WeighbridgeError as error:
        click.echo(f"weighbridge: {error}", err=True)
        return exit_code(error)
    except BrokenPipeError:
        sys.stderr.close()  # or Python complains about the same pipe once more on its way out
        return FINE
    return code if isinstance(code, int) else FINE


def exit_code(error: WeighbridgeError) -> int:
    """The exit code that an error stands for."""
    if isinstance(error, ConfigurationError | UnknownPlugin):
        return USAGE
    if isinstance(error, AdmissionError | UnloadTimeout):
        return REFUSED_OR_STRANDED
    return FAILED
