"""Files of weights for the tests of this folder: random ones, registered under names of their own."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wmkit import weights


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, Path], Path]:
    """Register a file under a name, in the stead of what has it, and put it where `WMKIT_WEIGHTS` says."""
    monkeypatch.setattr(weights, "_known", dict(weights._known))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv(weights.VARIABLE, str(folder))

    def register(name: str, file: Path) -> Path:
        content = file.read_bytes()
        place = folder / f"{name}.pt"
        place.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        weights._known.pop(name, None)
        weights.register_weights(weights.Weights(name, place.name, len(content), sha256, "nowhere"))
        return place

    return register
