from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def edits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which the operators' tool keeps edited bodies that were not sent."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "joinguard" / "edits"
