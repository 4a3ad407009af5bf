"""The command line: `python -m difffae COMMAND`.

Exit status 0 only when the output was written; 2 with one line on stderr that names the input, what is wrong and what to do;
130 when interrupted. Each command is one module with `add(subparsers)` and `run(arguments)`; heavy imports happen in `run`
only, so that help is instant.

Imports from common, head, diffusion, faces, source, estimation, edit, report, video and convert, and from the lab where it is
installed;
no other room imports from here.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from ..common.errors import ConfigError, DiffFAEError
from ..common.needs import missing
from . import animate, bench, convert, edit, evaluate, figure, prepare, reconstruct, render, report, swap, train
from .options import OneLineParser

COMMANDS = (edit, animate, swap, render, report, prepare, train, evaluate, reconstruct, figure, convert, bench)
LAB = f"{__package__.rpartition('.')[0]}.lab"
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # as PyTorch says it, per device
DESCRIPTION = "One-shot facial appearance editing: pose, expression and light of a portrait, from references or by numbers."


def build_parser() -> OneLineParser:
    parser = OneLineParser(prog="python -m difffae", description=DESCRIPTION, allow_abbrev=False)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=OneLineParser)
    for command in COMMANDS:
        command.add(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        arguments = build_parser().parse_args(argv)
        level = logging.INFO if arguments.command in ("train", "assemble", "convert") else logging.WARNING
        with _messages(level), warnings.catch_warnings():
            # other people's libraries have much to say that is no concern of the user; our own warnings go through logging
            warnings.simplefilter("ignore")
            arguments.run(arguments)
    except DiffFAEError as error:
        return _complain(error)
    except ModuleNotFoundError as error:
        if str(error.name).startswith(LAB):
            # what ComfyUI's registry hands out leaves the researchers' rooms away
            return _complain(ConfigError(f"{arguments.command}: is not part of this installation; get the whole repository"))
        if str(error.name).partition(".")[0] == __package__.partition(".")[0]:
            raise  # a module of our own: a fault
        return _complain(missing(arguments.command, error))
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        return _complain(ConfigError("out of memory; close other programs, use smaller pictures or --device cpu"))
    return 0


@contextmanager
def _messages(level: int) -> Iterator[None]:
    """The library's log lines go to stderr as they are, for the time of one command."""
    logger, handler = logging.getLogger("difffae"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _complain(error: Exception) -> int:
    sys.stderr.write(f"difffae: {' '.join(str(error).split())}\n")
    return 2


def entry() -> NoReturn:
    """Entry point of the installed `difffae` command, and of `python -m difffae`."""
    for stream in (sys.stdout, sys.stderr):
        # paths may hold characters that the console's encoding lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())
