"""What benchmarks check before they time it, and refuse to time; `benchmarks/gpu.py` too, tried on a CPU."""

import dataclasses
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import clockwork, gpu, training
from benchmarks.kernels import __main__ as kernels
from benchmarks.kernels import clock, curves, ops, peer
from wmkit import build_world_model
from wmkit.dynamics import ClockworkConfig

ROOT = Path(__file__).parents[1]

ALONE = """
import sys
from benchmarks import gpu

sys.argv = ["gpu", "--interpret"]
try:
    gpu.main()
finally:
    heavy = {"hydra", "zarr", "gymnasium", "minigrid"} & set(sys.modules)
    assert not heavy, heavy
"""


@pytest.mark.early
def test_every_kernel_is_checked_and_the_table_comes_last():
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("op "))
    rows = {line.split()[0]: line for line in lines[header + 1 :] if "S4 block" not in line}
    assert all(rows.pop(f"{preset},").count(" ms") == 3 for preset in gpu.MODELS)
    assert set(rows) == {"dplr_kernel", "dplr_scan", "vandermonde", "diagonal_scan"}
    assert all(row.endswith("right") for row in rows.values())


def test_a_wrong_op_gets_no_times_and_fails_the_run(monkeypatch, capsys):
    (right,) = (case for case in gpu.CASES if case.name == "vandermonde")
    wrong = dataclasses.replace(
        right, run=lambda xs, length, backend: (1.001 if backend == "triton" else 1) * right.run(xs, length, backend)
    )
    monkeypatch.setattr(gpu, "CASES", (wrong,))
    monkeypatch.setattr(sys, "argv", ["gpu", "--interpret"])
    with pytest.raises(SystemExit, match="1"):
        gpu.main()
    (row,) = {line for line in capsys.readouterr().out.splitlines() if line.startswith("vandermonde")}
    assert "NOT RIGHT" in row
    assert "output 0 is off by 1.0e-03" in row
    assert row.count("nan") == 6


def test_the_command_says_how_to_get_the_peer_and_keeps_what_it_measured(tmp_path, monkeypatch, capsys):
    """It starts itself as `python -m benchmarks.kernels` for every part."""
    command = ["kernels", "--quick", "--threads", "1", "--only", "peer", "ops", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.delenv(peer.VARIABLE, raising=False)
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match="0"):
        kernels.main()
    assert "git clone https://github.com/state-spaces/s4" in capsys.readouterr().out
    kept = json.loads((tmp_path / "measurements.json").read_text())
    rows = {row["name"]: row for row in kept["ops"]["rows"]}
    assert set(rows) == {"dplr_kernel", "dplr_scan", "vandermonde", "diagonal_scan", "fft_conv"}
    assert all(row["verdict"] == "right" and row["ms"] > 0 and row["mib"] > 0 for row in rows.values())


def test_an_op_that_is_wrong_or_has_no_time_left_is_not_timed(monkeypatch):
    (right,) = (case for case in ops.CASES if case.name == "fft_conv")
    wrong = dataclasses.replace(right, run=lambda xs, length, backend: 1.001 * right.run(xs, length, backend))
    machine = clock.Machine("none", 1, "", bandwidth=1e9, rate=1e9, double_rate=1e9)
    monkeypatch.setattr(ops, "CASES", (wrong,))
    (row,) = ops.rows(ops.QUICK, machine, end=time.monotonic() + 60)
    assert set(row) == {"name", "verdict"}
    assert "output 0 is off by 1.0e-03" in row["verdict"]
    (row,) = ops.rows(ops.QUICK, machine, end=time.monotonic() - 1)
    assert row == {"name": "fft_conv", "verdict": "left out: no time"}


@pytest.mark.parametrize(("difference", "timed"), [(1e-5, True), (0.1, False), (float("nan"), False)])
def test_a_contest_is_timed_only_where_both_give_the_same(difference, timed):
    contest = peer.Contest("nothing", lambda: None, lambda: None, lambda: difference, bar=1e-9)
    row = peer.measured(contest, judged=True)
    assert ("ratio" in row) == timed
    assert row["verdict"] == "met" if timed else row["verdict"].startswith("NOT THE SAME")


def test_exponents_are_slopes_of_logarithms():
    points = [{"value": n, "ms": 3e-4 * n**1.2, "mib": 5.0 * n} for n in (64, 256, 1024, 4096)]
    assert curves.exponents(points, "H") == pytest.approx({"ms": 1.2, "mib": 1.0})
    assert curves.exponents(points[:2], "T") == {}


def test_a_training_step_is_taken_apart(capsys):
    training.main(["--quick", "--threads", "1", "--systems", "gru", "s4"])
    printed = capsys.readouterr().out
    for system in ("gru", "s4"):
        (row,) = (line for line in printed.splitlines() if line.split()[:1] == [system])
        shares = [
            int(share) for share in re.findall(r"= (-?\d+)%", row)
        ]  # encoder, dynamics, decoder, optimiser, other
        assert len(shares) == 5
        assert all(share > 0 for share in shares[:4])
        assert 97 <= sum(shares) <= 103


def test_the_clockwork_is_checked_timed_and_taken_apart(capsys):
    clockwork.main(["--quick"])
    printed = capsys.readouterr().out
    assert re.search(r"^loop / ours, both passes: [\d.]+ wall, [\d.]+ CPU$", printed, re.MULTILINE)
    launches = {line.split()[0]: int(line.split()[-1].replace(",", "")) for line in printed.splitlines()[3:5]}
    assert launches["ours"] < 0.75 * launches["loop"]
    for part in (
        "whole step",
        "recurrent part",
        "encoder",
        "level MLPs",
        "decoder and image loss",
        "optimiser",
        "rest",
    ):
        assert re.search(rf"^{part}.*%$", printed, re.MULTILINE)


def test_a_clockwork_with_other_weights_than_its_loops_gets_no_times():
    config = ClockworkConfig(core_size="tiny", levels=2, factor=2, level_units=8)
    model = build_world_model(config, "tiny", (1, 16, 16), 0, latent="gaussian")
    recurrent = clockwork.Recurrent(model, 2, 5, torch.float64)
    clockwork.check(recurrent)
    with torch.no_grad():
        recurrent.loop.cells[1].prior.mean.bias.add_(1e-6)
    with pytest.raises(SystemExit, match="the recurrent part is off by"):
        clockwork.check(recurrent)
