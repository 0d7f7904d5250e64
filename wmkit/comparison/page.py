"""Pieces of HTML: tables, figures, pictures as data; whatever comes from outside is escaped here."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from wmkit.comparison.style import stylesheet


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page that needs nothing beside it: no script, no font, no picture from elsewhere."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>{stylesheet()}</style>\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def heading(level: int, text: str) -> str:
    """`<h2>` and the like."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, style: str = "") -> str:
    """A paragraph, of a class if one is given."""
    return f'<p class="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def cell(text: str, below: str = "", style: str = "") -> str:
    """A cell of a table, with a smaller line below."""
    small = f"<small>{escape(below)}</small>" if below else ""
    return f'<td class="{style}">{escape(text)}{small}</td>' if style else f"<td>{escape(text)}{small}</td>"


def named(style: str, label: str) -> str:
    """The cell that names a row's system, with its colour."""
    return f'<th scope="row"><span class="swatch {style}" aria-hidden="true"></span>{escape(label)}</th>'


def table(caption: str, headings: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table; a row is its class and its cells, as `cell` and `named` make them."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in headings)
    body = "".join(f'<tr class="{style}">{"".join(cells)}</tr>' for style, cells in rows)
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure(content: str, caption: str) -> str:
    """A figure with its caption; nothing where there is no content."""
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>" if content else ""


def picture(path: Path, alt: str) -> str:
    """A PNG as part of the page; nothing where there is none."""
    if not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def preformatted(text: str) -> str:
    """Text as it is."""
    return f"<pre>{escape(text)}</pre>"


def details(title: str, content: str) -> str:
    """What is shown on a click."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def strips(figures: Sequence[str]) -> str:
    """Figures beside each other where there is room."""
    return f'<div class="strips">{"".join(figures)}</div>'
