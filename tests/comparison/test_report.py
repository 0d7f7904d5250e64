"""The page: what it says of whole and partial comparisons, and that it needs nothing beside it."""

import dataclasses
import io
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from wmkit.cli import __main__ as cli
from wmkit.comparison.plan import Plan, PlannedWorld, System, load_plan
from wmkit.comparison.report import at_common_times, size_curve, tables, write_report
from wmkit.comparison.results import read_results
from wmkit.evaluation.predictors import IMAGINED, INITIAL_MAP, MAJORITY
from wmkit.evaluation.record import Measurements, Metric, frame_of
from wmkit_envs import DistractingMemory

MakeFolder = Callable[..., Path]
WORLDS = tuple(DistractingMemory(width=width, tile=4) for width in (32, 8))
VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """Everything that a test asks about: elements, text, and whether tags are closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = "", list[str]()
        self.source = path.read_text()
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(built_folder: Path) -> Page:
    """Of a comparison in which all is well."""
    return Page(write_report(built_folder))


def test_the_page_needs_no_other_file_no_network_and_no_script(page: Page) -> None:
    references = [
        value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")
    ]
    assert references
    assert all(str(value).startswith("data:") for value in references)
    within = [attributes["xlink:href"] for _, attributes in page.elements if "xlink:href" in attributes]
    assert all(str(value).startswith("#") for value in within)
    assert "script" not in {tag for tag, _ in page.elements}
    for outside in ("url(", "@import", "http:", "https:"):
        assert outside not in page.source
    assert not page.open


def test_no_id_is_there_twice(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_can_be_read_aloud(page: Page) -> None:
    tags = [tag for tag, _ in page.elements]
    assert ("html", {"lang": "en"}) in page.elements
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in page.elements if tag == "svg")
    assert tags.count("table") == tags.count("caption") > 3
    assert all(attributes.get("scope") for tag, attributes in page.elements if tag == "th")


def test_every_colour_that_is_named_is_there_for_light_and_dark(page: Page) -> None:
    defined = re.findall(r"--(\w+):", page.source)
    assert all(defined.count(name) == 2 for name in set(re.findall(r"var\(--(\w+)\)", page.source)))
    assert "prefers-color-scheme: dark" in page.source


def test_values_of_the_chosen_rate_are_shown_beside_what_needs_no_model(page: Page) -> None:
    shown = " ".join(page.text.split())
    for text in (
        "90.0 %",
        "50.0 %",
        "0.003chosen",
        "Without a model: majority 60.0 %. Dashed: the best.",
        "1.50 M",
        "512 MiB",
        "1.0 min",
        "2 of 2",
        "one process each, on Some CPU, 2 cores.",
        "Chosen by validation answers <right>, imagined",
        "mean image",
        "lower is better, on a log scale",
        "69.9 % – 97.2 %",
    ):
        assert text in shown
    assert "not complete" not in page.text
    assert "gru on distracting_memory_8_tile4, lr 0.001, seed 1: 1" in shown  # steps that were skipped


def test_the_best_mean_of_each_measure_is_bold_and_no_cost_is(page: Page) -> None:
    table = page.source.split("<tbody>")[1]
    rows = {re.findall(r'scope="row">(.*?)</th>', row)[0]: row for row in table.split("<tr>")[1:12]}
    bold = {name: re.findall(r'class="best">([^<]*)', row) for name, row in rows.items() if "best" in row}
    assert bold == {
        "answers &lt;right&gt;, imagined": ["90.0 %"],
        "answers &lt;right&gt;, observed": ["90.0 %"],
        "error, imagined": ["2.5"],
        "error, observed": ["1.5", "1.5"],  # in which they are as good as each other
    }


def test_a_range_over_seeds_stands_below_a_mean(make_folder: MakeFolder) -> None:
    folder = make_folder()
    for number, path in enumerate(sorted(folder.glob("cells/*s4*/cell.json"))):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"parameters": 1_000_000 * (1 + number % 2)}))
    assert "1.00 M – 2.00 M" in Page(write_report(folder)).text


def test_own_rates_are_named_and_the_workers_command_is_not(make_folder: MakeFolder) -> None:
    folder = make_folder()
    plan = load_plan(folder)
    s4, gru = plan.systems
    dataclasses.replace(plan, systems=(s4, dataclasses.replace(gru, lr=3e-3))).save(folder)
    start = {"torch": "2", "command": ["somewhere/worker.py", "cell.json"]}
    for path in folder.glob("cells/*/versions.json"):
        path.write_text(json.dumps({"starts": [start]}))
    page = Page(write_report(folder))
    shown = " ".join(page.text.split())
    assert "every system at 2 learning rates or a learning rate of its own (gru 0.003) x 2 seeds" in shown
    assert "backbone=gru plugins=[a<b] train.lr=0.003" in page.text
    assert '"torch": "2"' in page.text
    assert "worker.py" not in page.text


def test_every_machine_is_named_and_several_are_warned_of(make_folder: MakeFolder) -> None:
    folder = make_folder()
    path = sorted(folder.glob("cells/*/versions.json"))[-1]
    starts = json.loads(path.read_text())["starts"]
    path.write_text(json.dumps({"starts": [{"torch": "2", "processor": "Another CPU"}, *starts]}))  # and went on
    text = " ".join(Page(write_report(folder)).text.split())
    assert "one process each, on Some CPU, 2 cores and on Another CPU. Several machines" in text


def test_a_system_whose_runs_were_not_equally_fast_is_named(
    make_folder: MakeFolder, rewrite_records: Callable[..., None], page: Page
) -> None:
    assert "Not alike" not in page.text
    assert "Several machines" not in page.text
    folder = make_folder()
    finished = next(folder.glob("cells/*gru-lr0.001-seed1/finished.json"))
    finished.write_text(json.dumps({"step": 26, "seconds": 60.0, "skipped": 0}))
    rewrite_records(finished.parent, checkpoint="step-00000026")
    assert "Not alike: gru took 20 to 26 steps a minute." in Page(write_report(folder)).text


def test_what_comes_from_outside_is_escaped(make_folder: MakeFolder) -> None:
    page = Page(write_report(make_folder(failed=(0,))))
    assert "'a<b>'" in page.text
    assert "No finite gradient <in> 10 steps" in page.text
    assert "answers <right>, imagined" in page.text
    assert not {"right", "in", "b"} & {tag for tag, _ in page.elements}


def test_a_partial_comparison_says_so_and_shows_what_there_is(make_folder: MakeFolder) -> None:
    page = Page(write_report(make_folder(ended=5, failed=(3,))))
    assert "not complete: 3 of 8 cells are yet to finish" in page.text
    assert "1 of 8 cells failed" in page.text
    assert "90.0 %" in page.text
    assert "1 of 2" in page.text


def test_a_comparison_in_which_nothing_is_done_has_a_page_too(make_folder: MakeFolder) -> None:
    page = Page(write_report(make_folder(ended=0)))
    assert "not complete: 8 of 8" in page.text
    assert "No cell is tested yet" in page.text


def test_cells_that_are_done_but_measured_nothing_have_a_page(make_folder: MakeFolder) -> None:
    folder = make_folder()
    for run in folder.glob("cells/*/"):
        found = Measurements.load(run)
        dataclasses.replace(found, frame=found.frame.clear()).save(run)
    assert "No cell is tested yet" in Page(write_report(folder)).text


def test_without_a_headline_the_first_measure_and_the_loss_take_its_place(make_folder: MakeFolder) -> None:
    page = Page(write_report(make_folder(right=False)))
    assert "error, imagined, on test episodes" in page.text
    assert "validation loss" in page.text
    assert "Losses of systems that read windows of other lengths do not compare." in page.text
    assert "answers" not in page.text


def test_a_measure_of_a_plugin_is_shown_without_being_known(make_folder: MakeFolder) -> None:
    """A headline with several baselines, measured at some steps only, of which nothing but the records is there."""
    folder = make_folder(right=False)
    metric = Metric("hats", "share", "higher", label="hats", headline=True, caption="Hats in view.")
    for run in folder.glob("cells/*/"):
        found = Measurements.load(run)
        shares = {IMAGINED: 0.9, INITIAL_MAP: 0.37, MAJORITY: 0.81}
        counts = np.tile([False, True], (20, 1))
        frames = [frame_of("hats", name, np.full((20, 2), share), 1, counts) for name, share in shares.items()]
        metrics = {**found.metrics, "hats": metric}
        dataclasses.replace(found, frame=pl.concat([found.frame, *frames]), metrics=metrics).save(run)
    text = " ".join(Page(write_report(folder)).text.split())
    assert "hats, imagined, on test episodes" in text
    assert "20 test episodes for each run; higher is better." in text
    assert "Without a model: majority 81.0 %, initial map 37.0 %. Dashed: the best of these." in text
    assert "hats against steps after the context" in text
    assert "baselines that need no model are dashed. Hats in view." in text
    [first, *_] = json.loads((folder / "comparison.json").read_text())["cells"]
    assert first["test"]["hats"]["imagined"]["low"] == pytest.approx(0.9)
    assert first["curves"]["hats"]["imagined"] == [None, 0.9]


def test_many_systems_go_below_each_other_in_a_terminal_and_none_is_cut(tmp_path: Path) -> None:
    labels = ["s4", "s4_cosine", "gru", "gru_tbtt", "lru", "a_system_with_a_long_name"]
    systems = tuple(System(label, ("backbone=gru",)) for label in labels)
    world = PlannedWorld("a_world", ())
    Plan(systems=systems, worlds=(world,), seeds=(0,), lrs=(1e-3,), minutes=1.0, steps=None).save(tmp_path)
    text = io.StringIO()
    found = tables(read_results(tmp_path), "a_world", 80)
    Console(file=text, width=80).print(*(table.rich() for table in found))
    printed = text.getvalue()
    assert all(label in printed.split() for label in labels)
    assert "…" not in printed
    assert printed.count("learning rate") == 2
    assert max(map(len, printed.splitlines())) <= 80


def test_values_stay_whole_where_a_terminal_is_narrow(make_folder: MakeFolder) -> None:
    folder = make_folder()
    for number, path in enumerate(sorted(folder.glob("cells/*/cell.json"))):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"parameters": 100_000_000 * (1 + number % 2)}))
    for width, count in ((80, 1), (36, 2)):
        text = io.StringIO()
        found = tables(read_results(folder), "distracting_memory_8_tile4", width)
        Console(file=text, width=width).print(*(table.rich() for table in found))
        assert len(found) == count
        assert text.getvalue().count("100.00 M –") == text.getvalue().count("200.00 M") == 2
        assert text.getvalue().count("150.00 M") == 2
        assert max(map(len, text.getvalue().splitlines())) <= width


def test_the_headline_is_drawn_against_the_one_setting_in_which_worlds_differ(make_folder: MakeFolder) -> None:
    drawn = size_curve(read_results(make_folder(worlds=WORLDS, ended=16)))
    assert "answers &lt;right&gt;, imagined against width" in drawn
    assert all(f"var(--{name})" in drawn for name in ("s0", "s1", "soft"))
    assert {"8", "32", "majority"} <= set(re.findall(r">([^<>]+)</text>", drawn))
    assert "20" not in re.findall(r">([^<>]+)</text>", drawn)  # the sizes that were run, no round numbers between


@pytest.mark.parametrize("options", [{}, {"worlds": WORLDS, "ended": 1}])
def test_nothing_is_drawn_across_sizes_of_one_world_or_before_every_size_is_tested(
    make_folder: MakeFolder, options: dict[str, object]
) -> None:
    assert size_curve(read_results(make_folder(**options))) == ""


def test_training_curves_begin_where_every_seed_has_been_validated() -> None:
    seeds = [(np.array([1.0, 3.0]), np.array([9.0, 5.0])), (np.array([2.0, 4.0]), np.array([8.0, 4.0]))]
    times, mean, low, high = at_common_times(seeds)
    assert (times, mean) == ([2.0, 3.0, 4.0], [7.5, 5.5, 4.5])  # the shorter one's last value is held to the end
    assert (low, high) == ([7.0, 5.0, 4.0], [8.0, 6.0, 5.0])


@pytest.mark.reported(
    "names",
    "ray-project/ray#15367",
    "`wmkit report` of a comparison in a folder of any name",
    "its page is made again there",
)
def test_the_report_verb_prints_the_tables_and_makes_the_page_again_without_training(
    make_folder: MakeFolder, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path = tmp_path_factory.mktemp("other")
    folder = Path(shutil.copytree(make_folder(ended=1), tmp_path / "mÿ [9x9]* #1 %d $x$ 日本"))
    assert cli.main(["report", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "answers <right>, imagined" in printed
    assert printed.splitlines()[-1] == str(folder / "report.html")
    assert cli.main(["report", str(tmp_path / "nothing")]) == 2
    assert "does not exist; expected run folders" in capsys.readouterr().err
