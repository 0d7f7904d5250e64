"""The page of `--help`: what the recipe says of itself, then every key with its default and its sentence.

A key's sentence is the string below its field in the source: what a reader of the config finds there is what a user of
the command line reads.
"""

from __future__ import annotations

import ast
import inspect
import json
import shutil
import textwrap
from collections.abc import Collection, Mapping
from typing import Any

from wmkit.config import RunConfig
from wmkit.data import list_worlds
from wmkit.presets import PRESETS
from wmkit.registry import list_backbones

WIDTH = 120
"""Characters of a line at most: the page is text to read."""


def recipe_help(page: str | None, usage: str, defaults: RunConfig, without: Collection[str] = ()) -> str:
    """The whole page: the recipe's docstring, its usage, what can be chosen by name, and every key but `without`."""
    choices = {"world": list_worlds(), "backbone": list_backbones(), "preset": sorted(PRESETS)}
    lines = [f"{key} is one of {', '.join(names)}" for key, names in choices.items()]
    wrapped = "\n".join(_wrap(line, indent="  ") for line in lines)
    whole = f"{(page or '').strip()}\n\n{usage}\n{wrapped}\n\n{describe_keys(defaults, without)}"
    return whole.strip() + "\n"


def describe_keys(defaults: RunConfig, without: Collection[str] = ()) -> str:
    """Every key as `key=default`, section by section, each with its sentence below."""
    blocks, sections = [], []
    sentences = field_sentences(RunConfig)
    for key, value in defaults.to_dict().items():
        if key in without:
            continue
        if not isinstance(value, Mapping):
            blocks.append(_entry(key, value, sentences))
            continue
        part = type(getattr(defaults, key))
        chosen = f"{key}={value['name']}: " if "name" in value else f"{key}: "
        sections.append(_wrap(chosen + " ".join((inspect.getdoc(part) or "").partition("\n\n")[0].split())))
        own = field_sentences(part)
        names = [name for name in value if name != "name" and f"{key}.{name}" not in without]
        sections.append("\n".join(_entry(f"{key}.{name}", value[name], own) for name in names))
    return "\n".join(blocks) + "\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def field_sentences(config: type[Any]) -> dict[str, str]:
    """The docstring below each field of a dataclass and of those it inherits from, as one line of text."""
    found: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        except (OSError, TypeError):  # a class typed at a prompt, or one of C's
            continue
        assert isinstance(body, ast.ClassDef), "the source of a class is a class"
        for field, after in zip(body.body, body.body[1:], strict=False):
            match field, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


def _entry(key: str, value: Any, sentences: Mapping[str, str]) -> str:
    sentence = sentences.get(key.rpartition(".")[2])
    shown = value if isinstance(value, str) else json.dumps(value)
    return f"  {key}={shown}" + ("" if sentence is None else "\n" + _wrap(sentence, indent=" " * 6))


def _wrap(text: str, indent: str = "") -> str:
    width = min(WIDTH, shutil.get_terminal_size().columns)
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
