"""Options that several commands share."""

import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, Final

import click

from handlers.core.redrive import Filter

_AGE: Final = re.compile(r"([0-9]+)([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Age(click.ParamType[timedelta]):
    """A length of time such as 90s, 15m, 6h, 3d."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:  # noqa: ANN401 - click's own
        """Read it."""
        found = _AGE.fullmatch(str(value))
        if not found:
            self.fail(f"{value!r} is no length of time; say 90s, 15m, 6h or 3d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


def on_workbench(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the workbench."""

    @click.pass_context
    @wraps(command)
    def with_bench(ctx: click.Context, /, **options: Any) -> None:  # noqa: ANN401 - the command's own options
        command(ctx.obj(), **options)

    return with_bench


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose letters, as one Filter."""

    @click.option("--code", "codes", multiple=True, help="Only this reason. May be repeated, as all of these.")
    @click.option("--account", "accounts", multiple=True, help="Only this account.")
    @click.option("--policy", "policies", multiple=True, help="Only where the reason names this policy.")
    @click.option("--event", "events", multiple=True, help="Only this event id.")
    @click.option("--id", "ids", multiple=True, help="Only this message id.")
    @click.option("--older-than", type=Age(), help="Only letters older than 15m, 6h, 3d, …")
    @click.option("--newer-than", type=Age(), help="Only letters newer than that.")
    @click.option("--limit", type=click.IntRange(1), help="At most so many, the oldest first.")
    @wraps(command)
    def with_filter(*args: Any, **options: Any) -> None:  # noqa: ANN401 - the command's own options
        names = ("codes", "accounts", "policies", "events", "ids", "older_than", "newer_than", "limit")
        command(*args, wanted=Filter(**{name: options.pop(name) for name in names}), **options)

    return with_filter


as_json = click.option("--json", "machine", is_flag=True, help="For machines.")


def acting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --confirm and --reason, without which nothing is done."""
    command = click.option("--reason", help="Why; goes on record.")(command)
    return click.option("--confirm", is_flag=True, help="Really do it.")(command)
