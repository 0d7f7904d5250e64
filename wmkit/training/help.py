"""The page of `--help`: what the recipe says of itself, then every key with its default and its sentence; or one part.

A key's sentence is the string below its field in the source: what a reader of the config finds there is what a user of
the command line reads.
"""

from __future__ import annotations

import ast
import inspect
import json
import shutil
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from wmkit.checks import closest
from wmkit.config import RunConfig
from wmkit.data import list_worlds
from wmkit.presets import PRESETS
from wmkit.registry import list_backbones

WIDTH = 120
"""Characters of a line at most: the page is text to read."""


HELP_WORDS = frozenset({"-h", "--help"})
"""Words that ask for the page."""


def recipe_help(page: str | None, usage: str, defaults: RunConfig, without: Collection[str] = ()) -> str:
    """The whole page: the recipe's docstring, its usage, what can be chosen by name, and every key but `without`."""
    choices = {"world": list_worlds(), "backbone": list_backbones(), "preset": sorted(PRESETS)}
    lines = [f"{key} is one of {', '.join(names)}" for key, names in choices.items()]
    wrapped = "\n".join(_wrap(line, indent="  ") for line in lines)
    whole = f"{(page or '').strip()}\n\n{usage}\n{wrapped}\n\n{describe_keys(defaults, without)}"
    return whole.strip() + "\n"


def help_topics(words: Sequence[str]) -> list[str]:
    """What is asked for beside `--help`: sections and keys, the words that are neither options nor `key=value`."""
    return [word for word in words if "=" not in word and not word.startswith("-")]


def describe_keys(defaults: RunConfig, without: Collection[str] = (), topic: str | None = None) -> str:
    """Every key as `key=default`, section by section, each with its sentence below; of a topic that section or key.

    Raises `ValueError` for a topic that is neither.
    """
    heads, entries = {}, {}
    sentences = field_sentences(RunConfig)
    for key, value in defaults.to_dict().items():
        if not isinstance(value, Mapping):
            entries[key] = _entry(key, value, sentences)
            continue
        part = type(getattr(defaults, key))
        chosen = f"{key}={value['name']}: " if "name" in value else f"{key}: "
        heads[key] = _wrap(chosen + " ".join((inspect.getdoc(part) or "").partition("\n\n")[0].split()))
        own = field_sentences(part)
        entries |= {f"{key}.{name}": _entry(f"{key}.{name}", value[name], own) for name in value if name != "name"}
    shown = {key: entry for key, entry in entries.items() if key not in without}
    heads = {name: head for name, head in heads.items() if name not in without}
    if topic is not None and topic not in heads | shown:
        raise ValueError(
            f"--help {topic}: there is no such section or key.{closest(topic, heads | shown)} "
            f"Sections: {', '.join(heads)}."
        )
    blocks = {name: [entry for key, entry in shown.items() if key.startswith(f"{name}.")] for name in heads}
    if topic is not None:
        return (shown[topic] if topic in shown else f"{heads[topic]}\n\n" + "\n".join(blocks[topic])) + "\n"
    parts = ["\n".join(entry for key, entry in shown.items() if "." not in key)]
    for name, head in heads.items():
        parts += [head, "\n".join(blocks[name])]
    return "\n\n".join(filter(None, parts)) + "\n"


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
