"""The `wmkit` command: every module of this folder is a verb.

A verb has `HELP`, its line in `wmkit --help`; `add_arguments(parser)`, called where it is the one asked for; and
`run(arguments)`, which does it and returns the exit status. A `ValueError` of `run` is the user's: printed without a
trace, status 2; an `OSError` is the disk's, printed so too, status 1. What takes long to import is imported by these
functions, so that the other verbs and their pages of help do not wait for it.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import wmkit
from wmkit import cli
from wmkit.files import user_path
from wmkit.pipe import ends_with_reader


@ends_with_reader
def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns 0 when all is well, 1 when something is broken, 2 when the command makes no sense, 130
    when Ctrl-C ended it.
    """
    parser = argparse.ArgumentParser(prog="wmkit", description="World models with interchangeable sequence backbones.")
    parser.add_argument("--version", action="version", version=f"wmkit {wmkit.__version__}")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    words, found = sys.argv[1:] if argv is None else argv, verbs()
    for name, verb in found.items():
        own = subparsers.add_parser(name, help=verb.HELP, description=verb.HELP)
        if name in words[:1]:
            verb.add_arguments(own)
    arguments = parser.parse_args(words)
    try:
        for key, value in vars(arguments).items():
            if isinstance(value, str | Path):
                setattr(arguments, key, type(value)(user_path(str(value))))
            elif isinstance(value, list):
                setattr(arguments, key, [type(one)(user_path(str(one))) for one in value])
        return found[arguments.verb].run(arguments)
    except ValueError as error:
        print(f"wmkit {arguments.verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"wmkit {arguments.verb}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # no fault of the disk
        raise
    except OSError as error:
        print(f"wmkit {arguments.verb}: {error}", file=sys.stderr)
        return 1


def verbs() -> dict[str, ModuleType]:
    """The verbs by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(cli.__path__) if not module.name.startswith("_"))
    return {name: importlib.import_module(f"{cli.__name__}.{name}") for name in names}


if __name__ == "__main__":
    sys.exit(main())
