import pytest

from wmkit import registry


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
