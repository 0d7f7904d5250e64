"""Episodes as a data set of Minari, for programs that read these; the library is optional."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from wmkit.data.sources import EpisodeSource, number_of_episodes
from wmkit.data.store.tiles import TILE_KEYS
from wmkit.files import user_folder

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
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(folder.parent)
    try:
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
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
    return total
