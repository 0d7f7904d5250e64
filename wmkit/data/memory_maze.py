"""The `.npz` files of Memory Maze's published data (Pasukonis et al. 2022), one for each episode: read and written.

Every key has a time axis there, of 1001 or 1000 steps: `image` (T, H, W, 3) uint8, `action` (T, 6) one-hot, the one
that led to the image, zeros first, `reward` (T,), `maze_layout` (T, n, n), `agent_pos`, `agent_dir` (T, 2),
`targets_pos`, `targets_vec` (T, k, 2), `target_pos`, `target_vec` (T, 2), `target_color` (T, 3). PyDreamer, the program
that such files were made for, writes images as `image_t` (H, W, 3, T), and `reset` and `terminal` (T,) besides.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from wmkit.data.episode import Array
from wmkit.data.sources import EpisodeSource, number_of_episodes
from wmkit.files import to_json, user_folder

NEEDED = ("image", "action", "reward", "maze_layout", "agent_pos", "targets_pos")
"""What every such file has, and by its last three keys is told from other files."""
CONSTANT = ("maze_layout", "targets_pos", "context_length", "copy_index")
"""The same at every step; the last two are ours alone."""
PYDREAMER = {"reset": "is_first", "terminal": "is_terminal"}


def as_recorded(found: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of an `.npz` file under our names and without the time axis of what does not change.

    Arrays of another kind of file come back as they are. Raises `ValueError` for a file of Memory Maze that lacks a
    key, and for a key that is no array of T numbers or changes where it must not.
    """
    if not set(NEEDED[3:]) <= found.keys() or found["maze_layout"].ndim == 2:
        return dict(found)
    arrays = {PYDREAMER.get(key, key): value for key, value in found.items()}
    if "image_t" in arrays and "image" not in arrays:
        arrays["image"] = np.moveaxis(arrays.pop("image_t"), -1, 0)
    if missing := [key for key in NEEDED if key not in arrays]:
        raise ValueError(f"no {missing[0]!r} among {sorted(arrays)}, which every file of Memory Maze has")
    length = len(arrays["image"])
    for key, value in arrays.items():
        if value.dtype.kind not in "biuf" or value.shape[:1] != (length,):
            raise ValueError(f"{key}: expected numbers for each of {length} steps, got {value.shape} {value.dtype}")
    for key in CONSTANT:
        if key in arrays:
            value = arrays[key]
            if (changed := np.flatnonzero((value != value[:1]).reshape(length, -1).any(axis=1))).size:
                raise ValueError(f"{key} changes at t = {changed[0]}, expected the same at every step")
            arrays[key] = value[0]
    return arrays


def export_memory_maze(
    source: EpisodeSource,
    out: str | Path,
    episodes: int | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the first `episodes` (default: all) of a maze's episodes to `.npz` files in the folder `out`; returns how
    many.

    Files are compressed and called `000000.npz` and so on; where an earlier call was stopped, this one goes on. Raises
    `ValueError` for a folder with `.npz` files of other episodes, and for episodes without `maze_layout` (h, w),
    `targets_pos` (k, 2) and `agent_pos` (T, 2).
    """
    folder = user_folder(out)
    note, about = folder / ".exported.json", to_json({"origin": getattr(source, "origin", {})})
    if any(folder.glob("*.npz")) and not (note.exists() and note.read_text(encoding="utf-8") == about):
        raise ValueError(f"{folder}: holds .npz files of other episodes, expected an empty folder: name another")
    total = number_of_episodes(source, episodes)
    for index in range(total):
        file = folder / f"{index:06}.npz"
        if not file.exists():
            episode = source.episode(index)
            if missing := [key for key in NEEDED if key not in episode]:
                raise ValueError(f"episode {index}: no {missing[0]!r} among {sorted(episode)}, expected that of a maze")
            arrays = {key: value for key, value in episode.steps.items() if key not in ("is_first", "is_terminal")}
            for key, value in episode.constants.items():
                arrays[key] = np.broadcast_to(value, (episode.length, *value.shape))
            if episode["is_terminal"].any():
                arrays["terminal"] = episode["is_terminal"]
            folder.mkdir(parents=True, exist_ok=True)
            note.write_text(about, encoding="utf-8")
            beside = folder / f".{file.name}.new.npz"
            np.savez_compressed(beside, allow_pickle=False, **arrays)
            os.replace(beside, file)
        progress(index + 1, total)
    return total
