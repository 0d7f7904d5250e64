"""The page on your own data is walked as it is written, with fewer recordings and steps."""

import importlib.util
import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.test_folders import write_video
from wmkit.cli.__main__ import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "your_data.md").read_text()
FEWER = {"range(100)": "range(5)", "episodes=100": "episodes=5"}
SHORT = ["size=tiny", "train.steps=1", "data.batch_size=2", "data.workers=0", "data.length=6", "train.device=cpu",
         "train.threads=1", "eval.batches=1", "eval.context=3", "eval.horizon=3"]  # fmt: skip


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_drawings: None) -> Path:
    """The page's code has been run in an empty folder, where there are videos and other archives too."""
    monkeypatch.chdir(tmp_path)
    assert all(much in PAGE for much in FEWER)
    names: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        for much, little in FEWER.items():
            code = code.replace(much, little)
        names = {}  # each block stands alone
        exec(code, names)
    assert not names["source"].notes
    (tmp_path / "videos").mkdir()
    return tmp_path


@pytest.mark.reported(
    "data",
    "",
    "docs/your_data.md, word for word: recordings, videos, an environment; `import`, training, table, film",
    "every command ends with status 0",
)
@pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="needs PyAV")
def test_every_command_of_the_page_runs(
    walk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        write_video(walk / "videos" / f"{number}.mp4")
    monkeypatch.setattr("wmkit.comparison.command.run_cells", lambda *_, **__: None)  # tests/comparison runs them
    commands = list(dict.fromkeys(re.findall(r"^    ((?:wmkit|python) .*)$", PAGE, re.MULTILINE)))
    assert len(commands) == 9
    for command in commands:
        program, *words = shlex.split(command)
        if "--episodes-from" in words:
            shutil.copytree("camera", "other")
        if program == "wmkit":
            assert main(words) == 0, command
            continue
        recipe, short = words[0], SHORT
        if "compare_backbones" in recipe:
            words, short = [word.replace("minutes=2", "steps=1") for word in words], SHORT[:1]
        monkeypatch.setattr(sys, "argv", [*words, *short])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / recipe), run_name="__main__")
        assert ended.value.code == int("compare_backbones" in recipe), command  # 1: its cells have not run
    for name in ("camera", "clips", "minigrid"):
        run = Path(f"runs/own_data-{name}-s4-0")
        assert "| imagined |" in (run / "evaluation.md").read_text()
        assert json.loads((run / "evaluation.json").read_text())["world"] == name
        assert (run / "pictures" / "imagined.gif").stat().st_size > 0
    assert Path("film.gif").exists()
    assert "ray_maze" not in capsys.readouterr().out


def test_the_pages_recordings_need_no_word(walk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "recordings", "--out", "camera"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["camera/train", "camera/valid", "camera/test"]
    with np.load("recordings/0.npz") as arrays:
        assert not arrays["action"][0].any()
