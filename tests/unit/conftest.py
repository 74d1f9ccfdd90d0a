from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def drawer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the operator's tool keeps bodies that were not sent."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "joinguard" / "edits"
