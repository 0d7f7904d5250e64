import pytest
import torch

from wmkit_kernels.common.dispatch import use_triton, why_not_here


@pytest.mark.parametrize(
    ("backend", "why_not", "interpreted", "expected"),
    [
        ("auto", None, "0", True),
        ("auto", None, "1", False),
        ("auto", "no GPU", "0", False),
        ("torch", None, "0", False),
        ("triton", None, "1", True),
    ],
)
def test_triton_runs_where_it_can_and_its_interpreter_where_it_is_named(
    backend, why_not, interpreted, expected, monkeypatch
):
    monkeypatch.setenv("TRITON_INTERPRET", interpreted)
    assert use_triton(backend, why_not) is expected


def test_asking_for_triton_where_it_cannot_run_raises_with_the_reason():
    with pytest.raises(ValueError, match="cannot run here: no GPU"):
        use_triton("triton", "no GPU")
    with pytest.raises(ValueError, match="auto, torch, triton"):
        use_triton("cuda", None)


def test_the_reason_names_what_is_in_the_way(monkeypatch):
    x = torch.zeros(2)
    assert why_not_here(x, None) is None
    assert "double" in (why_not_here(x, x.to(torch.complex128)) or "")
    assert why_not_here(torch.zeros(2, dtype=torch.int64)) is None
    assert "cpu, meta" in (why_not_here(x, x.to("meta")) or "").replace("'", "")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert "tensors on cpu" in (why_not_here(x) or "")
    monkeypatch.setattr("wmkit_kernels.common.dispatch.INSTALLED", False)
    assert "not installed" in (why_not_here(x) or "")
