"""What the tile worlds share: episodes are played by the compiled rules and kept as tile numbers."""

from __future__ import annotations

import abc
import dataclasses
import numbers
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.grid.actions import NUM_ACTIONS
from wmkit_envs.grid.tiles import VIEW, checked_tile_size
from wmkit_envs.world import Draw, Episode, World

if TYPE_CHECKING:
    from wmkit_envs.grid.engine import Record
    from wmkit_envs.grid.scene import GridScene


@dataclasses.dataclass(frozen=True)
class GridWorld(World):
    """A world seen as 5x5 tiles around the agent, north up. Subclasses draw the scene and write the script."""

    size_field: ClassVar[str]
    """The field that its maker takes as an argument of its own."""
    image_shape: tuple[int, int, int] = (3, 40, 40)
    """5 tiles of 8 pixels, as published; smaller tiles by `world.with_settings(image_shape=(3, 20, 20))`."""
    action_dim: int = NUM_ACTIONS
    """MiniGrid's seven actions, one-hot (guess: the paper does not say how wide its actions are)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_shape[1] != self.image_shape[2] or self.image_shape[1] % VIEW:
            raise ValueError(f"image_shape: expected (3, {VIEW} n, {VIEW} n), n a tile's side, got {self.image_shape}")
        if self.action_dim != NUM_ACTIONS:
            raise ValueError(f"action_dim: MiniGrid has {NUM_ACTIONS} actions, got {self.action_dim}")
        checked_tile_size(self.tile_size)

    @property
    def tile_size(self) -> int:
        """Pixels on a tile's side."""
        return self.image_shape[1] // VIEW

    @property
    def atlas(self) -> NDArray[np.uint8]:
        """(30, ts, ts, 3) pictures of the tiles."""
        from wmkit_envs.grid.atlas import make_atlas

        return make_atlas(self.tile_size)

    @property
    def registration(self) -> dict[str, Any]:
        """The environments of `wmkit_envs.grid.env` and `wmkit_envs.grid.vector_env`."""
        return {
            "entry_point": "wmkit_envs.grid.env:GridEnv",
            "vector_entry_point": "wmkit_envs.grid.vector_env:GridVectorEnv",
        }

    @classmethod
    def settings(cls) -> list[dataclasses.Field[Any]]:
        """Fields that a world of this kind has beside those of every tile world and its size."""
        inherited = {field.name for field in dataclasses.fields(GridWorld)}
        return [field for field in dataclasses.fields(cls) if field.name not in {*inherited, cls.size_field}]

    def own_settings(self) -> dict[str, Any]:
        """Settings that are not the usual ones, and the shape of its pictures."""
        values = {field.name: getattr(self, field.name) for field in self.settings()}
        return {"image_shape": self.image_shape} | unusual(type(self), values)

    @abc.abstractmethod
    def with_settings(self, **settings: Any) -> GridWorld:
        """The world with other settings, under a name that lists them; raises `ValueError` as its maker does."""

    @abc.abstractmethod
    def begin(self, draw: Draw) -> GridScene:
        """The map, and where the agent starts."""

    @abc.abstractmethod
    def script(self, draw: Draw) -> NDArray[np.int64]:
        """(episode_length - 1,) the actions of the world's own policy."""

    @abc.abstractmethod
    def step_truth(self, watched: NDArray[np.uint8], keys: NDArray[np.uint8]) -> Episode:
        """Ground truth (..., n) besides the pose, from the watched cells (..., K) and the keys held (..., 6)."""

    def generate(self, *, seed: int, split: str = "train", index: int = 0, length: int | None = None) -> Episode:
        """One episode, see `World.generate`; with `tiles` (T, 5, 5) uint8 and the `atlas` behind `image`."""
        from wmkit_envs.grid.atlas import render_tiles

        batch = self.generate_batch(seed=seed, split=split, indices=[index], length=length)
        episode = {key: value[0] for key, value in batch.items()}
        return {"image": render_tiles(episode["tiles"], self.atlas), **episode, "atlas": self.atlas.copy()}

    def generate_batch(
        self, *, seed: int, split: str = "train", indices: Iterable[int], length: int | None = None
    ) -> Episode:
        """The episodes `indices` at once, each array with a leading axis B; no pictures, see `render_tiles`.

        Row b is what `generate(index=indices[b])` gives, less `image` and `atlas`. Raises as `generate` does.
        """
        from wmkit_envs.grid.engine import play

        draws = [Draw(seed, split, index) for index in indices]
        if not draws:
            raise ValueError("indices: expected at least one, got none")
        length = self.checked_length(length)
        scenes = [self.begin(draw) for draw in draws]
        actions = np.stack([self.script(draw) for draw in draws])[:, : length - 1]
        return self._episodes(scenes, actions, play(scenes, actions))

    def _episodes(self, scenes: list[GridScene], actions: NDArray[np.int64], record: Record) -> Episode:
        batch, length = record.reward.shape
        one_hot = np.zeros((batch, length, self.action_dim), np.float32)
        one_hot[:, 1:] = actions[..., None] == np.arange(self.action_dim)
        context = np.full(batch, min(self.context_length, length), np.int64)
        return {
            "tiles": record.tiles,
            "action": one_hot,
            "reward": record.reward,
            "is_first": np.broadcast_to(np.arange(length) == 0, (batch, length)).copy(),
            "is_terminal": record.terminal,
            "context_length": context,
            **pose_truth(record.pose),
            **self.step_truth(record.watched, record.keys),
            **{key: np.stack([scene.facts[key] for scene in scenes]) for key in scenes[0].facts},
        }


def pose_truth(pose: NDArray[np.int64]) -> Episode:
    """`agent_pos` in cells and `agent_dir` as a unit vector, (..., 2) float32 each, of poses (..., 3)."""
    vectors = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], np.float32)
    return {"agent_pos": pose[..., :2].astype(np.float32), "agent_dir": vectors[pose[..., 2]]}


def info_facts(scene: GridScene) -> Episode:
    """Copies of the scene's facts for an environment's `info`: all but the map, which is as large as the world."""
    return {key: value.copy() for key, value in scene.facts.items() if key != "map_tiles"}


def named(kind: type[GridWorld], name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a world of that kind, lists as tuples, with its name.

    The name tells all that is not usual: `name_4px` for other tiles, `name(setting=value,...)` for settings of its own.
    So worlds of one name have the same episodes. Raises `ValueError` for what is no setting of it, or follows from its
    size.
    """
    own = [field.name for field in kind.settings()]
    if unknown := sorted(settings.keys() - {*own, "image_shape"}):
        raise ValueError(f"{unknown[0]} is no setting of {name}: expected one of {', '.join([*own, 'image_shape'])}")
    settings = {key: _as_tuples(value) for key, value in settings.items()}
    given = ",".join(f"{key}={value!r}".replace(" ", "") for key, value in unusual(kind, settings).items())
    pixels = settings.get("image_shape", kind.image_shape)
    if not isinstance(pixels, tuple) or len(pixels) != 3 or not all(isinstance(n, numbers.Integral) for n in pixels):
        raise ValueError(f"image_shape: expected three integers, (3, {VIEW} n, {VIEW} n), got {pixels!r}")
    tiles = "" if pixels == kind.image_shape else f"_{pixels[-1] // VIEW}px"
    return {"name": f"{name}{tiles}({given})" if given else f"{name}{tiles}"} | settings


def unusual(kind: type[GridWorld], settings: dict[str, Any]) -> dict[str, Any]:
    """Those of its own settings that differ from the default, in the order of the fields."""
    defaults = {field.name: field.default for field in kind.settings()}
    return {key: settings[key] for key, usual in defaults.items() if key in settings and settings[key] != usual}


def _as_tuples(value: Any) -> Any:
    """Lists, as config files have them, make no worlds that are equal or can be hashed."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value
