"""A run, or a model of one's own, is probed: sources of episodes, a folder for what is found, tables and figures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from wmkit.build import build_world_model
from wmkit.data import EpisodeSource, Subset, World, open_source
from wmkit.evaluation.held_out import held_out, other_episodes, training_of
from wmkit.evaluation.run import device_for
from wmkit.files import user_folder
from wmkit.loading import find_checkpoint, load, run_config
from wmkit.probing.measure import Plan, measure_probes, progress_bar
from wmkit.probing.readers import Part, Reader, WorldModelReader
from wmkit.probing.results import ProbeResults
from wmkit.training.checkpoints import BEST
from wmkit.training.loop import build_model
from wmkit.training.run_folder import SAVED, check_local_data
from wmkit.training.runtime import torch_defaults
from wmkit.training.threads import fitting_threads
from wmkit.world_model import WorldModel

FOLDER = "probes"
"""In a run's folder."""
HELD_OUT_SHARE = 4
"""Of a source without splits every fourth episode, the last ones, is held out."""
Episodes = str | Path | World | EpisodeSource


@torch_defaults()
@fitting_threads()
def probe_run(
    run: str | Path,
    plan: Plan | None = None,
    *,
    checkpoint: str | Path = BEST,
    episodes_from: str | Path | World | None = None,
    part: Part = "both",
    out: str | Path | None = None,
    console: Console | None = None,
) -> ProbeResults:
    """Probe a run: fit to episodes of its training split, ask about its test episodes, print tables, fill its folder.

    part: what is probed, `both` h and z, `h` or `z` alone. episodes_from: a world, or an archive of split `test`, to be
    asked about instead. Writes records, `probes.md`, `probes.json`, pictures and finished fits into `out`; None: into
    `probes` in the run folder. Stopped and called again, it goes on.

    A run that was saved without its world has no training episodes of its own: then `episodes_from` gives both, as the
    sources of `wmkit.probe` do.

    Raises `ValueError` as `wmkit.load` and `measure_probes` do; `OSError` where `out` cannot be written to.
    """
    folder, plan = user_folder(run), plan or Plan()
    config = run_config(folder)
    check_local_data(folder, config.world)
    path = find_checkpoint(folder, checkpoint)
    model = load(folder, path, device=device_for(config))
    label, usual = other_episodes(folder, config, episodes_from)
    place = usual / FOLDER / ("" if part == "both" else part) if out is None else user_folder(out)

    def initial(seed: int) -> WorldModel:
        return build_model(config, model.image_shape, model.action_dim)  # the weights that it began with

    about = {
        "run": folder.name,
        "world": config.label,
        "seed": config.seed,
        "checkpoint": path.name,
        "episodes_of": label,
        "part": part,
    }
    reader = WorldModelReader(model, part, initial)
    saved = folder / SAVED
    if episodes_from is not None and saved.exists() and not json.loads(saved.read_text(encoding="utf-8"))["world"]:
        sources = _sources(episodes_from, plan)
    else:
        sources = training_of(config)(plan.length), held_out(config, episodes_from, plan.length)
    return _probed(reader, *sources, plan, place, about, console)


def probe(
    model: WorldModel | Reader,
    source: Episodes | tuple[Episodes, Episodes],
    probes: Sequence[Any] | None = None,
    *,
    plan: Plan | None = None,
    part: Part = "both",
    out: str | Path | None = None,
) -> ProbeResults:
    """Probe a model: a `WorldModel`, or any other by a `ForeignModel`. See `wmkit.probe`."""
    if isinstance(model, WorldModel):
        make = None if model.built_as is None else lambda seed: _rebuilt(model, seed)
        reader: Reader = WorldModelReader(model, part, make)
    elif isinstance(model, Reader):
        reader = model
    else:
        raise ValueError(
            f"model: expected a WorldModel or a wmkit.probing.Reader, got a {type(model).__name__}; "
            "wmkit.probing.ForeignModel(encode, step, decode) makes one of three functions"
        )
    plan = plan or Plan()
    plan = plan if probes is None else dataclasses.replace(plan, probes=probes)
    place = None if out is None else user_folder(out)
    sources = _sources(source, plan)
    with torch_defaults(), fitting_threads():
        return measure_probes(reader, *sources, plan) if place is None else _probed(reader, *sources, plan, place, {})


def _sources(source: Episodes | tuple[Episodes, Episodes], plan: Plan) -> tuple[EpisodeSource, EpisodeSource]:
    """Training and held-out episodes: a pair as it is, splits of a world or of a folder with archives, else the last
    quarter held out; of one without end so many as the plan wants.

    Raises `ValueError` for an archive of test episodes alone, and for too few episodes to divide.
    """
    if isinstance(source, tuple):
        first, second = (
            one if isinstance(one, EpisodeSource) else open_source(one, split=split, length=plan.length)
            for one, split in zip(source, ("train", "test"), strict=True)
        )
        return first, second
    if not isinstance(source, EpisodeSource):
        folder = user_folder(source) if isinstance(source, str | Path) else None
        if folder is not None and (folder / "train").is_dir() and (folder / "test").is_dir():
            return open_source(folder / "train", split="train"), open_source(folder / "test", split="test")
        if folder is None or not folder.is_dir():
            world: Any = source
            train, test = (open_source(world, split=split, length=plan.length) for split in ("train", "test"))
            return train, test
        try:
            source = open_source(folder)
        except ValueError as error:
            raise ValueError(
                f"{error}; probes are fitted to training episodes and asked about test ones: give (training, test)"
            ) from error
    number = source.num_episodes
    if number is None:
        return Subset(source, range(plan.episodes)), Subset(source, range(plan.episodes, plan.episodes + plan.held_out))
    if number < HELD_OUT_SHARE:
        raise ValueError(f"source: expected {HELD_OUT_SHARE} episodes or more to divide, got {number}; or give a pair")
    first_held_out = number - max(2, min(plan.held_out, number // HELD_OUT_SHARE))
    return Subset(source, range(first_held_out)), Subset(source, range(first_held_out, number))


def _rebuilt(model: WorldModel, seed: int) -> WorldModel:
    """The model anew, at weights drawn from the seed."""
    assert model.built_as is not None, "whoever asks has looked"
    backbone, size = model.built_as
    torch.manual_seed(seed)
    options = dataclasses.asdict(model.config)
    return build_world_model(backbone, size, model.image_shape, model.action_dim, **options)


def _probed(
    reader: Reader,
    training: EpisodeSource,
    test: EpisodeSource,
    plan: Plan,
    place: Path,
    about: dict[str, Any],
    console: Console | None = None,
) -> ProbeResults:
    """Measure, save, print and draw."""
    from wmkit.probing.figures import draw_all  # brings matplotlib

    console = console or Console()
    place.mkdir(parents=True, exist_ok=True)  # a place that refuses says so before the long part
    with progress_bar(console) as progress:
        found = measure_probes(reader, training, test, plan, folder=place, about=about, progress=progress)
    found.save(place)
    for table in found.tables():
        console.print(table.rich())
    for verdict in found.steps.verdicts:
        style = "green" if verdict.holds else "red"
        console.print(str(verdict), style=style, highlight=False, markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    title = f"{about['run']} on {about['episodes_of']}" if about else "probes"
    draw_all(found, place / "pictures", title)
    console.print(f"Records, tables and pictures in {place}", highlight=False, markup=False, soft_wrap=True)
    return found
