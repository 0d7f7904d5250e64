"""All worlds by name."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable
from typing import Any

from wmkit_envs.grid.distracting_memory import distracting_memory
from wmkit_envs.grid.multi_doors_keys import multi_doors_keys
from wmkit_envs.grid.tiles import VIEW, checked_tile_size
from wmkit_envs.grid.world import GridWorld
from wmkit_envs.maze3d.worlds import RAY_WORLDS
from wmkit_envs.video.moving_mnist import MovingMnist, find_moving_mnist, moving_mnist
from wmkit_envs.world import World

DISTRACTING_MEMORY_100, DISTRACTING_MEMORY_200, DISTRACTING_MEMORY_400 = map(distracting_memory, (100, 200, 400))
MULTI_DOORS_KEYS_3, MULTI_DOORS_KEYS_5, MULTI_DOORS_KEYS_7 = map(multi_doors_keys, (3, 5, 7))
MOVING_MNIST, MOVING_MNIST_SLOW, MOVING_MNIST_FAST = map(moving_mnist, ("", "slow", "fast"))

GRID_WORLDS: tuple[GridWorld, ...] = (
    DISTRACTING_MEMORY_100,
    DISTRACTING_MEMORY_200,
    DISTRACTING_MEMORY_400,
    MULTI_DOORS_KEYS_3,
    MULTI_DOORS_KEYS_5,
    MULTI_DOORS_KEYS_7,
)
WORLDS: dict[str, World] = {world.name: world for world in (*RAY_WORLDS, *GRID_WORLDS)}
"""Those that are environments, in the published sizes; `find_world` knows the tile worlds of every size."""
SMALL_WORLDS = (
    *(f"distracting_memory_{width}" for width in range(8, 129, 2) if width != 100),
    *(f"multi_doors_keys_{keys}" for keys in (2, 4, 6)),
)
"""More sizes that Gymnasium knows from the start."""
VIDEOS: dict[str, MovingMnist] = {world.name: world for world in (MOVING_MNIST, MOVING_MNIST_SLOW, MOVING_MNIST_FAST)}
"""Those that are watched only."""

_Family = Callable[..., GridWorld]
_FAMILIES: tuple[tuple[str, _Family], ...] = (
    (r"distracting_memory_(\d+)(?:_(\d+)px)?", distracting_memory),
    (r"wmkit/DistractingMemory-(\d+)-v0", distracting_memory),
    (r"multi_doors_keys_(\d+)(?:_(\d+)px)?", multi_doors_keys),
    (r"wmkit/MultiDoorsKeys-(\d+)-v0", multi_doors_keys),
)


def find_world(name: str) -> World:
    """The world of a short name or a Gymnasium id.

    Tile worlds come in every size, and their short names can end in the size of a tile: `distracting_memory_16_4px` has
    pictures of 20x20; after that in settings, `distracting_memory_16(distractor_rate=0.2)`. Moving MNIST's can end in
    the size of the picture: `moving_mnist_fast_32px`. Raises `ValueError` for a size that cannot be, for settings that
    make no world, and for an unknown name with the closest match and the list of names.
    """
    named = WORLDS | VIDEOS
    known = named | {world.id: world for world in named.values()}
    if name in known:
        return known[name]
    if video := find_moving_mnist(name):
        return video
    bare, bracket, rest = name.partition("(")
    for pattern, family in _FAMILIES:
        if match := re.fullmatch(pattern, bare):
            return _sized(family, _settings(name, rest) if bracket else {}, *match.groups())
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"Unknown world {name!r}.{hint} Known: {', '.join(sorted(known))}, and other sizes of tile worlds and videos."
    )


def find_grid_world(world: str | GridWorld, tile_size: int | None, settings: dict[str, Any]) -> GridWorld:
    """The tile world of that name, or `world` itself, with tiles of `tile_size` pixels and other settings.

    Raises `ValueError` for a name that is unknown or another kind of world's, a size that cannot be drawn, and settings
    that the world does not have.
    """
    found = find_world(world) if isinstance(world, str) else world
    if not isinstance(found, GridWorld):
        raise ValueError(f"world: expected a tile world, got {world!r}")
    if tile_size is not None:
        settings = _with_tiles(settings, checked_tile_size(tile_size))
    return found.with_settings(**settings) if settings else found


def _sized(family: _Family, settings: dict[str, Any], size: str, tile: str | None = None) -> GridWorld:
    return family(int(size), **(settings if tile is None else _with_tiles(settings, int(tile))))


def _with_tiles(settings: dict[str, Any], tile_size: int) -> dict[str, Any]:
    side = VIEW * tile_size
    return {**settings, "image_shape": (3, side, side)}


def _settings(name: str, rest: str) -> dict[str, Any]:
    """Of a name that ends in `(key=value,...)`, of which `rest` is what follows the bracket; values are literals."""
    try:
        call = ast.parse(f"world({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("not all of them are key=value")
        settings = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{name}: write settings as in (distractor_rate=0.2,last_distractor=5); {error}") from error
    if "image_shape" in settings:
        raise ValueError(f"{name}: the size of its tiles is part of a name, as in {name.partition('(')[0]}_4px")
    return settings
