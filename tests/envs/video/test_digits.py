"""Pictures of digits: from scikit-learn, or from idx files as MNIST is published in."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from wmkit_envs.video import digits
from wmkit_envs.video.digits import MNIST, SKLEARN, load_digits


def write_idx(path: Path, array: np.ndarray) -> None:
    head = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    data = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torchvision root: 8 training pictures (the last two held out), 3 test pictures, every pixel its number."""
    monkeypatch.setattr(digits, "_MNIST_SPLITS", {"train": slice(0, 6), "valid": slice(6, 8), "test": slice(0, 3)})
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count, end, first in (("train", 8, "", 0), ("t10k", 3, ".gz", 100)):
        number = first + np.arange(count)
        write_idx(folder / f"{part}-images-idx3-ubyte{end}", np.broadcast_to(number[:, None, None], (count, 28, 28)))
        write_idx(folder / f"{part}-labels-idx1-ubyte{end}", number % 10)
    return tmp_path


@pytest.mark.parametrize(("split", "first", "count"), [("train", 0, 6), ("valid", 6, 2), ("test", 100, 3)])
@pytest.mark.parametrize("side", [28, 14])
def test_idx_files_are_read_plain_or_compressed_wherever_torchvision_puts_them(root, split, first, count, side):
    for folder in (root, root / "MNIST", root / "MNIST" / "raw"):
        found = load_digits(str(folder), split, side)
        assert found.image.shape == (count, side, side)
        assert found.source == MNIST
        np.testing.assert_array_equal(found.image[:, 0, 0], first + np.arange(count))
        np.testing.assert_array_equal(found.label, (first + np.arange(count)) % 10)


def test_the_environment_variable_names_the_folder(root, monkeypatch):
    assert load_digits(None, "test", 28).source == SKLEARN
    monkeypatch.setenv(digits.VARIABLE, str(root))
    assert load_digits(None, "test", 28).source == MNIST


def test_a_folder_without_the_files_and_a_damaged_file_are_named(root):
    with pytest.raises(
        ValueError, match=r"no train-images-idx3-ubyte or train-images-idx3-ubyte\.gz.*unset WMKIT_MNIST"
    ):
        load_digits(str(root / "nothing"), "train", 28)
    path = root / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not an idx file of bytes with 1 axes, or cut off"):
        load_digits(str(root), "train", 28)
    packed = root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    for damaged in (b"no gzip", packed.read_bytes()[:10] + b"\xff" * 20):
        packed.write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot be read"):
            load_digits(str(root), "test", 28)


def test_labels_that_do_not_belong_to_the_pictures_are_refused(root):
    write_idx(root / "MNIST" / "raw" / "train-labels-idx1-ubyte", np.zeros(7))
    with pytest.raises(ValueError, match="train has 7 labels"):
        load_digits(str(root), "train", 28)


def test_scikit_learns_digits_are_split_by_index_and_keep_their_shape():
    from sklearn import datasets

    original = datasets.load_digits()
    begin = 0
    for split, count in (("train", 1350), ("valid", 150), ("test", 297)):
        found = load_digits(None, split, 28)
        assert found.image.shape == (count, 28, 28)
        np.testing.assert_array_equal(found.label, original.target[begin : begin + count])
        assert not found.image[:, :4].any()
        shrunk = found.image[:, 4:24, 4:24].reshape(count, 4, 5, 4, 5).mean((2, 4))
        small = original.images[begin : begin + count].reshape(count, 4, 2, 4, 2).mean((2, 4)) * 255 / 16
        assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.98
        begin += count


def test_half_as_large_is_the_mean_of_four_pixels():
    large, small = (load_digits(None, "test", side).image.astype(float) for side in (28, 14))
    np.testing.assert_allclose(small, large.reshape(-1, 14, 2, 14, 2).mean((2, 4)), atol=1.0)


def test_without_scikit_learn_its_digits_are_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    digits._load.cache_clear()
    digits._from_sklearn.cache_clear()
    with pytest.raises(ValueError, match=r"pip install 'wmkit\[digits\]' .* world.mnist= or WMKIT_MNIST"):
        digits.load_digits(None, "train", 28)
