"""The page: what it says of whole and partial comparisons, and that it needs nothing beside it."""

import dataclasses
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from wmkit.cli import __main__ as cli
from wmkit.comparison.plan import load_plan
from wmkit.comparison.report import write_report
from wmkit.comparison.result import DOOR_MAJORITY, FIRST_MAP
from wmkit.comparison.summary import read_summary

MakeFolder = Callable[..., Path]
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


def test_the_page_needs_no_other_file_no_network_and_no_script(make_folder: MakeFolder) -> None:
    page = Page(write_report(make_folder()))
    references = [
        value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")
    ]
    assert references
    assert all(str(value).startswith("data:") for value in references)
    assert "script" not in {tag for tag, _ in page.elements}
    for outside in ("url(", "@import", "http:", "https:"):
        assert outside not in page.source
    assert not page.open


def test_the_page_can_be_read_aloud(make_folder: MakeFolder) -> None:
    page = Page(write_report(make_folder()))
    tags = [tag for tag, _ in page.elements]
    assert ("html", {"lang": "en"}) in page.elements
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in page.elements if tag == "svg")
    assert tags.count("table") == tags.count("caption") > 3
    assert all(attributes.get("scope") for tag, attributes in page.elements if tag == "th")


def test_figures_of_the_chosen_rate_are_shown_with_their_range(make_folder: MakeFolder) -> None:
    page = Page(write_report(make_folder()))
    for text in (
        "90.0 %",
        "50.0 %",
        "0.003chosen",
        "51.0 %",
        "1.50 M",
        "512 MiB",
        "1.0 min",
        "2 of 2",
        "on Some CPU, 2 cores",
    ):
        assert text in page.text
    assert "not complete" not in page.text
    assert "gru on distracting_memory_8_tile4, lr 0.001, seed 1: 1" in page.text  # steps that were skipped


def test_the_best_mean_of_each_figure_is_bold_and_no_cost_is(make_folder: MakeFolder) -> None:
    source = Page(write_report(make_folder())).source
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", source)
    bold = {
        system: [
            text for row in rows if f"</span>{system}<" in row for text in re.findall(r'class="best">([^<]+)', row)
        ]
        for system in ("s4", "gru")
    }
    # imagination, inference, generation error, reconstruction error, in which they are as good as each other
    assert bold == {"s4": ["90.0 %", "90.0 %", "2.5", "1.5"], "gru": ["1.5"]}


def test_own_rates_are_named_and_the_workers_command_is_not(make_folder: MakeFolder) -> None:
    folder = make_folder()
    plan = load_plan(folder)
    s4, gru = plan.systems
    dataclasses.replace(plan, systems=(s4, dataclasses.replace(gru, lr=3e-3))).save(folder)
    start = {"torch": "2", "command": ["somewhere/worker.py", "cell.json"]}
    for path in folder.glob("cells/*/versions.json"):
        path.write_text(json.dumps({"starts": [start]}))
    page = Page(write_report(folder))
    assert "every system at 2 learning rates or a learning rate of its own (gru 0.003) x 2 seeds" in page.text
    assert "backbone=gru plugins=[a<b] train.lr=0.003" in page.text
    assert '"torch": "2"' in page.text
    assert "worker.py" not in page.text


def test_every_machine_is_named_and_several_are_warned_of(make_folder: MakeFolder) -> None:
    folder = make_folder()
    assert "Several machines" not in Page(write_report(folder)).text
    path = sorted(folder.glob("cells/*/versions.json"))[-1]
    starts = json.loads(path.read_text())["starts"]
    path.write_text(json.dumps({"starts": [{"torch": "2", "processor": "Another CPU"}, *starts]}))  # and went on
    text = Page(write_report(folder)).text
    assert "one process each, on Some CPU, 2 cores and on Another CPU. Several machines" in text


def test_a_system_whose_runs_were_not_equally_fast_is_named(make_folder: MakeFolder) -> None:
    folder = make_folder()
    assert "Not alike" not in Page(write_report(folder)).text
    finished = next(folder.glob("cells/*gru-lr0.001-seed1/finished.json"))
    finished.write_text(json.dumps({"step": 26, "seconds": 60.0, "skipped": 0}))
    assert "Not alike: gru took 20 to 26 steps a minute." in Page(write_report(folder)).text


def test_what_comes_from_outside_is_escaped(make_folder: MakeFolder) -> None:
    page = Page(write_report(make_folder(failed=(0,))))
    assert "'a<b>'" in page.text
    assert "No finite gradient <in> 10 steps" in page.text


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


def test_without_rewards_errors_and_losses_take_their_place(make_folder: MakeFolder) -> None:
    page = Page(write_report(make_folder(rewards=False)))
    assert "generation error on test episodes" in page.text
    assert "validation loss" in page.text
    assert "imagination accuracy" not in page.text


def test_doors_stand_beside_what_is_right_without_a_model(make_folder: MakeFolder) -> None:
    folder = make_folder(rewards=False)
    for path in folder.glob("cells/*/evaluation.json"):
        shares = {"generation": 0.9, FIRST_MAP: 0.37, DOOR_MAJORITY: 0.81}
        tiles = {
            row: {
                kind: {"mean": x, "half_width": 0.02, "curve": [None, x]}
                for kind in ("door, both", "door, open or shut")
            }
            for row, x in shares.items()
        }
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tile_accuracy": tiles}))
    text = Page(write_report(folder)).text
    assert "doors right on test episodes" in text
    assert "64 test episodes for each run; higher is better." in text
    assert "first map, true walk, 37.0 %" in text
    assert "colours given, 81.0 %" in text
    assert "Doors, step by step" in text
    assert "88.0 % – 92.0 %" in text
    [first, *_] = json.loads((folder / "comparison.json").read_text())["cells"]
    assert first["doors_right_interval"] == pytest.approx([0.88, 0.92])
    assert first["doors_rightly_open_or_shut_by_query_step"] == [None, 0.9]


def test_the_json_has_every_cell_and_every_choice(make_folder: MakeFolder) -> None:
    folder = make_folder(failed=(1,))
    read_summary(folder).save()
    values = json.loads((folder / "comparison.json").read_text())
    assert values["complete"]
    assert values["cells_by_status"] == {"waiting": 0, "unfinished": 0, "done": 7, "failed": 1}
    assert [cell["status"] for cell in values["cells"]].count("failed") == 1
    s4, gru = values["systems"]
    assert (s4["choice"]["lr"], s4["test"]["imagination accuracy"]["mean"]) == (0.003, 0.9)
    assert gru["choice"]["lr"] == 0.003  # the other rate has a failed cell
    assert values["cells"][0]["validations"][1]["minutes"] == 1.0
    assert values["cells"][0]["imagination_accuracy_interval"] == [0.4, 0.95]
    assert values["cells"][0]["error_by_query_step"]["generation"] == [2.0, 3.0]
    assert values["cells"][1]["error_by_query_step"] == {}


def test_the_report_verb_makes_it_again_without_training(
    make_folder: MakeFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = make_folder()
    assert cli.main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert cli.main(["report", str(tmp_path / "nothing")]) == 2
    assert "not the folder of a comparison" in capsys.readouterr().err


def test_a_test_of_another_checkpoint_is_refused(make_folder: MakeFolder) -> None:
    folder = make_folder()
    path = next(folder.glob("cells/*s4*/evaluation.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checkpoint": "step-00000020"}))
    read_summary(folder)  # that is the last one
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checkpoint": "step-00000010"}))
    with pytest.raises(ValueError, match=r"is of checkpoint step-00000010, .* the last one, step-00000020"):
        read_summary(folder)
