"""Files of users: those that they name are read with limits, and those that commands write are whole."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TextIO

import click

from handlers.operate.errors import OperateError

#: UTF-8; the byte order mark that some editors write first is not part of the text.
TEXT: Final = "utf-8-sig"
#: Far more than any file that a command reads has.
_MAX_BYTES: Final = 256 * 1024 * 1024


def read_file(path: Path, limit: int = _MAX_BYTES) -> bytes:
    """Return the bytes of a file that a user names, which can come from anybody.

    Raises OSError, whose `strerror` is for users, also for a file that could be endless, and for one that is larger
    than the limit.
    """
    # Without O_NONBLOCK, opening a FIFO waits until somebody writes to it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is a FIFO or a device; write its content to a file", str(path))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit:,} bytes", str(path))
    return content


def text_in(file: BinaryIO, limit: int) -> str:
    """Return the text of an open file, such as stdin; raise UsageError if it is longer than the limit, or not UTF-8."""
    content = file.read(limit + 1)
    if len(content) > limit:
        raise click.UsageError(f"{file.name}: the file is longer than {limit:,} bytes. Divide it")
    try:
        return content.decode(TEXT)
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file.name}: the file is not UTF-8: {error}. Convert it") from error


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Raise OperateError, with the name that the user gave and the next step, if a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise OperateError(
            f"cannot write {path}: {error.strerror}. Name a file in a folder that exists, and that you can write to"
        ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Yield a file for its owner only; it gets its name when the context ends, and is deleted after an error.

    Raises OperateError if it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with writing_to(path):
        try:
            with os.fdopen(os.open(unfinished, flags, 0o600), "w", encoding="utf-8") as file:
                yield file
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
