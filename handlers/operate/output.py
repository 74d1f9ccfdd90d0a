"""Output to the terminal and to other programs.

Messages, events and records hold texts of others: control characters, escape sequences, characters that change the
direction of reading. Every text that these consoles and commands print is cleaned last, wherever it came from.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from handlers.operate.hints import as_typed

#: The width of a table where there is no terminal.
_PIPE_WIDTH: Final = 110
_REPLACEMENT: Final = "\ufffd"


def clean(text: str) -> str:
    """Return a text without characters that control a terminal; line breaks stay."""
    # Most texts need no copy.
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else " " if each == "\t" else _REPLACEMENT for each in text
    )


def plain(text: str, style: str = "") -> Text:
    """Return a text for a console, cleaned before its width is measured."""
    return Text(clean(text), style)


class CleanConsole(Console):
    """A console that cleans every text and interprets no markup in it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render a text or table with every text in it cleaned; rich's own control codes stay."""
        for segment in super().render(_measurable(renderable), options):
            yield segment if segment.control else Segment(clean(segment.text), segment.style)


def _measurable(renderable: RenderableType) -> RenderableType:
    """Return a text as it will be printed, so that its lines are broken at the right width."""
    if isinstance(renderable, str):
        return clean(renderable)
    if isinstance(renderable, Text) and not renderable.plain.isprintable():
        cleaned = renderable.copy()
        cleaned.plain = clean(renderable.plain)
        return cleaned
    return renderable


def _width() -> int | None:
    """Return the width of stdout; None for a terminal, whose width rich measures.

    A pipe such as `| head` mostly ends on the terminal that stderr is, and wider lines would be broken there.
    """
    # Python has no stdout if its file descriptor is closed.
    if sys.stdout is not None and sys.stdout.isatty():
        return None
    for stream in (sys.stderr, sys.stdin):
        with suppress(AttributeError, OSError, ValueError):
            return os.get_terminal_size(stream.fileno()).columns or _PIPE_WIDTH
    return _PIPE_WIDTH


stderr: Final = CleanConsole(stderr=True, soft_wrap=True)
stdout: Final = CleanConsole(width=_width())


def hint(text: str, style: str | None = None) -> None:
    """Print a text to stderr, with its commands in the form in which the operator types them."""
    stderr.print(as_typed(text), style=style)


def print_json(value: Any) -> None:
    """Print one line of JSON, in ASCII and without control characters."""
    click.echo(json.dumps(value))


class _Cleaned:
    """Clean the errors of a command: usage errors repeat its arguments."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)  # type: ignore[misc, no-any-return]
        except click.ClickException as error:
            raise cleaned(error) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)  # type: ignore[misc]
        except click.ClickException as error:
            raise cleaned(error) from error


def cleaned(error: click.ClickException) -> click.ClickException:
    """Return an error with a cleaned text."""
    text = error.format_message()
    if text == clean(text):
        return error
    if isinstance(error, click.UsageError):
        return click.UsageError(clean(text), error.ctx)
    return click.ClickException(clean(text))


class Command(_Cleaned, click.Command):
    """A command with clean errors, and with examples in its help."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each in one line, so that it can be copied."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Examples"):
            for each in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{each}\n")


class Group(_Cleaned, click.Group):
    """A group of commands with clean errors."""
