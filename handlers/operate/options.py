"""Options that several commands share."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from handlers.core.guardrails.scope import Scope
from handlers.core.redaction import redact_words
from handlers.core.redrive.selection import Filter
from handlers.operate.completion import complete_code, complete_event, complete_id
from handlers.operate.hints import as_typed
from schemas.keys import SEALED_PREFIXES
from schemas.values import moment

_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])")
_DAY: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PSEUDONYM: Final = re.compile("acct-[0-9a-f]+")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
#: Messages a second; the maximum is SQS's own, for its move task.
_MIN_RATE: Final = 0.01
MAX_RATE: Final = 500
#: Characters; redaction shortens longer texts.
_MAX_REASON: Final = 1000


class DurationType(click.ParamType[timedelta]):
    """A duration such as 90s, 15m, 6h, 3d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse the value."""
        found = _DURATION.fullmatch(str(value))
        if not found:
            self.fail(f"{value!r} is not a duration. Use a form such as 90s, 15m, 6h or 3d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


class DayType(click.ParamType[datetime]):
    """A day; its value is the day's beginning in UTC."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse the value."""
        text = str(value)
        try:
            day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
            # Its end has to be a time, too.
            day + timedelta(days=1)
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is not a day. Use YYYY-MM-DD, for example 2026-11-01 (UTC)", param, ctx)
        return day


class UntilType(click.ParamType[timedelta | datetime]):
    """A duration from now, the last day in UTC, or a date and time."""

    name = "until"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta | datetime:
        """Parse the value."""
        text = str(value)
        if found := _DURATION.fullmatch(text):
            return timedelta(**{_UNITS[found[2]]: int(found[1])})
        try:
            if _DAY.fullmatch(text):
                return datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(days=1)
            return moment(text)
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is neither a duration nor a time. Use a form such as 4h, 3d, 2026-12-01 (that day is the "
                "last, in UTC), or 2026-12-01T08:00:00Z",
                param,
                ctx,
            )


class RateType(click.ParamType[float]):
    """Messages a second; 0 for no limit."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the value."""
        try:
            rate = float(value)
        except ValueError:
            rate = -1
        # This form of the condition rejects NaN too.
        if not (rate == 0 or _MIN_RATE <= rate <= MAX_RATE):
            self.fail(f"{value!r} is not a rate. Use 0, or {_MIN_RATE} to {MAX_RATE} messages a second", param, ctx)
        return rate


class AccountIdType(click.ParamType[str]):
    """Twelve digits."""

    name = "account"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Parse the value."""
        if _PSEUDONYM.fullmatch(str(value)):
            self.fail(f"{value!r} is a pseudonym. {as_typed('`coverage --reveal` shows the account ids')}", param, ctx)
        if not re.fullmatch("[0-9]{12}", str(value)):
            self.fail(f"{value!r} is not an account id. An account id has twelve digits", param, ctx)
        return str(value)


class FormType(click.ParamType[str]):
    """A text of a form."""

    def __init__(self, name: str, form: re.Pattern[str], rule: str) -> None:
        """Take the name of the type, the form, and what the message says of a text that does not have it."""
        self.name = name
        self._form = form
        self._rule = rule

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Parse the value."""
        if not self._form.fullmatch(str(value)):
            self.fail(f"{value!r} is not {self._rule}", param, ctx)
        return str(value)


PSEUDONYM_FORM: Final = FormType(
    "pseudonym",
    re.compile("(acct|prin|name)-[0-9a-f]{32}"),
    "a pseudonym. Use one of a record, such as acct-, prin- or name- and 32 hexadecimal digits",
)
#: A user, a role, a session, or the root user.
PRINCIPAL_FORM: Final = FormType(
    "arn",
    re.compile(r"arn:[a-z-]+:(iam|sts)::[0-9]{12}:[^\s:]+"),
    "the ARN of a session, user or role. Use a form such as arn:aws:sts::111122223333:assumed-role/ROLE/NAME; for a "
    "name alone, use --session",
)
#: What IAM allows as the name of a user, and STS as that of a session.
NAME_FORM: Final = FormType(
    "name",
    re.compile(r"[\w+=,.@-]{1,64}", re.ASCII),
    "the name of a session or user. Use 1 to 64 letters, digits and characters of +=,.@_-; for an ARN, use --principal",
)
SEALED_KEY_FORM: Final = FormType(
    "key",
    re.compile(f"({'|'.join(SEALED_PREFIXES)}).*", re.DOTALL),
    "the key of an object that is sealed. Use a key that begins with "
    f"{', '.join(SEALED_PREFIXES[:-1])} or {SEALED_PREFIXES[-1]}, with no slash, bucket or s3:// before it",
)


class InputFileType(click.File):
    """A file that is read, or `-` for stdin."""

    def __init__(self) -> None:
        super().__init__("rb")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Open the file; a FIFO is refused, because opening it waits until somebody writes to it."""
        if Path(str(value)).is_fifo():
            self.fail(f"{str(value)!r} is a FIFO. Use a file, or - for stdin", param, ctx)
        return super().convert(value, param, ctx)


class ScopeType(click.ParamType[Scope]):
    """The accounts that policies are attached to, as in AttachTo."""

    name = "accounts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Scope:
        """Parse the value."""
        try:
            return Scope.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def check_days(first: datetime | None, last: datetime | None, now: datetime, option: str = "--from") -> None:
    """Raise UsageError if the last day is before the first one, or the first one, which an option gives, not begun."""
    if first and last and last < first:
        raise click.UsageError(f"--to {last:%Y-%m-%d} is before {option} {first:%Y-%m-%d}. Exchange them")
    if first and first > now:
        raise click.UsageError(f"{option} {first:%Y-%m-%d} is in the future. Use a day that has begun (UTC)")


@dataclass(frozen=True)
class Approval:
    """Whether to carry an action out, and how to report it."""

    #: None without --confirm.
    reason: str | None
    json: bool


def with_context(command: Callable[..., int | None]) -> Callable[..., None]:
    """Pass the context to a command, and exit with the status that the command returns."""

    @click.pass_context
    @wraps(command)
    def wrapped(ctx: click.Context, /, **options: Any) -> None:
        ctx.exit(command(ctx.obj(), **options) or 0)

    return wrapped


def with_organization(command: Callable[..., int | None]) -> Callable[..., None]:
    """Pass what opens the organization to a command, which need not open it, and exit with the command's status."""

    @click.pass_context
    @wraps(command)
    def wrapped(ctx: click.Context, /, **options: Any) -> None:
        ctx.exit(command(ctx.obj.organization, **options) or 0)

    return wrapped


def with_connection(command: Callable[..., int | None]) -> Callable[..., None]:
    """Pass the connection to a command, and exit with the status that the command returns."""

    @click.pass_context
    @wraps(command)
    def wrapped(ctx: click.Context, /, **options: Any) -> None:
        ctx.exit(command(ctx.obj, **options) or 0)

    return wrapped


def default_document() -> Path:
    """Return the document of the stage that --stack chooses."""
    # The module imports the models of the document, which take a while.
    from handlers.operate import guardrails_files  # noqa: PLC0415 - see above

    return guardrails_files.default_document(click.get_current_context().find_root().params.get("stack", "joinguard"))


#: Its default is that of the stage that --stack chooses.
document_argument = click.argument(
    "document", required=False, default=default_document, type=click.Path(path_type=Path)
)


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select messages, and pass them to the command as one Filter."""

    @click.option(
        "--code",
        "codes",
        multiple=True,
        shell_complete=complete_code,
        help="Only this code. Can be repeated, like all of these.",
    )
    @click.option("--account", "accounts", multiple=True, type=AccountIdType(), help="Only this account.")
    @click.option("--policy", "policies", multiple=True, help="Only if the reason names this policy.")
    @click.option(
        "--event",
        "events",
        multiple=True,
        shell_complete=complete_event,
        help="Only this event, by its id or its name.",
    )
    @click.option(
        "--id",
        "ids",
        multiple=True,
        shell_complete=complete_id,
        help="Only this message or event id, or its beginning.",
    )
    @click.option("--departed", is_flag=True, help="Only messages of accounts that have left since.")
    @click.option("--older-than", type=DurationType(), help="Only messages older than 15m, 6h, 3d, …")
    @click.option("--newer-than", type=DurationType(), help="Only messages newer than 15m, 6h, 3d, …")
    @wraps(command)
    def wrapped(*args: Any, **options: Any) -> None:
        names = ("codes", "accounts", "policies", "events", "ids", "older_than", "newer_than", "departed")
        criteria = {name: options.pop(name) for name in names} | {"limit": options.pop("limit", None)}
        command(*args, wanted=Filter(**criteria), **options)

    return wrapped


#: Apply it before `filtered`.
limited = click.option("--limit", type=click.IntRange(1), help="At most this number of messages, the oldest first.")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")


def _recorded(reason: str | None) -> str:
    """Return a reason as audit records hold it; raise UsageError if it is too long."""
    given = reason or ""
    if len(given) > _MAX_REASON:
        raise click.UsageError(f"the reason has {len(given)} characters. Use at most {_MAX_REASON}")
    return redact_words(given).strip()


_reason = click.option(
    "--reason", help="Why. Stored in the audit record, without account ids, e-mail addresses and ARNs."
)


def confirmed(command: Callable[..., None]) -> Callable[..., None]:
    """Add --confirm and --reason, and pass them as one Approval; --confirm without a reason is wrong use."""

    @click.option("--confirm", is_flag=True, help="Carry out the action.")
    @_reason
    @as_json
    @wraps(command)
    def wrapped(*args: Any, confirm: bool, reason: str | None, as_json: bool, **options: Any) -> None:
        recorded = _recorded(reason)
        if confirm and not recorded:
            raise click.UsageError('--confirm needs a reason for the record. Add --reason "…"')
        command(*args, approval=Approval(recorded if confirm else None, as_json), **options)

    return wrapped


def recorded_reason(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --reason to a command that changes nothing and is on record all the same; without it is wrong use."""

    @_reason
    @wraps(command)
    def wrapped(*args: Any, reason: str | None, **options: Any) -> Any:
        recorded = _recorded(reason)
        if not recorded:
            raise click.UsageError('each use is on record and needs a reason. Add --reason "…"')
        return command(*args, reason=recorded, **options)

    return wrapped
