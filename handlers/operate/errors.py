"""Errors of the operators' tool."""


class OperateError(Exception):
    """A command cannot be carried out; the message says why and names the next step."""
