"""Errors of the operators' tool."""

from typing import Final

#: The next step if nobody chose the name of a session.
NAME_YOUR_SESSION: Final = (
    "Set role_session_name in your profile to your own name (see handlers/operate/README.md#name-your-session)"
)

#: The exit status after an interrupt: what shells report for a process that SIGINT ended.
INTERRUPTED: Final = 130


class OperateError(Exception):
    """A command cannot be carried out; the message says why and names the next step."""


class NotInstalledError(OperateError):
    """There is no installation: no such stack, or one that was never created."""
