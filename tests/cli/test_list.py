"""`wmkit list`: what it prints, and with which status it ends."""

import pytest
from torch import nn

from wmkit import BackboneConfig, build_world_model, register_backbone, tree
from wmkit.cli.__main__ import main
from wmkit.registry import all_entries
from wmkit_envs.worlds import FAMILIES


def test_list_names_every_registered_part(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name, entry in all_entries().items():
        row = next(line for line in printed.splitlines() if f" {name} " in line)
        assert entry.kind in row
        assert entry.origin in printed
    gru = next(line for line in printed.splitlines() if " gru " in line)
    assert "1,183,232" in gru
    assert "2,048" in gru
    clockwork = next(line for line in printed.splitlines() if " clockwork " in line)
    dynamics = build_world_model("clockwork", "small").dynamics
    assert f"{sum(p.numel() for p in dynamics.parameters()):,}" in clockwork
    assert f"{sum(leaf.nbytes for leaf in tree.leaves(dynamics.initial_state(1))):,}" in clockwork
    s5 = next(line for line in printed.splitlines() if " s5 " in line)
    assert "4,096" in s5
    assert "no" in gru.split()


def test_list_has_one_row_per_family_of_worlds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert set(FAMILIES) <= {line.split()[0] for line in lines if "image " in line}
    first = next(number for number, line in enumerate(lines) if line.startswith("ray_maze "))
    assert "observations 1,001, context 501" in lines[first]
    assert lines[first + 1].startswith("settings: image_size, renderer, physics, plain, size,")
    assert "also: ray_maze_11x11, ray_maze_13x13, ray_maze_15x15," in lines[first : first + 6]


@pytest.mark.usefixtures("own_registry")
def test_list_names_the_part_that_cannot_be_built(capsys: pytest.CaptureFixture[str]) -> None:
    class OddConfig(BackboneConfig):
        pass

    register_backbone("odd", OddConfig)(nn.Linear)
    assert main(["list"]) == 2
    assert "wmkit list: odd cannot be built by cls(config.input_dim" in capsys.readouterr().err
