"""The only way to the screen: whatever others wrote does nothing to the terminal.

Messages, events and records hold what anybody put there: control characters, escape sequences, characters that turn the
direction of reading. Every text that these consoles and commands print is cleaned at the end, wherever it came from.
"""

import json
import sys
from collections.abc import Iterable
from typing import Any, Final

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

_REPLACED: Final = "\ufffd"


def clean(text: str) -> str:
    """Return a text without anything that a terminal obeys, character by character; newlines stay."""
    # Most texts: one look, no copy.
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else " " if each == "\t" else _REPLACED for each in text)


def plain(text: str, style: str = "") -> Text:
    """Return a text for a screen, clean before its width is measured."""
    return Text(clean(text), style)


class Screen(Console):
    """A console that prints no character of anybody's that a terminal obeys, and takes nothing for markup."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render something, with every text in it cleaned; rich's own control codes are no texts."""
        for segment in super().render(_measurable(renderable), options):
            yield segment if segment.control else Segment(clean(segment.text), segment.style)


def _measurable(renderable: RenderableType) -> RenderableType:
    """Return a text as it will be printed, so that its lines are broken by the width that it has then."""
    if isinstance(renderable, str):
        return clean(renderable)
    if isinstance(renderable, Text) and not renderable.plain.isprintable():
        cleaned = renderable.copy()
        cleaned.plain = clean(renderable.plain)
        return cleaned
    return renderable


talk: Final = Screen(stderr=True, soft_wrap=True)
show: Final = Screen(width=None if sys.stdout.isatty() else 110)


def as_line(told: Any) -> None:
    """Print one line of JSON, in ASCII and without control characters."""
    click.echo(json.dumps(told))


class _Cleaned:
    """What makes a command say what is wrong with it in a clean text: usage errors repeat what they were given."""

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
    """Return an error that shows as the given one does, in a clean text."""
    text = error.format_message()
    if text == clean(text):
        return error
    if isinstance(error, click.UsageError):
        return click.UsageError(clean(text), error.ctx)
    return click.ClickException(clean(text))


class Command(_Cleaned, click.Command):
    """A command whose errors are clean."""


class Group(_Cleaned, click.Group):
    """Commands whose errors are clean."""
