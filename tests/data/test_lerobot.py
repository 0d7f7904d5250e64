"""Data sets of LeRobot 3, made here as its writer lays them out: many episodes in a table and in a video."""

import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from wmkit.data import FolderEpisodes, import_folder
from wmkit.data.lerobot import LeRobot

pytestmark = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="needs PyAV")

LENGTHS, FPS, SIDE = (6, 4, 9, 5), 10, 16


def shade(number: int, step: int) -> int:
    """The grey of every pixel, far from that of the step before and after."""
    return (37 * number + 50 * step) % 250


def frame(number: int, step: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), shade(number, step), np.uint8)


def write_video(path: Path, episodes: list[int]) -> None:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for number in episodes:
            for step in range(LENGTHS[number]):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(number, step), format="rgb24")))
        container.mux(stream.encode())


def png(number: int, step: int) -> dict[str, Any]:
    content = io.BytesIO()
    Image.fromarray(frame(number, step)).save(content, "png")
    return {"bytes": content.getvalue(), "path": f"{step}.png"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four episodes, two in each file; a camera as video and one as pictures in the table."""
    root = tmp_path / "arm"
    rows, begin = [], 0
    for file in (0, 1):
        numbers, second = [2 * file, 2 * file + 1], 0.0
        write_video(root / f"videos/observation.images.top/chunk-000/file-{file:03d}.mp4", numbers)
        steps = []
        for number in numbers:
            length = LENGTHS[number]
            for step in range(length):
                steps.append(
                    {
                        "observation.images.wrist": png(number, step),
                        "observation.state": [float(number), float(step)],
                        "action": [step / 10, number / 10, 0.5],
                        "next.reward": float(step == length - 1),
                        "next.done": step == length - 1,
                        "language": "pick it up",
                        "timestamp": step / FPS,
                        "frame_index": step,
                        "episode_index": number,
                        "index": begin + step,
                        "task_index": 0,
                    }
                )
            rows.append(
                {
                    "episode_index": number,
                    "length": length,
                    "data/chunk_index": 0,
                    "data/file_index": file,
                    "videos/observation.images.top/chunk_index": 0,
                    "videos/observation.images.top/file_index": file,
                    "videos/observation.images.top/from_timestamp": second,
                    "videos/observation.images.top/to_timestamp": second + length / FPS,
                }
            )
            begin, second = begin + length, second + length / FPS
        data = root / f"data/chunk-000/file-{file:03d}.parquet"
        data.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(steps).write_parquet(data)
    episodes = root / "meta/episodes/chunk-000/file-000.parquet"
    episodes.parent.mkdir(parents=True)
    pl.DataFrame(rows[::-1]).write_parquet(episodes)
    info = {
        "codebase_version": "v3.0",
        "fps": FPS,
        "total_episodes": len(LENGTHS),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            "observation.images.top": {"dtype": "video", "shape": [SIDE, SIDE, 3]},
            "observation.images.wrist": {"dtype": "image", "shape": [SIDE, SIDE, 3]},
            "observation.state": {"dtype": "float32", "shape": [2]},
            "action": {"dtype": "float32", "shape": [3]},
        },
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


@pytest.mark.reported(
    "data",
    "",
    "a data set of LeRobot 3: several episodes in one video and one table, several cameras",
    "`wmkit import`, with `--rename CAMERA=image`: each step has its frame and the action that led to it",
)
@pytest.mark.parametrize("camera", ["top", "wrist"])
def test_each_step_has_its_frame_its_state_and_the_action_that_led_to_it(folder: Path, camera: str) -> None:
    source = FolderEpisodes(folder, rename={f"observation.images.{camera}": "image"})
    assert (source.num_episodes, source.action_dim, source.image_shape) == (4, 3, (3, SIDE, SIDE))
    for number, length in enumerate(LENGTHS):
        episode = source.episode(number)
        assert episode.length == length
        expected = np.stack([frame(number, step) for step in range(length)])
        assert np.abs(episode["image"].astype(int) - expected).max() <= (12 if camera == "top" else 0)  # one is lossy
        np.testing.assert_allclose(episode["observation_state"], [[number, step] for step in range(length)])
        led = [[0, 0, 0], *([step / 10, number / 10, 0.5] for step in range(length - 1))]
        np.testing.assert_allclose(episode["action"], led, rtol=1e-6)
        assert episode["reward"].sum() == 0  # it came after the last frame
        assert not set(episode) & {"timestamp", "index", "language", "observation.images.wrist"}


def test_a_camera_must_be_chosen_where_there_are_several(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no 'image' among .*'observation\.images\.top'.* say which it is"):
        FolderEpisodes(folder)
    info = json.loads((folder / "meta/info.json").read_text())
    del info["features"]["observation.images.wrist"]
    (folder / "meta/info.json").write_text(json.dumps(info))
    for file in (0, 1):
        path = folder / f"data/chunk-000/file-{file:03d}.parquet"
        pl.read_parquet(path).drop("observation.images.wrist").write_parquet(path)
    assert FolderEpisodes(folder).num_episodes == 4


def test_a_data_set_becomes_archives_and_is_cut_along_with_its_actions(folder: Path, tmp_path: Path) -> None:
    rename = {"observation.images.top": "image"}
    stores = import_folder(folder, tmp_path / "out", rename=rename, length=4, say=lambda note: None)
    assert sum(map(len, stores.values())) == 1 + 1 + 2 + 1
    for store in stores.values():
        for index in range(len(store)):
            episode = store.episode(index)
            state = episode["observation_state"]
            np.testing.assert_allclose(episode["action"][1:, 0], state[:-1, 1] / 10, rtol=1e-6)
            shades = [shade(int(number), int(step)) for number, step in state]
            np.testing.assert_allclose(episode["image"].mean((1, 2, 3)), shades, atol=12)


def test_what_is_not_whole_or_of_another_form_is_refused(folder: Path, tmp_path: Path) -> None:
    rename = {"observation.images.top": "image"}
    with pytest.raises(ValueError, match="actions: 'before', but in data sets of this form they are 'after'"):
        FolderEpisodes(folder, rename=rename, actions="before")
    with pytest.raises(ValueError, match="what was done at them would be lost"):
        FolderEpisodes(folder, rename=rename, stride=2)
    write_video(folder / "videos/observation.images.top/chunk-000/file-001.mp4", [2])
    with pytest.raises(ValueError, match=r"episode 3: cannot be read \(videos.*file-001\.mp4 has 0 of its 5 frames"):
        import_folder(folder, tmp_path / "out", rename=rename, say=lambda note: None)
    (folder / "videos/observation.images.top/chunk-000/file-001.mp4").unlink()
    with pytest.raises(ValueError, match=r"episode 2: cannot be read .*file-001\.mp4"):
        import_folder(folder, tmp_path / "out", rename=rename, say=lambda note: None)
    path = folder / "data/chunk-000/file-000.parquet"
    pl.read_parquet(path).head(8).write_parquet(path)
    with pytest.raises(ValueError, match=r"episode 1: cannot be read \(file-000\.parquet has 2 of its 4 steps"):
        import_folder(folder, tmp_path / "out", rename=rename, say=lambda note: None)
    assert not (tmp_path / "out").exists()
    (folder / "meta/episodes/chunk-000/file-000.parquet").unlink()
    with pytest.raises(ValueError, match="no table of episodes"):
        LeRobot(folder)
    (folder / "meta/episodes/chunk-000/file-000.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"file-000\.parquet: cannot be read"):
        LeRobot(folder)
    for content in ('{"codebase', "[]", "{}", '{"codebase_version": "v3.0", "features": {"action": 3}}', "\xff"):
        (folder / "meta/info.json").write_text(content, encoding="latin-1")
        with pytest.raises(ValueError, match=r"meta.info\.json: cannot be read .*get the data set anew"):
            LeRobot(folder)
    (folder / "meta/info.json").write_text(json.dumps({"codebase_version": "v3.0", "features": {}}))
    with pytest.raises(ValueError, match=r"info\.json: no data_path"):
        LeRobot(folder)
    (folder / "meta/info.json").write_text(json.dumps({"codebase_version": "v2.1", "features": {}}))
    with pytest.raises(ValueError, match=r"LeRobot's form v2\.1, expected v3"):
        LeRobot(folder)


@pytest.mark.reported(
    "data",
    "",
    "a data set of LeRobot whose `meta/info.json` names files elsewhere, or asks for gigabytes of zeros in a name",
    "refused by name; nothing outside the folder is read",
)
@pytest.mark.parametrize(
    ("key", "template", "words"),
    [
        ("data_path", "../other/{chunk_index}.parquet", "is not in the folder"),
        ("data_path", "{file_index}/../../x.parquet", "is not in the folder"),
        ("video_path", "/etc/{video_key}", "is not in the folder"),
        ("data_path", "{chunk_index:099999999999d}", "expected {NAME}"),
        ("data_path", "{chunk_index.__class__}", "expected {NAME}"),
        ("video_path", "{video_key!r}", "expected {NAME}"),
        ("data_path", "{}", "expected {NAME}"),
        ("data_path", "{chunk_index:{file_index}}", "expected {NAME}"),
    ],
)
def test_files_outside_the_folder_are_not_read(folder: Path, key: str, template: str, words: str) -> None:
    info = json.loads((folder / "meta/info.json").read_text())
    (folder / "meta/info.json").write_text(json.dumps(info | {key: template}))
    with pytest.raises(ValueError, match=rf"episode 0: meta/info\.json: {key}: .*{words}"):
        FolderEpisodes(folder, rename={"observation.images.top": "image"})
