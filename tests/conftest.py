"""Shared by all tests: hypothesis profiles, seeds, thread counts."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Before anything imports Triton, whose own library looks at it on import: tests ask for kernels on CPU tensors.
os.environ["TRITON_INTERPRET"] = "1"

import pytest
import torch
from hypothesis import settings

settings.register_profile("short", deadline=None, derandomize=True, max_examples=25)
settings.register_profile("long", deadline=None, derandomize=True, max_examples=200)
settings.load_profile(PROFILE := os.environ.get("HYPOTHESIS_PROFILE", "short"))

# The models of the tests are tiny: a second thread costs more in hand-overs than it computes, and one is repeatable.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `long` run in `make test-long` alone, those marked `early` first: no process ends with one alone."""
    later = [item for item in items if PROFILE == "short" and item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=later)
    items[:] = [item for item in items if item not in later]
    items.sort(key=lambda item: item.get_closest_marker("early") is None)


@pytest.fixture
def without_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations draw no figures: these take half of a tiny run, and tests/evaluation/plots has them."""
    for name in ("draw_strip", "draw_curves"):
        monkeypatch.setattr(f"wmkit.evaluation.plots.figures.{name}", lambda *_: None)


@pytest.fixture
def cells_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of a comparison start no process of their own: tests/comparison/test_runner.py has those that do."""
    from wmkit.comparison import CellFiles, worker
    from wmkit.files import write_json

    def run(folder: Path, configs: Mapping[Any, Any], *, after_each: Callable[[], object], **_: object) -> None:
        for cell, config in configs.items():
            files = CellFiles.of(folder, cell)
            files.run.parent.mkdir(parents=True, exist_ok=True)
            write_json(files.config, config.to_dict())
            assert worker.main(files.config) == 0
            after_each()

    monkeypatch.setattr("wmkit.comparison.command.run_cells", run)
