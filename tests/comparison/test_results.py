"""The tables of a comparison: what is read, which learning rate is chosen, and what is the best of a world."""

import json
import math

import polars as pl
import pytest

from wmkit.comparison.plan import CellFiles, Status, load_plan
from wmkit.comparison.report import rates_table
from wmkit.comparison.results import Choice, choose, read_results
from wmkit.evaluation.record import Metric
from wmkit.files import to_json
from wmkit.training.log import read_lines

SHARE = Metric("right", "share", "higher", validated=True)
ERROR = Metric("error", "grey levels", "lower", validated=True)


def cells(*rows: tuple[float, int, float | None], **values: list[float | None]) -> pl.DataFrame:
    """Rows are (lr, seed, loss at the last validation); a loss of None is a failed cell, -1 an unfinished one."""
    status = {None: Status.FAILED, -1.0: Status.UNFINISHED}
    return pl.DataFrame(
        {
            "lr": [lr for lr, _, _ in rows],
            "seed": [seed for _, seed, _ in rows],
            "status": [str(status.get(loss, Status.DONE)) for _, _, loss in rows],
            "loss": [None if loss in status else loss for _, _, loss in rows],
            **values,
        },
        strict=False,
    )


def lr_of(choice: Choice | None) -> float:
    assert choice is not None
    return choice.lr


def test_the_lowest_last_loss_is_chosen_where_no_measure_is_validated() -> None:
    choice = choose(cells((0.1, 0, 3.0), (0.2, 0, 2.0)), [SHARE])
    assert choice == Choice(0.2, (0,), "loss", {0.1: 3.0, 0.2: 2.0})


def test_a_loss_that_is_no_number_is_the_worst() -> None:
    assert lr_of(choose(cells((0.1, 0, math.nan), (0.2, 0, 9.0)), [])) == 0.2


@pytest.mark.reported(
    "numbers", "", "a comparison with a rate whose validations are `null`", "it is the worst; its cell says: not finite"
)
def test_a_rate_whose_validations_are_null_is_the_worst_and_said_to_be_not_finite(make_folder) -> None:
    folder = make_folder(right=False)
    paths = [
        CellFiles.of(folder, cell).run / "metrics.jsonl"
        for cell in load_plan(folder).cells()
        if (cell.system, cell.lr) == ("s4", 3e-3)
    ]
    for path in paths:
        lines = [{**line, "values": {"loss": None}} for line in read_lines(path)]
        path.write_text("".join(to_json(line) + "\n" for line in lines))
    results = read_results(folder)
    world = results.plan.worlds[0].name
    choice = results.choices[world, "s4"]
    assert (len(paths), choice.lr, choice.scores[3e-3]) == (2, 1e-3, math.inf)
    results.save()
    json.loads((folder / "comparison.json").read_text(), parse_constant=pytest.fail)
    [row] = [row for row in rates_table(results, world).table.rows if row[:2] == ["s4", "0.003"]]
    assert row[3] == "not finite"


@pytest.mark.parametrize(("metric", "good"), [(SHARE, 0.1), (ERROR, 90.0)])
def test_a_validated_measure_that_is_no_number_is_the_worst(metric: Metric, good: float) -> None:
    rows = ((0.1, 0, 1.0), (0.2, 0, 9.0))
    assert lr_of(choose(cells(*rows, **{f"{metric.name}_imagined": [math.nan, good]}), [metric])) == 0.2


def test_a_validated_measure_is_chosen_by_before_the_loss_which_breaks_ties() -> None:
    losses = ((0.1, 0, 9.0), (0.2, 0, 1.0), (0.3, 0, 8.0))
    assert lr_of(choose(cells(*losses[:2], right_imagined=[0.9, 0.8]), [SHARE])) == 0.1
    assert lr_of(choose(cells(*losses, right_imagined=[0.9, 0.8, 0.9]), [SHARE])) == 0.3


def test_a_validated_measure_says_itself_which_way_is_better() -> None:
    losses = ((0.1, 0, 1.0), (0.2, 0, 9.0))
    assert lr_of(choose(cells(*losses, error_imagined=[0.9, 0.8]), [ERROR])) == 0.2


def test_a_measure_that_some_cell_was_not_validated_by_is_not_chosen_by() -> None:
    choice = choose(cells((0.1, 0, 1.0), (0.2, 0, 2.0), right_imagined=[None, 0.8]), [SHARE])
    assert choice is not None
    assert (choice.by, choice.lr) == ("loss", 0.1)


@pytest.mark.parametrize(("measured", "scores"), [(True, {0.1: 0.8, 0.2: 0.7}), (False, {0.1: 3.0, 0.2: 5.0})])
def test_the_mean_over_seeds_counts_and_not_the_best_of_them(measured: bool, scores: dict[float, float]) -> None:
    rows = [(0.2, seed, 1.0 + 4 * seed) for seed in range(3)] + [(0.1, seed, 3.0) for seed in range(3)]
    right = {"right_imagined": [0.9, 0.7, 0.5, 0.8, 0.8, 0.8]} if measured else {}
    choice = choose(cells(*rows, **right), [SHARE])
    assert choice is not None
    assert (choice.lr, choice.scores) == (0.1, pytest.approx(scores))


def test_only_seeds_that_every_rate_has_finished_are_compared() -> None:
    choice = choose(cells((0.1, 0, 3.0), (0.1, 1, 0.1), (0.2, 0, 2.0), (0.2, 1, -1.0)), [])
    assert choice is not None
    assert (choice.lr, choice.seeds) == (0.2, (0,))


def test_rates_without_a_common_seed_are_compared_by_what_there_is() -> None:
    choice = choose(cells((0.1, 0, 3.0), (0.2, 1, 2.0)), [])
    assert choice is not None
    assert (choice.lr, choice.seeds) == (0.2, (0, 1))


@pytest.mark.parametrize("all_failed", [False, True])
def test_a_rate_with_a_failed_cell_is_out_unless_all_have_one(all_failed: bool) -> None:
    rows = [(0.1, 0, 1.0), (0.1, 1, None), (0.2, 0, 2.0), *([(0.2, 1, None)] if all_failed else [])]
    assert lr_of(choose(cells(*rows), [])) == (0.1 if all_failed else 0.2)


def test_nothing_is_chosen_before_a_cell_is_done() -> None:
    assert choose(cells((0.1, 0, -1.0), (0.2, 0, None)), []) is None


def test_the_json_has_every_cell_and_every_choice(make_folder) -> None:
    folder = make_folder(failed=(1,))
    read_results(folder).save()
    values = json.loads((folder / "comparison.json").read_text())
    assert values["complete"]
    assert values["cells_by_status"] == {"waiting": 0, "unfinished": 0, "done": 7, "failed": 1}
    assert [cell["status"] for cell in values["cells"]].count("failed") == 1
    assert values["measures"]["right"] == {"title": "answers <right>", "unit": "share", "better": "higher"}
    s4, gru = values["systems"]
    assert (s4["choice"]["lr"], s4["test"]["right"]["imagined"]["mean"]) == (0.003, 0.9)
    assert (s4["choice"]["by"], s4["costs"]["steps"]) == ("right_imagined", 20.0)
    assert gru["choice"]["lr"] == 0.003  # the other rate has a failed cell
    first, second = values["cells"][:2]
    assert first["name"] == "distracting_memory_8_tile4-s4-lr0.001-seed0"
    assert first["validations"][2] == {"step": 20, "minutes": 1.0, "name": "loss", "value": 8.98}
    right = first["test"]["right"]["imagined"]
    assert (right["mean"], right["episodes"]) == (0.9, 20)
    assert (right["low"], right["high"]) == pytest.approx((0.699, 0.972), abs=1e-3)
    assert first["curves"]["error"]["imagined"] == [2.0, 3.0]
    assert second["curves"] == second["test"] == {}


def test_the_best_of_a_world_is_the_best_of_what_is_chosen(make_folder) -> None:
    means = read_results(make_folder()).means
    imagined = means.filter("chosen", predictor="imagined")
    best = {(row["system"], row["metric"]): row["best"] for row in imagined.iter_rows(named=True)}
    assert best == {("s4", "right"): True, ("gru", "right"): False, ("s4", "error"): True, ("gru", "error"): False}
    assert not means.filter(predictor="")["best"].any()  # costs are not ranked


def test_a_world_with_one_system_has_no_best(make_folder) -> None:
    folder = make_folder(ended=1)
    assert not read_results(folder).means["best"].any()


def test_records_of_another_checkpoint_are_refused(make_folder, rewrite_records) -> None:
    folder = make_folder()
    run = next(folder.glob("cells/*s4*/evaluation.json")).parent
    rewrite_records(run, checkpoint="step-00000010")
    message = r"are of checkpoint step-00000010, .* the last one, step-00000020.*wmkit evaluate .* --checkpoint last"
    with pytest.raises(ValueError, match=message):
        read_results(folder)


@pytest.mark.parametrize(
    ("group", "key", "message"),
    [
        ("eval", "context", "of context 15, its config says 30"),
        ("eval", "horizon", "of horizon 2, its config says 30"),
        ("eval", "episodes", "of episodes 20, its config says 30"),
        (None, "seed", "of evaluation seed 7, its config says 30"),
    ],
)
def test_records_of_another_test_than_the_config_says_are_refused(
    make_folder, rewrite_records, group: str | None, key: str, message: str
) -> None:
    folder = make_folder(ended=1)
    [path] = folder.glob("cells/*.json")
    config = json.loads(path.read_text())
    (config[group] if group else config)[key] = 30
    path.write_text(json.dumps(config))
    if key == "seed":
        rewrite_records(path.with_suffix(""), evaluation_seed=7)
    with pytest.raises(ValueError, match=rf"{message}.*wmkit evaluate .* --checkpoint last"):
        read_results(folder)


@pytest.mark.parametrize("missing", [("records.parquet",), ("records.parquet", "evaluation.json")])
def test_cells_evaluated_by_an_older_wmkit_are_refused_with_the_command_that_mends_it(make_folder, missing) -> None:
    folder = make_folder()
    run = next(folder.glob("cells/*gru*/evaluation.json")).parent
    for name in missing:
        (run / name).unlink()
    with pytest.raises(ValueError, match=r"wmkit evaluate .*gru-lr0.00.-seed. --checkpoint last") as caught:
        read_results(folder)
    assert ("older wmkit" in str(caught.value)) == (len(missing) == 1)
