"""Published weights: where they are looked for, and that nothing is loaded that is not the registered file."""

import dataclasses
import hashlib

import pytest
import torch

from wmkit import weights
from wmkit.weights import VARIABLE, Weights, all_weights, find_weights, missing_weights, open_weights, register_weights

CONTENT = b"some weights"


@pytest.fixture
def entry(monkeypatch, tmp_path):
    """A registered file that is nowhere yet; the folder of torch.hub is empty."""
    monkeypatch.setattr(weights, "_known", dict(weights._known))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    entry = Weights("mine", "mine.pth", len(CONTENT), sha256, "https://example.org/mine.pth")
    register_weights(entry)
    return entry


def test_a_missing_file_is_named_with_size_hash_source_and_place(entry):
    assert find_weights("mine") is None
    with pytest.raises(ValueError, match="downloads nothing") as caught, open_weights("mine"):
        pass
    for part in (entry.file, "12 bytes", entry.sha256, entry.published, VARIABLE):
        assert part in str(caught.value)


def test_files_that_are_missing_are_told_together(entry):
    register_weights(dataclasses.replace(entry, name="other", file="other.pth"))
    assert "mine.pth" in missing_weights("mine", "other")
    assert "; other.pth" in missing_weights("mine", "other")


@pytest.mark.parametrize("place", ["variable", "hub", "path", "folder"])
def test_a_file_is_found_and_opened_at_its_beginning(entry, tmp_path, monkeypatch, place):
    folder = tmp_path / ("hub/checkpoints" if place == "hub" else "mine")
    folder.mkdir(parents=True)
    (folder / "mine.pth").write_bytes(CONTENT)
    if place == "variable":
        monkeypatch.setenv(VARIABLE, str(folder))
    path = {"path": folder / "mine.pth", "folder": folder}.get(place)
    with open_weights("mine", path) as file:
        assert file.read() == CONTENT
    assert bool(missing_weights("mine")) == (path is not None)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"some weighty", "its SHA-256 is .*another file or damaged"), (b"some", "4 bytes.*cut off")],
)
def test_another_file_is_refused_and_both_are_named(entry, tmp_path, content, message):
    (tmp_path / "mine.pth").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught, open_weights("mine", tmp_path):
        pass
    assert str(tmp_path / "mine.pth") in str(caught.value)
    assert entry.sha256 in str(caught.value)


def test_a_package_that_brings_a_file_is_looked_into(entry, tmp_path, monkeypatch):
    package = tmp_path / "bringer"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "data" / "any.pth").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    brought = (("no_such_package", "x"), ("bringer", "data/any.pth"))
    register_weights(dataclasses.replace(entry, name="brought", brought_by=brought))
    assert find_weights("brought") == package / "data" / "any.pth"


def test_a_path_and_a_variable_that_lead_nowhere_are_said(entry, tmp_path, monkeypatch):
    with (
        pytest.raises(ValueError, match=r"no such file\. Expected mine\.pth"),
        open_weights("mine", tmp_path / "x.pth"),
    ):
        pass
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=f"{VARIABLE}: expected a folder"):
        find_weights("mine")


def test_names_hashes_and_files_are_checked(entry):
    with pytest.raises(ValueError, match=r"Unknown weights 'vgg'. Did you mean 'vgg16'\?"):
        find_weights("vgg")
    with pytest.raises(ValueError, match="'mine' are already registered"):
        register_weights(dataclasses.replace(entry, size=3))
    register_weights(entry)
    with pytest.raises(ValueError, match="sha256: expected 64 digits"):
        dataclasses.replace(entry, sha256="7be5be79")
    with pytest.raises(ValueError, match="a file name without folders"):
        dataclasses.replace(entry, file="../mine.pth")


def test_names_of_torchvisions_files_end_in_the_beginning_of_their_hash():
    of_torchvision = [one for one in all_weights().values() if "download.pytorch.org" in one.published]
    assert len(of_torchvision) == 3
    for one in of_torchvision:
        assert one.sha256.startswith(one.file.removesuffix(".pth").rpartition("-")[2])
