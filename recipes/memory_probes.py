"""Memory probes: what do small systems remember of a maze, and for how long? From nothing to a table and figures.

    python recipes/memory_probes.py                                  # gru, s4, s5, transformer_xl on ray-cast 9x9 mazes
    python recipes/memory_probes.py systems=gru train.steps=300      # a first look
    python recipes/memory_probes.py systems=gru,s4 world=distracting_memory world.width=16 world.tile=4
    python recipes/memory_probes.py probes=walls rows=observed,no_memory probe_seeds=1

Each system is trained as one run, then probed: `wmkit probe` on its folder gives the same. Everything goes to `out=`;
the same command again goes on after Ctrl-C or a crash. Beside the keys of a run, which all systems share: `systems=`,
`probes=`, `rows=`, `probe_seeds=`, `probe_episodes=`, `held_out=`, `probe_steps=`, `out=`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import wmkit
from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.evaluation.held_out import training_of
from wmkit.files import user_folder, write_text
from wmkit.probing import Fit, Plan, ProbeResults, chosen_probes, probe_run, systems_table
from wmkit.probing.figures import draw_systems
from wmkit.training import compose
from wmkit.training.short import EPISODES, STEPS, is_short
from wmkit_envs import RayMaze

OWN = {
    "systems": "gru,s4,s5,transformer_xl",
    "probes": "",
    "rows": "",
    "probe_seeds": "3",
    "probe_episodes": "200",
    "held_out": "64",
    "probe_steps": "1000",
    "out": "probes/ray_maze_9x9",
}
"""Keys of this recipe. Without probes all that apply are taken, without rows all."""


def config() -> RunConfig:
    """What every run has in common: whole episodes, walked window by window, no gradient across windows."""
    return RunConfig(
        world=RayMaze(image_size=32),
        size="small",
        data=DataConfig(sampler="persistent", length=100, batch_size=16, workers=1),
        train=TrainConfig(
            steps=1500, lr=1e-3, warmup=50, clip=100.0, decode_share=0.25, precision="auto", log_every=20,
            eval_every=500, checkpoint_every=250,
        ),
        eval=EvalConfig(batches=1),
    )  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Train and probe one system after another; returns the exit status, 2 for what cannot be."""
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return 0
    own = dict(OWN)
    shared = []
    for word in argv:
        key, _, value = word.partition("=")
        if key in own:
            own[key] = value
        else:
            shared.append(word)
    out = user_folder(own["out"])
    try:
        plan = planned(own)
        runs = {name: compose(config(), [f"backbone={name}", *shared]) for name in own["systems"].split(",")}
        first = training_of(next(iter(runs.values())))(2).episode(0)  # what cannot be is said before the training
        chosen_probes(plan.probes, first)
        found = {name: probed(run, plan, out / name) for name, run in runs.items()}
    except ValueError as error:
        print(f"Cannot do that: {error}", file=sys.stderr)
        return 2
    write_summary(found, out)
    return 0


def planned(own: Mapping[str, str]) -> Plan:
    """What is to be probed; raises `ValueError` for keys of this recipe that say nothing that can be."""
    numbers = {"seeds": own["probe_seeds"], "episodes": own["probe_episodes"], "held_out": own["held_out"]}
    for key in ("probe_seeds", "probe_episodes", "held_out", "probe_steps"):
        if not own[key].isdecimal():
            raise ValueError(f"{key}: expected a number, got {own[key]!r}")
    options: dict[str, Any] = {key: int(value) for key, value in numbers.items()}
    options |= {key: own[key].split(",") for key in ("probes", "rows") if own[key]}
    steps = int(own["probe_steps"])
    if is_short():
        options |= {"seeds": 1, "episodes": EPISODES, "held_out": EPISODES, "heads": ["linear"], "length": 4 * STEPS}
        steps = 2
    return Plan(**options, fit=Fit(steps=steps))


def probed(run: RunConfig, plan: Plan, folder: Path) -> ProbeResults:
    """The results of one system, trained and probed where that was not done before."""
    summary = wmkit.train(run, folder)
    if summary.stopped_by is not None:
        print(f"Stopped after step {summary.step}; the same command goes on.", file=sys.stderr)
        raise SystemExit(128 + summary.stopped_by)
    return probe_run(folder, plan)


def write_summary(found: Mapping[str, ProbeResults], out: Path) -> None:
    """The table of all systems, and the figure of their recall where things have been out of view."""
    table = systems_table(found)
    Console().print(table.rich())
    write_text(out / "systems.md", table.markdown())
    drawn = " and .png" if draw_systems(found, out / "systems.png") else ""
    print(f"{out / 'systems.md'}{drawn}; of each system: {out}/SYSTEM/probes")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
