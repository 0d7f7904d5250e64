"""Random mazes: sizes, statistics, splits."""

import numpy as np
import pytest

from wmkit_envs.maze3d.mazes import MazeShape, draw_maze
from wmkit_envs.maze3d.policies import distances
from wmkit_envs.maze3d.scene import OPEN, Scene, dress_walls

NINE = MazeShape(9, targets=3)


def draw(index: int, split: str = "train", shape: MazeShape = NINE) -> Scene:
    return draw_maze(shape, split, np.random.default_rng([index, len(split)]))


@pytest.mark.parametrize(
    "shape", [NINE, MazeShape(11, 4), MazeShape(13, 5), MazeShape(15, 6, max_rooms=9, room_max_size=3)]
)
def test_a_maze_has_its_size_its_objects_and_a_free_start(shape: MazeShape) -> None:
    for index in range(20):
        scene = draw(index, shape=shape)
        assert scene.layout.shape == (shape.size, shape.size)
        assert scene.objects.shape == (shape.targets, 2)
        assert len(np.unique(scene.objects, axis=0)) == shape.targets
        cells = np.floor([*scene.objects, scene.start[:2]]).astype(int)
        assert scene.layout[cells[:, 1], cells[:, 0]].all()
        assert scene.floors[cells[:, 1] + 1, cells[:, 0] + 1].all()


def test_the_outer_wall_is_closed_and_all_cells_are_connected() -> None:
    for index in range(200):
        scene = draw(index)
        edge = np.concatenate([scene.walls[0], scene.walls[-1], scene.walls[:, 0], scene.walls[:, -1]])
        assert (edge != OPEN).all()
        cells = {(int(x), int(y)) for y, x in np.argwhere(scene.layout)}
        assert len(distances(cells, next(iter(cells)))) == len(cells)


def test_the_per_cell_majority_predicts_the_published_share_of_cells() -> None:
    free = np.mean([draw(index).layout for index in range(3000)], axis=0)
    assert 100 * np.maximum(free, 1 - free).mean() == pytest.approx(80.8, abs=0.6)


def test_no_two_splits_share_a_layout() -> None:
    layouts = {
        split: {draw(index, split).layout.tobytes() for index in range(300)} for split in ("train", "valid", "test")
    }
    assert all(len(found) > 100 for found in layouts.values())
    assert not layouts["train"] & layouts["valid"]
    assert not layouts["train"] & layouts["test"]
    assert not layouts["valid"] & layouts["test"]


def test_walls_of_a_block_share_their_style() -> None:
    walls = dress_walls(np.zeros((11, 11), np.bool_), np.random.default_rng(0))
    for rows in (slice(0, 4), slice(4, 8), slice(8, 11)):
        for columns in (slice(0, 4), slice(4, 8), slice(8, 11)):
            assert len(np.unique(walls[rows, columns])) == 1
    assert len(np.unique(walls)) > 3
    assert walls.min() >= 0
    assert walls.max() < 8


@pytest.mark.parametrize(("shape", "columns"), [((5, 9), 4), ((9, 9), 3), ((9, 21), 7)])
def test_the_rooms_worlds_get_the_published_number_of_blocks(shape: tuple[int, int], columns: int) -> None:
    """12, 9 and 21 blocks for Two, Four and Ten Rooms; block i shares its style with block i + 10."""
    ends = set()
    for seed in range(40):
        row = dress_walls(np.zeros(shape, np.bool_), np.random.default_rng(seed))[0]
        ends |= set(np.flatnonzero(np.diff(row)))
    assert len(ends) == columns - 1
