"""The `wmkit` command: every module of this folder is a verb.

A verb has `HELP`, its line in `wmkit --help`; `add_arguments(parser)`, called where it is the one asked for; and
`run(arguments)`, which does it and returns the exit status. A `ValueError` of `run` is the user's: printed without a
trace, status 2; an `OSError` is the disk's, printed so too, status 1. Only the verb that is asked for is imported: of
the others `HELP` is read from the file, so that nobody waits for PyTorch to see a page of help.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

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
    words = sys.argv[1:] if argv is None else argv
    for name, line in verbs().items():
        own = subparsers.add_parser(name, help=line, description=line)
        if name in words[:1]:
            verb = importlib.import_module(f"{cli.__name__}.{name}")
            verb.add_arguments(own)
    arguments = parser.parse_args(words)
    try:
        for key, value in vars(arguments).items():
            if isinstance(value, str | Path):
                setattr(arguments, key, type(value)(user_path(str(value))))
            elif isinstance(value, list):
                setattr(arguments, key, [type(one)(user_path(str(one))) for one in value])
        return verb.run(arguments)
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


def verbs() -> dict[str, str]:
    """The verbs by name, with their lines of help."""
    found = {}
    for path in sorted(path for folder in cli.__path__ for path in Path(folder).glob("[!_]*.py")):
        lines = ast.parse(path.read_text(encoding="utf-8")).body
        [value] = [one.value for one in lines if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "HELP"]
        found[path.stem] = ast.literal_eval(value)
    return found


if __name__ == "__main__":
    sys.exit(main())
