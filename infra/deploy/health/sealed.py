"""Check the sealed log: when its last checkpoint was signed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from handlers.operate.tables import duration
from infra.deploy.health.check import Check
from schemas.keys import CHECKPOINTS, log_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.deploy.health.deployed import Deployed

#: As the alarm NotSealed.
_TOO_OLD: Final = timedelta(hours=1)
_RUNBOOK: Final = "handlers/operate/RUNBOOK.md#not-sealed"


def last(s3: Any, stack: Deployed, name: str, now: datetime | None = None) -> Iterator[Check]:
    """Say when the last checkpoint was written to the bucket with this name."""
    prefix: str = CHECKPOINTS
    # A thousand of them are under a prefix, and so on: at most one page each.
    while page := s3.list_objects_v2(Bucket=stack.id(name), Prefix=prefix, Delimiter="/"):
        if folders := page.get("CommonPrefixes"):
            prefix = folders[-1]["Prefix"]
            continue
        newest = page["Contents"][-1] if page.get("Contents") else None
        yield _check(newest, now or datetime.now(UTC))
        return


def _check(newest: Any, now: datetime) -> Check:
    if newest is None:
        found = "no checkpoint was signed yet; the first one is signed minutes after a deployment"
        return Check("sealed log", found, "wrong", _RUNBOOK, always_shown=True)
    age = now - newest["LastModified"]
    found = f"checkpoint {log_number(newest['Key'])} was signed {duration(age)} ago"
    is_old = age > _TOO_OLD
    return Check("sealed log", found, "wrong" if is_old else "ok", _RUNBOOK if is_old else "", always_shown=True)
