"""Every command in the code blocks of README and the pages runs as it stands there, made short by `WMKIT_SHORT`."""

import contextlib
import itertools
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from wmkit import registry
from wmkit.cli.__main__ import main
from wmkit.config import load_config
from wmkit.evaluation import fit_frame_probe
from wmkit.evaluation.measures import digits
from wmkit.testing import examine_backbone
from wmkit.training.short import SHORT

pytestmark = [
    pytest.mark.no_cover,  # whole runs: other tests reach the lines
    pytest.mark.filterwarnings("ignore:.* clips are few for:UserWarning"),  # short runs are judged on two
]

ROOT = Path(__file__).parents[1]
WALKED = {ROOT / "docs" / "your_data.md"}
"""By tests/test_your_data.py, whose commands read what the page's code has recorded."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(set((ROOT / "docs").glob("*.md")) - WALKED)]
EXCLUDED = {
    "make": "sets the machine up or runs these very tests",
    "python3.11 -m venv": "sets the machine up",
    "pip install": "sets the machine up",
    "git clone": "fetches a peer's code",
    "python -m benchmarks": "measures speed, for minutes: tests/test_benchmarks.py",
    "python recipes/speed.py": "measures speed, a process for each system: tests/test_recipes.py",
    "python docs/examples/probe_dreamerv3_torch.py": "drives a peer's code: tests/test_examples.py",
}
"""Commands that are not run here, by their beginning, and why."""
EXPENSIVE = (
    "python recipes/memory_maze.py -m backbone=s4,gru,transformer_xl",
    "python recipes/compare_backbones.py  ",
    "python recipes/clockwork_figures.py",
    "python recipes/video_prediction.py",
    "wmkit check clockwork",
    "wmkit check svg_lp",
    "wmkit check vta",
    "torchrun",
)
"""Those that take more than a few seconds even so: for `make test-long`."""
PROGRAMS = ("python", "python3.11", "wmkit", "torchrun", "pip", "make", "git")
BACKBONE = re.search(r"^```python\n# (my_backbone)\.py\n(.*?)^```", PAGES[0].read_text(), re.DOTALL | re.MULTILINE)


class Command(NamedTuple):
    """A command of a page."""

    text: str
    """As it stands there, several lines joined."""
    recipe: str
    """Of which `RUN` in it is a run: the one that a comment behind it names."""

    @property
    def words(self) -> list[str]:
        """What a shell makes of it."""
        return shlex.split(self.text, comments=True)

    def starts(self, *beginnings: Iterable[str]) -> bool:
        """Whether it begins with one of these."""
        return self.text.startswith(tuple(itertools.chain(*beginnings)))


def commands_of(page: Path) -> Iterator[Command]:
    """Those in blocks that are indented, fenced as sh or bash, or fenced without a language."""
    text = page.read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    fenced = [block for language, block in blocks if language in ("", "sh", "bash")]
    without = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = ["\n".join(re.findall(r"^    +(.*)$", without, re.MULTILINE))]
    for block in [*fenced, *indented]:
        for line in re.sub(r"\\\n *", "", block).splitlines():
            if line.split(maxsplit=1)[:1] and line.split()[0] in PROGRAMS:
                named = re.search(r"# of recipes/(\w+)\.py", line)
                yield Command(line, named[1] if named else "memory_maze")


@pytest.fixture
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells_in_this_process: None, without_drawings: None
) -> Iterator[Path]:
    """A folder with the recipes and README's backbone; runs and checks are short, in this process, without figures."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    assert BACKBONE is not None, "README has a file my_backbone.py"
    (tmp_path / "my_backbone.py").write_text(BACKBONE[2])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(SHORT, "1")
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(digits, "fit_frame_probe", partial(fit_frame_probe, steps=2))
    short = {"quick": True, "longest": 130}
    monkeypatch.setattr("wmkit.cli.check.examine_backbone", lambda core, **rest: examine_backbone(core, **rest | short))
    start = subprocess.run

    def run_here(argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        if argv[0] != sys.executable:
            return start(argv, **options)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (options.get("env") or {}).items():
                patch.setenv(name, value)
            words = ["wmkit", *argv[3:]] if argv[1:3] == ["-m", "wmkit.cli"] else ["python", *argv[1:]]
            return subprocess.CompletedProcess(argv, status_of(words))

    monkeypatch.setattr(subprocess, "run", run_here)
    yield tmp_path
    sys.modules.pop("my_backbone", None)


def status_of(words: Sequence[str]) -> int:
    """The exit status of a command that is run in this process."""
    program, *arguments = words
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as ends:
        raised = ends.enter_context(pytest.raises(SystemExit))
        if program == "wmkit":
            raise SystemExit(main(arguments))
        if program == "torchrun":
            launch = [Path(sys.executable).with_name("torchrun"), *arguments]
            raise SystemExit(subprocess.run(launch, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode)
        assert program == "python", words
        patch.setattr(sys, "argv", arguments)
        runpy.run_path(arguments[0], run_name="__main__")
        raise SystemExit(0)
    return int(raised.value.code or 0)


def run_of(recipe: str, folder: Path) -> Path:
    """A run of the recipe in the folder, made where there is none."""
    found = sorted((folder / "runs").glob(f"{recipe}-*"))
    if not found:
        assert status_of(["python", f"recipes/{recipe}.py"]) == 0
    return found[0] if found else run_of(recipe, folder)


def run_all(commands: Iterable[Command], folder: Path) -> None:
    """Run them one after another in the folder, with what they speak of made before."""
    for command in commands:
        if named := re.search(r"\bruns/(\w+)-", command.text):
            run_of(named[1], folder)
        words = [str(run_of(command.recipe, folder)) if word == "RUN" else word for word in command.words]
        assert status_of(words) == 0, command.text
    configs = [load_config(path) for path in folder.glob("**/config.json")]
    assert {(config.size, config.train.steps, config.eval.episodes) for config in configs} <= {("tiny", 2, 2)}


@pytest.mark.early
@pytest.mark.reported(
    "friction",
    "",
    "any command of README or of a page, pasted into a shell",
    "runs as it stands; `WMKIT_SHORT=1` makes it short",
)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_the_page_run_as_they_stand(page: Path, folder: Path) -> None:
    run_all([command for command in commands_of(page) if not command.starts(EXCLUDED, EXPENSIVE)], folder)


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_expensive_commands_of_the_page_run_as_they_stand(page: Path, folder: Path) -> None:
    run_all([command for command in commands_of(page) if command.starts(EXPENSIVE)], folder)


def test_every_command_is_found_and_those_that_are_left_out_are_there() -> None:
    found = [command for page in PAGES for command in commands_of(page)]
    assert len(found) > 30
    assert {command.words[0] for command in found} == {*PROGRAMS}
    for beginning in (*EXCLUDED, *EXPENSIVE):
        assert [command for command in found if command.starts([beginning])], f"{beginning}: no page has it any more"


def test_a_command_over_several_lines_is_one_and_its_comment_is_none_of_its_words(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Run it:\n\n    wmkit report a \\\n        b      # two\n\n    wmkit/  a folder\n\n"
        "```python\nwmkit = 1\n```\n\n```sh\nwmkit imagine RUN  # of recipes/moving_mnist.py\n```\n"
    )
    fenced, indented = commands_of(page)
    assert (fenced.words, fenced.recipe) == (["wmkit", "imagine", "RUN"], "moving_mnist")
    assert (indented.words, indented.recipe) == (["wmkit", "report", "a", "b"], "memory_maze")
