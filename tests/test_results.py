"""Every result that README.md and docs/ print equals the study in docs/results that it comes from.

Each table of results is written here a second time, cell by cell from the JSON; the page must have it to the digit. A
sentence with results in it is listed by the part that holds them.
"""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGE, README, GUIDE = RESULTS / "README.md", ROOT / "README.md", ROOT / "docs" / "kernels.md"
STUDIES: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
KERNELS: dict[str, Any] = json.loads((RESULTS / "kernels" / "measurements.json").read_text())

UNSEEN = {"episodes": "unseen"}
SPECIAL = ("seed", "episodes", "checkpoint", "levels_that_see", "clip", "observations")
"""Columns that an estimate has only where it is not the plain one of a run."""
NAMES = {"s4": "S4", "transformer_xl": "Transformer-XL", "gru": "RSSM (`gru`)", "gru_tbtt": "RSSM-TBTT (`gru`)"}


def estimate(study: str, measure: str, predictor: str, steps: str | None, **where: object) -> dict[str, Any]:
    """The one row of `estimates` that is meant; of the only seed, or over all seeds where there are several."""
    data = STUDIES[study]
    usual = {"seed": data["seeds"][0] if len(data["seeds"]) == 1 and "system" in where else None}
    where = {**dict.fromkeys(SPECIAL), **usual, "measure": measure, "predictor": predictor, "steps": steps, **where}
    rows = [row for row in data["estimates"] if all(row.get(key) == value for key, value in where.items())]
    means = {row["mean"] for row in rows}
    assert len(means) == 1, f"{study}: {len(rows)} rows with {where}"
    return rows[0]


def runs(study: str, **where: object) -> list[dict[str, Any]]:
    return [run for run in STUDIES[study]["runs"] if all(run.get(key) == value for key, value in where.items())]


def steps_of(study: str, **where: object) -> str:
    chosen = runs(study, **where)
    assert chosen, (study, where)
    return f"{sum(run['steps'] for run in chosen) / len(chosen):,.0f}"


def line(*cells: str) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def percent(row: dict[str, Any], digits: int = 1) -> str:
    return f"{100 * row['mean']:.{digits}f} %"


def percent_within(row: dict[str, Any]) -> str:
    return f"{percent(row)} ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def percent_around(row: dict[str, Any], digits: int = 1) -> str:
    return f"{100 * row['mean']:.{digits}f} ± {50 * (row['high'] - row['low']):.{digits}f} %"


def around(row: dict[str, Any], digits: int) -> str:
    return f"{row['mean']:z.{digits}f} ± {(row['high'] - row['low']) / 2:z.{digits}f}"


def reward(study: str, predictor: str, **where: object) -> dict[str, Any]:
    return estimate(study, "reward_accuracy", predictor, "last", **where)


def error(study: str, predictor: str, steps: str = "query", **where: object) -> dict[str, Any]:
    return estimate(study, "frame_error", predictor, steps, **where)


def rounded(value: float) -> str:
    """Two digits that count, as errors have in the tables."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def width_16() -> list[str]:
    lines = []
    for system, study in [(name, "distracting_memory_16") for name in ("s4", "transformer_xl", "gru")] + [
        ("gru_tbtt", "distracting_memory_16_tbtt")
    ]:
        (rate,) = [choice["lr"] for choice in STUDIES[study]["choices"] if choice["system"] == system]
        of = {"system": system, "lr": rate}
        imagined, observed = (reward(study, predictor, **of) for predictor in ("imagined", "observed"))
        lines.append(
            f"| {NAMES[system]} | {percent_within(imagined)} | {percent_within(observed)} "
            f"| {rounded(error(study, 'imagined', **of)['mean'])} | {rate:g} | {steps_of(study, **of)} |"
        )
    majority = reward("distracting_memory_16_tbtt", "majority", system="gru_tbtt", lr=3e-4, seed=0)
    return [*lines, f"| always the same answer | {percent(majority)} | | | | |"]


def no_avx512() -> list[str]:
    study, lines = "distracting_memory_16_no_avx512", []
    for choice in sorted(STUDIES[study]["choices"], key=lambda choice: list(NAMES).index(choice["system"])):
        of = {"system": choice["system"], "lr": choice["lr"]}
        imagined, observed = (reward(study, predictor, **of) for predictor in ("imagined", "observed"))
        lines.append(
            f"| {NAMES[choice['system']]} | {percent_within(imagined)} | {percent_within(observed)} "
            f"| {steps_of(study, **of)} |"
        )
    return lines


def widths() -> list[str]:
    study, lines = "distracting_memory_widths", []
    worlds = STUDIES[study]["worlds"]
    for system in ("s4", "transformer_xl", "gru", "gru_tbtt"):
        shares = []
        for world in worlds:
            imagined, observed = (reward(study, p, system=system, world=world) for p in ("imagined", "observed"))
            shares.append(f"{percent(imagined)} ({percent(observed)})")
        steps = ", ".join(steps_of(study, system=system, world=world) for world in worlds)
        lines.append(f"| {NAMES[system]} | {' | '.join(shares)} | {steps} |")
    same = [percent(reward(study, "majority", system="s4", world=world)) for world in worlds]
    return [*lines, f"| always the same answer | {' | '.join(same)} | |"]


def width_128() -> list[str]:
    study, lines = "distracting_memory_128", []
    rows = {
        "s4_cosine": "S4, the rate decays",
        "s4": "S4",
        "transformer_xl_320": "Transformer-XL, memory of 320",
        "transformer_xl_320_cosine": "the same, the rate decays",
        "transformer_xl": "Transformer-XL, memory of 160",
        "gru": "RSSM (`gru`)",
        "gru_tbtt": "RSSM-TBTT (`gru`)",
    }
    for system, label in rows.items():
        imagined, observed = (reward(study, predictor, system=system) for predictor in ("imagined", "observed"))
        lines.append(
            f"| {label} | {percent_within(imagined)} | {percent(observed)} "
            f"| {rounded(error(study, 'imagined', system=system)['mean'])} | {steps_of(study, system=system)} |"
        )
    same, mean = reward(study, "majority", system="s4"), error(study, "mean_image", system="s4")
    return [*lines, f"| always the same answer; mean image | {percent(same)} | | {rounded(mean['mean'])} | |"]


def keys() -> list[str]:
    lines = []
    for system, label, study in (
        ("s4", "S4, batches of 8", "multi_doors_keys_3_90"),
        ("gru_tbtt", "RSSM-TBTT (`gru`), 64 windows of 25 steps", "multi_doors_keys_3_90"),
        ("gru_tbtt_half", "the same, 32 windows, learning rate 3e-3", "multi_doors_keys_3_90_control"),
        ("gru", "RSSM (`gru`), whole episodes, batches of 16", "multi_doors_keys_3_90"),
    ):
        of = {"system": system, **UNSEEN}
        lines.append(_keys_row(label, study, "imagined", of, steps_of(study, system=system)))
    study, of = "multi_doors_keys_3_90", {"system": "s4", **UNSEEN}
    lines.append(_keys_row("initial map, along the true trajectory", study, "initial_map", of, ""))
    doors = [percent_around(estimate(study, "door_state", "majority", steps, **of)) for steps in ("query", "45-87")]
    lines.append(f"| doors: the more frequent state at each step | | | {doors[0]} | {doors[1]} | |")
    for predictor, label in (("mean_image", "mean image"), ("copy_last", "last context frame")):
        whole = error(study, predictor, **of)["mean"]
        changing = around(estimate(study, "frame_error_moving", predictor, "query", **of), 1)
        lines.append(f"| {label} | {whole:.1f} | {changing} | | | |")
    return lines


def _keys_row(label: str, study: str, predictor: str, of: dict[str, Any], steps: str) -> str:
    changing = around(estimate(study, "frame_error_moving", predictor, "query", **of), 2)
    doors = [percent_around(estimate(study, "door_state", predictor, part, **of)) for part in ("query", "45-87")]
    return line(label, f"{error(study, predictor, **of)['mean']:.2f}", changing, *doors, steps)


PARTS = ("1-5", "6-20", "91-100", "1-100")


def demo() -> list[str]:
    rows = {
        "imagined": "imagined",
        "shuffled_actions": "imagined, another episode's actions",
        "no_memory": "imagined, the context's last frame alone",
        "mean_image": "mean image",
        "copy_last": "last context frame",
    }
    return [line(label, *(_seen("s4", predictor, steps) for steps in PARTS)) for predictor, label in rows.items()]


def demo_backbones() -> list[str]:
    return [
        line(
            f"`backbone={system}`",
            *(_seen(system, predictor, steps) for steps in PARTS[1:3] for predictor in ("imagined", "no_memory")),
        )
        for system in STUDIES["look_around_demo"]["systems"]
    ]


def _seen(system: str, predictor: str, steps: str) -> str:
    return around(estimate("look_around_demo", "frame_error_seen", predictor, steps, system=system), 1)


ROOMS = ("ray_two_rooms", "ray_two_rooms_teleport")


def rooms() -> list[str]:
    lines = []
    for system in STUDIES["two_rooms"]["systems"]:
        cells = [f"{error('two_rooms', 'observed', system=system, world=ROOMS[0])['mean']:.1f}"]
        for world in ROOMS:
            of = {"system": system, "world": world}
            cells += [f"{error('two_rooms', name, **of)['mean']:.1f}" for name in ("imagined", "no_memory")]
            for seed in (None, 2)[: 1 + (world == ROOMS[1])]:
                where = {**of, "seed": seed}
                better = estimate("two_rooms", "frame_error_better_than_no_memory", "imagined", "query", **where)
                cells.append(f"{better['mean']:.1f} [{better['low']:.1f}, {better['high']:.1f}]")
        lines.append(line(NAMES[system], *cells, steps_of("two_rooms", system=system, world=ROOMS[0])))
    means = [f"{error('two_rooms', 'mean_image', system='s4', world=world)['mean']:.1f}" for world in ROOMS]
    return [*lines, line("mean image", "", means[0], "", "", means[1], "", "", "", "")]


def recall() -> list[str]:
    lines = []
    for system in STUDIES["two_rooms"]["systems"]:
        for predictor, label in (("imagined", NAMES[system]), ("observations_alone", "the same, observations alone")):
            after = [0, 1, 2, 5, 10, 20][0 if predictor == "imagined" else 1 :]
            found = [
                estimate("two_rooms", "frame_error_after_teleport", predictor, "21-101", system=system, observations=n)
                for n in after
            ]
            lines.append(line(label, *([""] if len(found) < 6 else []), *(f"{row['mean']:.1f}" for row in found)))
    return lines


def told(study: str, measure: str, digits: int | None = None) -> list[str]:
    """Of a probe what each row tells, what is better than no memory, the horizon and what it cost.

    digits: of numbers; None: of shares, in per cent.
    """

    def text(row: dict[str, Any]) -> str:
        return percent_around(row) if digits is None else around(row, digits)

    data, lines = STUDIES[study], []
    for system in data["systems"]:
        of = {"system": system}
        rows = [estimate(study, measure, row, "all", **of) for row in PROBED]
        better = estimate(study, f"{measure}_better_than_no_memory", "observed", "all", **of)
        horizons = [
            row for row in data["estimates"] if row["measure"] == f"{measure}_horizon" and row["system"] == system
        ]
        lines.append(
            line(
                f"`{system}`",
                *(text(row) for row in [*rows, better]),
                _steps(horizons[0]) if horizons else "none",
                f"{runs(study, **of)[0]['state_bytes'] / 1024:,.1f} KiB",
                f"{sum(run['imagined_step_ms'] for run in runs(study, **of)) / len(runs(study, **of)):.2f} ms",
                steps_of(study, **of),
            )
        )
    constant = estimate(study, measure, "constant", "all", system=next(iter(data["systems"])))
    return [*lines, line("constant answer", text(constant), *[""] * (len(PROBED) + 4))]


PROBED = ("observed", "no_memory", "untrained", "actions")


def _steps(row: dict[str, Any]) -> str:
    ends = [
        f"> {row['longest']}" if row[end] >= row["longest"] else f"{row[end]:.0f}" for end in ("mean", "low", "high")
    ]
    return f"{ends[0]} [{ends[1]}, {ends[2]}]"


def mazes() -> list[str]:
    return told("probes_of_mazes", "objects_mlp", 2)


def colours() -> list[str]:
    return told("probes_of_a_room", "wall_colors_mlp")


def corridor() -> list[str]:
    return told("probes_of_a_corridor", "sample_color_mlp")


def headline() -> list[str]:
    """Of `colours` what README shows, and by how much the state tells more than it did untrained."""
    lines = []
    for row, system in zip(colours(), STUDIES["probes_of_a_room"]["systems"], strict=False):
        name, told_right, *_, alone, horizon, state, step, _ = row.strip("| ").split(" | ")
        learnt = estimate("probes_of_a_room", "wall_colors_mlp_better_than_untrained", "observed", "all", system=system)
        lines.append(line(name, told_right, alone, percent_around(learnt), horizon, state, step))
    return lines


def speeds() -> list[str]:
    study, lines = "clockwork_speeds", []
    for world, label in zip(STUDIES[study]["worlds"], ("x 1/3", "x 1", "x 3"), strict=True):
        cells = []
        for level in (1, 2, 3):
            of = {"system": "k4", "world": world}
            whole = estimate(study, f"kl_{level}", "observed", "clip", **of)["mean"]
            each = [estimate(study, f"kl_{level}", "observed", "clip", seed=seed, **of)["mean"] for seed in (0, 1, 2)]
            digits = 0 if whole >= 10 else 2 if whole < 0.1 else 1
            cells.append(f"{whole:.{digits}f} ({', '.join(f'{value:.{digits}f}' for value in each)})")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def levels() -> list[str]:
    study, lines = "clockwork_levels", []
    rows = {
        "rssm": ("1 level", "636"),
        "levels2": ("2 levels, k = 4 (TALD 6)", "562, 57"),
        "k4": ("3 levels, k = 4 (TALD 6)", "529, 65, 9"),
        "levels4": ("4 levels, k = 3 (TALD 4)", "573, 59, 4, 0.0002"),
    }
    for number, (system, (label, published)) in enumerate(rows.items(), start=1):
        cells = []
        for level in range(1, 5):
            if level > number:
                cells.append("")
                continue
            row = estimate(study, f"kl_{level}", "observed", "clip", system=system)
            mean = row["mean"]
            cells.append(around(row, 0 if level == 1 else 1) if mean > 0.1 else f"{mean:.1g}")
        lines.append(line(label, *cells, published))
    return lines


HORIZON = {"rssm": "RSSM (one level)", "k1": "k = 1", "k2": "k = 2", "k4": "k = 4"}
BASELINES = {
    "copy_last": "last context frame (floor)",
    "mean_image": "mean image (floor)",
    "other_clip": "another clip (floor)",
    "black": "black frame (floor)",
    "true_frames": "true frames (ceiling)",
}
RANGES = ("1-5", "6-20", "21-64")


def horizon(measure: str, cell: Callable[[dict[str, Any]], str]) -> list[str]:
    study, lines = "clockwork_horizon", []
    for system, label in HORIZON.items():
        lines.append((label, [estimate(study, measure, "imagined", steps, system=system) for steps in RANGES]))
    for predictor, label in BASELINES.items():
        rows = [estimate(study, measure, predictor, steps, world="moving_mnist_32px") for steps in RANGES]
        lines.append((label, rows))
    return [f"| {label} | {' | '.join(cell(row) for row in rows)} |" for label, rows in lines]


def digits() -> list[str]:
    named = horizon("identity_accuracy", lambda row: percent_around(row, 0))
    off = horizon("position_error", lambda row: around(row, 1))
    return [f"{left} {right.split(' | ', 1)[1]}" for left, right in zip(named, off, strict=True)]


def reset() -> list[str]:
    study, lines = "clockwork_horizon", []
    rows: dict[str, list[int]] = {
        "all": [1, 2, 3],
        "all but level 3": [1, 2],
        "all but level 2": [1, 3],
        "level 1 alone": [1],
        "all but level 1": [2, 3],
        "level 2 alone": [2],
        "none (floor)": [],
    }
    for label, seeing in rows.items():
        of = {"system": "k4", "levels_that_see": seeing}
        cells = []
        for predictor, steps, places in (("observed", "last ten of the context", 2), ("imagined", "1-10", 1)):
            cells.append(percent_around(estimate(study, "identity_accuracy", predictor, steps, **of), 0))
            position = estimate(study, "position_error", predictor, steps, **of)
            cells.append(around(position, places if position["mean"] < 1 else 1))
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def times() -> list[str]:
    study, lines = "clockwork_times", []
    for system, label, published in (
        ("rssm", "RSSM (one level)", "18 h: 1.00"),
        ("k4", "CW-VAE, three levels, k = 4 (the paper's 6)", "20 h: 1.11"),
        ("k1", "NoTmpAbs, three levels, k = 1", "31 h: 1.72"),
    ):
        relative = estimate(study, "relative_step_time", "training", None, system=system)["mean"]
        step = estimate(study, "step_time", "training", None, system=system)["mean"]
        lines.append(f"| {label} | {relative:.2f} | {step:.0f} | {published} |")
    return lines


def peer() -> list[str]:
    lines = []
    for row in KERNELS["peer"]["rows"]:
        bar = f"{row['most_ms']} ms" if row["bar"] is None else f"{row['bar']:g}"
        memory = f"{row['mib']:.0f} ({row['their_mib']:,.0f}), bar {row['most_mib']}" if row["most_mib"] else ""
        lines.append(line(row["name"], *(f"{row[key]:.3g}" for key in ("ms", "their_ms", "ratio")), bar, memory))
    return lines


def studies() -> list[str]:
    lines = []
    for name, study in STUDIES.items():
        images = " ".join(f"[{image}]({image}.png)" for image in study.get("images", []))
        commits = ", ".join(commit[:7] for commit in study["commit"])
        link, machines = f"[{name}]({name}.json)", "; ".join(study["machine"])
        lines.append(line(link, study["claim"], study["date"], machines, commits, images))
    return lines


def sentences() -> list[tuple[Path, str]]:
    """Results in running text: the page and the words around them."""
    room, colour = STUDIES["probes_of_a_room"], "wall_colors_mlp"
    in_view = {
        name: 100 * estimate(room["study"], f"{colour}_in_view", "observed", "all", system=name)["mean"]
        for name in room["systems"]
    }
    constant = percent(estimate(room["study"], colour, "constant", "all", system="s4"))
    others = [f"{share:.0f}" for name, share in in_view.items() if name != "gru"]
    alone = [100 * estimate(room["study"], colour, "no_memory", "all", system=name)["mean"] for name in room["systems"]]
    at_4000 = [
        percent(reward("distracting_memory_128", predictor, system="s4", checkpoint=4000))
        for predictor in ("imagined", "observed")
    ]
    after_45 = []
    for system in ("s4", "gru_tbtt"):
        doors = estimate("multi_doors_keys_3", "door_state", "imagined", "query", system=system)
        after_45.append(f"{error('multi_doors_keys_3', 'imagined', system=system)['mean']:.2f} and {percent(doors)}")
    over_124, over_252 = (
        " and ".join(f"{100 * reward(study, 'imagined', **of)['mean']:.1f}" for of in which)
        for study, which in (
            (
                "distracting_memory_widths",
                [{"system": name, "world": "distracting_memory_64_4px"} for name in ("s4", "transformer_xl")],
            ),
            ("distracting_memory_128", [{"system": name} for name in ("s4_cosine", "transformer_xl_320")]),
        )
    )
    kernel = [f"{row['ratio']:.1f}" for row in KERNELS["peer-default"]["rows"]]
    growth = {(row["axis"], row["name"]): f"{row['ms']:.2f}" for row in KERNELS["curves"]["rows"]}
    memory = {(row["axis"], row["name"]): f"{row['mib']:.2f}" for row in KERNELS["curves"]["rows"]}
    seen, forgotten, mean = (
        f"{estimate('look_around_demo', 'frame_error_seen', predictor, '6-20', system='s4')['mean']:.1f}"
        for predictor in ("imagined", "no_memory", "mean_image")
    )
    three = [_seen(name, "imagined", "6-20").split()[0] for name in ("transformer_xl", "s4", "gru")]
    return [
        (PAGE, f"{in_view['gru']:.0f} % of the walls in view, where the others have {min(others)} to {max(others)}"),
        (README, f"(the constant answer is right for {constant};"),
        (PAGE, f"which sees one or two of them, has {min(alone):.0f} to {max(alone):.0f} %"),
        (README, f"errs by {three[0]}, S4 by {three[1]} and the RSSM (`gru`) by {three[2]}"),
        (README, f"the squared errors are {seen}, {forgotten} without memory, and {mean} for the mean image"),
        (PAGE, f"S4 had {at_4000[0]} ({at_4000[1]} observed) at step 4,000"),
        (PAGE, f"batches of 16 it was at {after_45[0]}, no better than RSSM-TBTT's {after_45[1]}"),
        (README, f"imagine {over_124} % of the answers over 124 steps"),
        (README, f"given eighty minutes (S4 with a decaying learning rate), {over_252} % over 252"),
        (GUIDE, f"{kernel[0]} and {kernel[1]} times ours for the DPLR kernel, {kernel[2]} for the S4 layer"),
        (GUIDE, f"{kernel[8]} for the S4D layer"),
        (GUIDE, f"they are ({kernel[3]} and {kernel[4]} for S4's)"),
        *(
            (GUIDE, f"{name} {growth['T', name.strip('`')]}")
            for name in ("`dplr_kernel`", "`dplr_scan`", "`vandermonde`")
        ),
        *((GUIDE, f"{name} {growth['T', name.strip('`')]}") for name in ("`diagonal_scan`", "S4 layer", "S4D layer")),
        (GUIDE, f"`fft_conv` {growth['T', 'fft_conv']}, as n log n"),
        (GUIDE, f"In H at most {max(growth[key] for key in growth if key[0] == 'H')}."),
        (GUIDE, f"In N at most {max(growth[key] for key in growth if key[0] == 'N')}:"),
        (GUIDE, f"{memory['T', 'dplr_kernel']} for `dplr_kernel`"),
    ]


TABLES = {
    PAGE: (
        studies,
        width_16,
        no_avx512,
        widths,
        width_128,
        keys,
        speeds,
        levels,
        digits,
        reset,
        times,
        demo,
        demo_backbones,
        rooms,
        recall,
        mazes,
        colours,
        corridor,
    ),
    GUIDE: (peer,),
    README: (headline,),
}


@pytest.mark.parametrize(
    ("page", "table"),
    [(page, table) for page, tables in TABLES.items() for table in tables],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_table_of_results_is_what_its_study_says(page: Path, table: Callable[[], list[str]]) -> None:
    lines = page.read_text().splitlines()
    missing = [line for line in table() if line not in lines]
    assert not missing


def test_every_row_of_results_is_compared_with_a_study() -> None:
    lines = PAGE.read_text().split("## Distracting Memory")[1].splitlines()
    header = {line for line, after in itertools.pairwise(lines) if after.startswith("|---")}
    rows = {line for line in lines if line.startswith("|") and re.search(r"\d", line)} - header
    assert rows == {line for table in TABLES[PAGE][1:] for line in table()}


@pytest.mark.parametrize(("page", "sentence"), sentences(), ids=lambda value: getattr(value, "stem", ""))
def test_results_in_running_text_are_those_of_the_study(page: Path, sentence: str) -> None:
    assert sentence in " ".join(page.read_text().split())


@pytest.mark.parametrize("name", STUDIES)
def test_the_command_of_a_study_is_on_the_page(name: str) -> None:
    assert f"# {name} {STUDIES[name]['command']}" in " ".join(PAGE.read_text().replace("\\\n", " ").split())


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_keeps_the_schema_of_the_page(name: str) -> None:
    study = STUDIES[name]
    described = set(re.findall(r"`(\w+)`", PAGE.read_text().split("## How to read a study")[1].split("\n- ")[0]))
    assert study["study"] == name
    assert set(study) <= described
    needed = {
        "study",
        "claim",
        "date",
        "command",
        "machine",
        "commit",
        "systems",
        "worlds",
        "seeds",
        "measures",
        "estimates",
    }
    assert needed <= set(study)
    assert {row["measure"] for row in [*study["estimates"], *study.get("curves", [])]} == set(study["measures"])
    for row in study["estimates"]:
        assert ("low" in row) == ("high" in row)
        assert row.get("low", row["mean"]) <= row["mean"] <= row.get("high", row["mean"]), row
        assert {"system", "world"} & set(row)
        assert row.get("system") in (None, *study["systems"])
        assert row.get("world") in (None, *study["worlds"])
    for curve in study.get("curves", []):
        lengths = {len(curve[key]) for key in ("mean", "low", "high", "at", "minutes") if key in curve}
        assert len(lengths) == 1
        assert ("first" in curve) != ("at" in curve)


def test_results_are_small_and_hold_no_run_folders() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == {"results", "kernels"}
    assert {path.suffix for path in files} <= {".json", ".md", ".png", ".txt"}
    assert sum(path.stat().st_size for path in files) < 2_000_000
