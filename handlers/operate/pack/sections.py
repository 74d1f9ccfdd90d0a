"""What a report says, in the order in which an auditor reads it. The population, which is long, comes last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from handlers.operate.pack.of_events import actions, changes, exceptions, failures, rehearsals
from handlers.operate.pack.of_members import coverage, joins, members
from handlers.operate.pack.of_records import configuration, controls, integrity, unproven

if TYPE_CHECKING:
    from collections.abc import Callable

    from handlers.operate.pack.report import Section
    from schemas.pack import Pack

_SECTIONS: Final[tuple[Callable[[Pack], Section], ...]] = (
    joins,
    coverage,
    exceptions,
    failures,
    actions,
    changes,
    rehearsals,
    configuration,
    integrity,
    unproven,
    controls,
    members,
)


def sections(pack: Pack) -> tuple[Section, ...]:
    """Return the sections of a report."""
    return tuple(of(pack) for of in _SECTIONS)
