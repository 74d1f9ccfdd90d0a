"""Where the guardrails documents of stages are, for the deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from handlers.operate import guardrails_document
from handlers.operate.errors import OperateError
from infra.deploy.build import ROOT
from infra.deploy.stack import DeployError

if TYPE_CHECKING:
    import pathlib
    from datetime import datetime

FOLDER: Final = ROOT / "infra" / "guardrails"


def load(path: pathlib.Path, at: datetime) -> guardrails_document.Loaded:
    """Read a document; raise DeployError with all of its mistakes, or if there is no such file.

    `at` decides which exceptions have ended.
    """
    try:
        return guardrails_document.load(path, at)
    except OperateError as error:
        raise DeployError(str(error)) from error
