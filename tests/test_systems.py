"""Other systems and other people's environments, by processes that lack or have what those lack or have."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[1]

WINDOWS = """
import os, select, signal, socket, subprocess, sys
# What chooses its own code by the name of the system comes first; then everything goes that Windows lacks.
import accelerate, filelock, gymnasium, hydra, matplotlib.figure, numba, numpy, polars, sklearn, torch, zarr
import rich.console, safetensors.torch, torch._dynamo, torch.utils.tensorboard

for module in ("fcntl", "grp", "labmaze", "pwd", "resource", "termios", "tty"):
    sys.modules[module] = None
for module, names in {
    os: "fork register_at_fork memfd_create getuid geteuid killpg uname sched_getaffinity fchmod mkfifo getloadavg",
    socket: "send_fds recv_fds AF_UNIX",
    select: "poll epoll",
    signal: "SIGKILL SIGPIPE SIGHUP SIGXFSZ SIGALRM SIGQUIT SIGUSR1 pthread_sigmask",
}.items():
    for name in names.split():
        delattr(module, name)

import importlib, pkgutil
def only_mujoco(name):
    assert name == "wmkit_envs.maze3d.mujoco", name
for package in ("wmkit", "wmkit_envs", "wmkit_kernels"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.", only_mujoco):
        if "triton" not in module.name and "mujoco" not in module.name:
            importlib.import_module(module.name)

from pathlib import Path
def no_links(self, target, target_is_directory=False):
    raise OSError(1314, "A required privilege is not held by the client")
Path.symlink_to = no_links

import wmkit
from wmkit.config import DataConfig, RunConfig, TrainConfig
from wmkit.training import run_recipe
from wmkit_envs import Rooms

data = DataConfig(length=4, batch_size=2, episode_length=8, episodes=2, workers=1)
train = TrainConfig(steps=2, warmup=1, log_every=1, eval_every=2, checkpoint_every=2, threads=1)
config = RunConfig(world=Rooms(image_size=32), backbone="gru", size="tiny", data=data, train=train)
status = run_recipe(config, after=wmkit.load, overrides=["run_dir=run"])
assert (Path("run") / "checkpoints" / "best").read_text() == "step-00000002\\n"
sys.exit(status)
"""


@pytest.mark.early
@pytest.mark.reported(
    "machines",
    "Eclectic-Sheep/sheeprl#277, NM512/dreamerv3-torch#14",
    "Windows, by stubs: no `fcntl`, fork, `memfd_create`, `select.poll`, SIGKILL, links, descriptors through sockets",
    "everything is imported; a run with a worker trains, saves its best checkpoint and loads",
)
def test_a_run_trains_without_what_windows_lacks(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WINDOWS], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "finished.json").exists()


THEIRS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "GIT_DIR": "/dev/null/git",
    "HOME": "/dev/null/home",
    "HYDRA_FULL_ERROR": "1",
    "LANG": "C",
    "LC_ALL": "C",
    "MATPLOTLIBRC": "theirs",
    "MPLBACKEND": "TkAgg",
    "MPLCONFIGDIR": matplotlib.get_cachedir(),  # a list of fonts that is there: making one takes ten seconds
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONHASHSEED": "7",
    "PYTHONIOENCODING": "ascii",
    "PYTHONOPTIMIZE": "2",
    "PYTHONUTF8": "0",
    "PYTHONWARNINGS": "error",
    "SLURM_NTASKS": "8",
    "TMPDIR": "/dev/null/tmp",
}


@pytest.mark.early
@pytest.mark.reported(
    "machines",
    "",
    "a clone in `mÿ work [v1] & co`, runs in `rüns #1`",
    "the recipe trains with a worker, evaluates and draws",
)
@pytest.mark.reported(
    "settings",
    "huggingface/accelerate#3571",
    "`PYTHONHASHSEED`, `PYTHONOPTIMIZE=2`, `PYTHONWARNINGS=error`, `LC_ALL=C` in ASCII, a matplotlibrc with LaTeX, "
    "`GIT_DIR`, `ACCELERATE_*`, `HOME` and `TMPDIR` that are not there: all at once",
    "the same metrics, table and picture",
)
def test_no_variable_of_others_enters_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = tmp_path / "mÿ work [v1] & co"
    clone.mkdir()
    for part in ("recipes", "wmkit", "wmkit_kernels", "envs"):
        (clone / part).symlink_to(ROOT / part)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "matplotlibrc").write_text("text.usetex: True\nsavefig.dpi: 20\n")
    # A world of tiles: without docstrings (`PYTHONOPTIMIZE=2`) Numba compiles anew, a renderer for half a minute.
    words = ["world.width=8", "backbone=gru", "size=tiny", "data.batch_size=2", "train.steps=2", "train.device=cpu",
             "train.threads=1", "train.precision=fp32", "train.log_every=1", "eval.episodes=2", "eval.batches=1",
             "eval.reward_episodes=6", "eval.valid_reward_episodes=4"]  # fmt: skip
    environment = os.environ | THEIRS | {"PYTHONPATH": f"{clone}:{clone / 'envs'}"}
    recipe = clone / "recipes" / "distracting_memory.py"
    done = subprocess.run(
        [sys.executable, str(recipe), "run_dir=rüns #1", *words], cwd=tmp_path, capture_output=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert b"+-" in done.stdout
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(recipe), "run_dir=usual", "data.workers=0", *words])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(ROOT / "recipes" / "distracting_memory.py"), run_name="__main__")
    for file in ("metrics.jsonl", "evaluation.md", "pictures/strip.png", "pictures/imagined.gif"):
        theirs, usual = (tmp_path / run / file for run in ("rüns #1", "usual"))
        assert theirs.read_bytes() == usual.read_bytes(), file
