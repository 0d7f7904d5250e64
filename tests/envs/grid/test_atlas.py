"""Pictures of tiles against MiniGrid's own renderer."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from minigrid.core.grid import Grid
from minigrid.core.world_object import Door, Goal, Key, Wall, WorldObj

from wmkit_envs.grid.atlas import make_atlas, render_tiles
from wmkit_envs.grid.scene import AGENT, COLOR_NAMES, EMPTY, KEY, LOCKED, NUM_TILES, OPEN, SQUARE, WALL, color_number


def locked(color: str) -> WorldObj:
    return Door(color, is_locked=True)


def opened(color: str) -> WorldObj:
    return Door(color, is_open=True)


@pytest.mark.parametrize("size", [4, 5, 7, 8, 16, 32])
def test_every_tile_is_minigrids_to_the_pixel(size: int) -> None:
    expected = {EMPTY: Grid.render_tile(None, tile_size=size), WALL: Grid.render_tile(Wall(), tile_size=size)}
    for heading in range(4):
        expected[AGENT + heading] = Grid.render_tile(None, agent_dir=heading, tile_size=size)
    for first, thing in ((SQUARE, Goal), (KEY, Key), (LOCKED, locked), (OPEN, opened)):
        for number, color in enumerate(COLOR_NAMES):
            expected[first + number] = Grid.render_tile(thing(color), tile_size=size)
    assert sorted(expected) == list(range(NUM_TILES))
    for tile, picture in expected.items():
        np.testing.assert_array_equal(make_atlas(size)[tile], picture.astype(np.uint8), err_msg=f"tile {tile}")


@given(st.integers(0, 2**32 - 1), st.sampled_from([(5, 5), (2, 5, 5), (2, 3, 4, 6)]), st.sampled_from([4, 8]))
def test_a_picture_is_its_tiles_side_by_side(seed: int, shape: tuple[int, ...], size: int) -> None:
    tiles = np.random.default_rng(seed).integers(NUM_TILES, size=shape, dtype=np.uint8)
    atlas = make_atlas(size)
    pictures = render_tiles(tiles, atlas)
    assert pictures.shape == (*shape[:-2], shape[-2] * size, shape[-1] * size, 3)
    for place in np.ndindex(shape):
        row, column = place[-2] * size, place[-1] * size
        cut = pictures[place[:-2]][row : row + size, column : column + size]
        np.testing.assert_array_equal(cut, atlas[tiles[place]])
    as_tensors = render_tiles(torch.from_numpy(tiles), torch.from_numpy(atlas.copy()))
    np.testing.assert_array_equal(as_tensors.numpy(), pictures)


def test_an_atlas_is_drawn_once_and_cannot_be_changed() -> None:
    assert make_atlas(8) is make_atlas(8)
    with pytest.raises(ValueError, match="read-only"):
        make_atlas(8)[0] = 0


@pytest.mark.parametrize("size", [3, 65])
def test_sizes_that_cannot_be_drawn_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="tile: expected"):
        make_atlas(size)


def test_a_colour_that_minigrid_does_not_have_is_refused() -> None:
    assert color_number("yellow") == 4
    with pytest.raises(ValueError, match="red, green"):
        color_number("pink")
