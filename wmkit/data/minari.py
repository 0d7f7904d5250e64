"""Data sets of Minari: episodes written as one, and one read as episodes; the library is optional."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wmkit.data.own import Timing
from wmkit.data.readers import check_unpacked
from wmkit.data.sources import EpisodeSource, number_of_episodes
from wmkit.data.store.tiles import TILE_KEYS
from wmkit.files import user_folder

DATA = "data/main_data.hdf5"
"""By which a data set is known."""
OURS = ("image", "action", "reward", "is_first", "is_terminal", *TILE_KEYS)
"""Keys that Minari has another place for, or that pictures are made of."""


def export_minari(
    source: EpisodeSource,
    out: str | Path,
    episodes: int | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the first `episodes` (default: all) to the Minari data set in the folder `out`; returns how many.

    `MINARI_DATASETS_PATH=PARENT` and `minari.load_dataset(NAME)` open it, where `out` is PARENT/NAME and NAME ends in
    `-v0`. Images are observations (H, W, C), to the bit: Minari's JPEG is off. Step t is what `action[t + 1]` led to;
    one-hot actions become `Discrete`, others stay vectors. Ground truth is in `infos`, T long.

    Raises `ValueError` where Minari is not installed, for a name that is none, a data set that is there already,
    episodes of one step, and episodes without actions.
    """
    try:
        import minari
        from gymnasium.spaces import Box, Discrete
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise ValueError(f"Minari is needed for this: pip install 'minari[hdf5]' ({error})") from error
    folder = user_folder(out)
    total = number_of_episodes(source, episodes)
    if not source.action_dim:
        raise ValueError("There are no actions, which Minari needs: only episodes in which something acts are exported")
    channels, height, width = source.image_shape
    with _beside(folder):
        data, discrete = None, False
        for index in range(total):
            episode = source.episode(index)
            length, action = episode.length, episode["action"][1:]
            if length < 2:
                raise ValueError(f"episode {index}: one observation, expected two or more")
            one_hot = bool(((action == 0) | (action == 1)).all() and (action.sum(axis=1) == 1).all())
            if data is not None and discrete and not one_hot:
                raise ValueError(f"episode {index}: its actions are not one-hot, but those of episode 0 are")
            discrete = one_hot if data is None else discrete
            truth = {key: value for key, value in episode.steps.items() if key not in OURS}
            for key, value in episode.constants.items():
                if key not in OURS:
                    truth[key] = np.broadcast_to(value, (length, *value.shape))
            terminal = episode["is_terminal"][1:]
            buffer = EpisodeBuffer(
                id=index,
                observations=episode["image"],
                actions=action.argmax(axis=1) if discrete else action,
                rewards=episode["reward"][1:],
                terminations=terminal,
                truncations=(np.arange(1, length) == length - 1) & ~terminal,
                infos=truth,
            )
            if data is None:
                one = (source.action_dim,)
                actions = Discrete(source.action_dim) if discrete else Box(-np.inf, np.inf, one, np.float32)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # that nobody is named as the author
                    data = minari.create_dataset_from_buffers(
                        folder.name,
                        [buffer],
                        observation_space=Box(0, 255, (height, width, channels), np.uint8),
                        action_space=actions,
                        algorithm_name="wmkit",
                        jpeg_encoding=False,
                    )
            else:
                data.storage.update_episodes([buffer])
            progress(index + 1, total)
    return total


class MinariEpisodes:
    """The episodes of a data set, as a `wmkit.data.readers.Reader`.

    Observations are `image` where they are pictures; of a dict each entry has its name, with _ between levels. Actions
    were chosen at images, terminations are `is_terminal`; of `infos` what is an array is kept. Raises `ValueError`
    where Minari is not installed, and for what it cannot open.
    """

    timing: Timing | None = "after"
    splits = None
    note = ""
    advice = "get the data set anew"

    def __init__(self, folder: Path) -> None:
        try:
            import minari
        except ImportError as error:
            raise ValueError(f"{folder}: Minari is needed for this: pip install 'minari[hdf5]' ({error})") from error
        with _beside(folder):
            try:
                self.data = minari.load_dataset(folder.name)
            except Exception as error:  # whatever Minari and HDF5 raise
                raise ValueError(f"{folder}: Minari cannot open it ({error})") from error
        self.file = folder / DATA
        self.numbers = [int(number) for number in self.data.episode_indices]
        self.names = [f"episode {number}" for number in self.numbers]
        self.places = [folder / name for name in self.names]

    def arrays(self, index: int) -> dict[str, Any]:
        """See `Reader`."""
        import h5py

        with h5py.File(self.file) as file:
            sizes: list[int] = []
            file[f"episode_{self.numbers[index]}"].visititems(lambda _, one: sizes.append(getattr(one, "nbytes", 0)))
        check_unpacked(sum(sizes))
        [episode] = self.data.iterate_episodes([self.numbers[index]])
        found = dict(_flat("", episode.observations)) | {
            key: value for key, value in _flat("", episode.infos or {}) if value.dtype.kind in "biuf"
        }
        if "" in found:
            seen = found.pop("")
            found["image" if seen.dtype == np.uint8 and seen.ndim in (3, 4) else "observation"] = seen
        actions = dict(_flat("action", episode.actions))
        if set(actions) != {"action"}:
            raise ValueError(f"its actions are {sorted(actions)}, expected one array of numbers")
        return found | actions | {"reward": episode.rewards, "is_terminal": episode.terminations}


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of nested dicts and tuples, with names that say where they were."""
    if isinstance(value, Mapping | tuple):
        for key, one in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _flat(f"{name}_{key}" if name else str(key), one)
    else:
        yield name, np.asarray(value)


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Minari finds data sets by the name of their folder, in the folder that its environment variable names."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(folder.absolute().parent)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
