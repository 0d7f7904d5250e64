"""Words of a group: what the permutations so far multiply to, at every step (state tracking)."""

from __future__ import annotations

import itertools
from typing import ClassVar

import torch

from wmkit.diagnostics.base import Sequences, StateTracking, register_task

Permutation = tuple[int, ...]


def group_of(generators: tuple[Permutation, ...]) -> tuple[list[Permutation], list[list[int]]]:
    """The elements that the generators multiply to, the identity first, and the table element, generator -> element."""
    elements = [tuple(range(len(generators[0])))]
    number = {elements[0]: 0}
    table: list[list[int]] = []
    for element in elements:  # it grows while it is read
        row = []
        for generator in generators:
            product = tuple(element[place] for place in generator)
            if product not in number:
                number[product] = len(elements)
                elements.append(product)
            row.append(number[product])
        table.append(row)
    return elements, table


class GroupWords(StateTracking):
    """Random words over two generators of a group; the answer at t is the element that the first t of them multiply to.

    S3 is solvable, A5 and S5 are not: a word of these is complete for NC1, beyond what layers of a fixed number can do
    in parallel (Barrington 1989; Merrill et al., The Illusion of State in State-Space Models, 2024).
    """

    generators: ClassVar[tuple[Permutation, ...]]
    table: ClassVar[torch.Tensor]
    """(elements, generators): the number of element times generator; 0 is the identity."""

    def __init_subclass__(cls) -> None:
        elements, table = group_of(cls.generators)
        cls.symbols, cls.classes, cls.table = (len(cls.generators),), len(elements), torch.tensor(table)

    def draw(self, generator: torch.Generator, rows: int, length: int) -> Sequences:
        words = torch.randint(len(self.generators), (rows, length), generator=generator)
        products = itertools.accumulate(
            words.unbind(1), lambda element, letter: self.table[element, letter], initial=words.new_zeros(rows)
        )
        return self.tracked(words[..., None], torch.stack(list(products)[1:], dim=1)[..., None])


@register_task("s3")
class S3(GroupWords):
    """The six permutations of three things, by a swap and a cycle."""

    order, steps = 6, 800
    title = "words of S3"
    generators = ((1, 0, 2), (1, 2, 0))


@register_task("a5")
class A5(GroupWords):
    """The 60 even permutations of five things, by a cycle of five and one of three."""

    order, steps = 7, 1500
    title = "words of A5"
    generators = ((1, 2, 3, 4, 0), (1, 2, 0, 3, 4))


@register_task("s5")
class S5(GroupWords):
    """The 120 permutations of five things, by a swap and a cycle of five."""

    order, steps = 8, 1500
    title = "words of S5"
    generators = ((1, 0, 2, 3, 4), (1, 2, 3, 4, 0))
