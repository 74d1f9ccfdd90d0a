"""Options that several commands share."""

import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, Final

import click

from handlers.core.redaction import redact_words
from handlers.core.redrive.selection import Filter

_AGE: Final = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
#: Letters a second; the upper bound is SQS's own, for its move.
_SLOWEST: Final = 0.01
_FASTEST: Final = 500
#: Evidence holds that much.
_LONGEST_REASON: Final = 1000


class Age(click.ParamType[timedelta]):
    """A length of time such as 90s, 15m, 6h, 3d."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        found = _AGE.fullmatch(str(value))
        if not found:
            self.fail(f"{value!r} is no length of time; say 90s, 15m, 6h or 3d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


class Rate(click.ParamType[float]):
    """Letters a second; 0 for no limit."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        try:
            rate = float(value)
        except ValueError:
            rate = -1
        # Written so that NaN is refused too.
        if not (rate == 0 or _SLOWEST <= rate <= _FASTEST):
            self.fail(f"{value!r} is no rate; say 0, or {_SLOWEST} to {_FASTEST} letters a second", param, ctx)
        return rate


class AccountIdType(click.ParamType[str]):
    """Twelve digits."""

    name = "account"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read it."""
        if not re.fullmatch("[0-9]{12}", str(value)):
            self.fail(f"{value!r} is no account id; it has twelve digits", param, ctx)
        return str(value)


def on_workbench(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the workbench."""

    @click.pass_context
    @wraps(command)
    def with_bench(ctx: click.Context, /, **options: Any) -> None:
        command(ctx.obj(), **options)

    return with_bench


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose letters, as one Filter."""

    @click.option("--code", "codes", multiple=True, help="Only this reason. May be repeated, as all of these.")
    @click.option("--account", "accounts", multiple=True, type=AccountIdType(), help="Only this account.")
    @click.option("--policy", "policies", multiple=True, help="Only where the reason names this policy.")
    @click.option("--event", "events", multiple=True, help="Only this event: its id, or its name.")
    @click.option("--id", "ids", multiple=True, help="Only this message or event id; eight characters will do.")
    @click.option("--older-than", type=Age(), help="Only letters older than 15m, 6h, 3d, …")
    @click.option("--newer-than", type=Age(), help="Only letters newer than that.")
    @wraps(command)
    def with_filter(*args: Any, **options: Any) -> None:
        names = ("codes", "accounts", "policies", "events", "ids", "older_than", "newer_than")
        told = {name: options.pop(name) for name in names} | {"limit": options.pop("limit", None)}
        command(*args, wanted=Filter(**told), **options)

    return with_filter


#: Above `filtered`, for commands that take letters one after the other.
limited = click.option("--limit", type=click.IntRange(1), help="At most so many, the oldest first.")

as_json = click.option("--json", "machine", is_flag=True, help="For machines: JSON on stdout.")


def acting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --confirm and --reason, without which nothing is done; --confirm alone is wrong use."""

    @click.option("--confirm", is_flag=True, help="Really do it.")
    @click.option("--reason", help="Why; goes on record, with account ids, e-mail addresses and ARNs taken out.")
    @as_json
    @wraps(command)
    def with_reason(*args: Any, confirm: bool, reason: str | None, **options: Any) -> None:
        if len(reason or "") > _LONGEST_REASON:
            raise click.UsageError(f"the reason has {len(reason or '')} characters; evidence holds {_LONGEST_REASON}")
        told = redact_words(reason or "").strip()
        if confirm and not told:
            raise click.UsageError('--confirm needs --reason "…": it goes on record')
        command(*args, reason=told if confirm else None, **options)

    return with_reason
