"""Select the source files for the zip: the tracked ones, so that a commit gives the same zip on every machine.

Untracked files (a `.env`, an editor's swap file) and symbolic links never go into the zip.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGES: Final = ("handlers", "schemas")
#: The files that determine the third-party packages in the zip.
_PINS: Final = ("pyproject.toml", "uv.lock")
_CODE: Final = (*PACKAGES, *_PINS)
#: The function does not use these.
_LEFT_OUT: Final = ("handlers/operate/", "schemas/json/")
#: Git's modes of a regular file, with and without the executable bit.
_REGULAR: Final = frozenset({"100644", "100755"})
_KINDS: Final[Mapping[str, str]] = {"120000": "a symbolic link", "160000": "a submodule"}
_NEXT_STEP: Final = "or use the working tree: make build ARGS=--allow-dirty (make deploy accepts it too)"


class BuildError(Exception):
    """The zip could not be built."""


@dataclass(frozen=True)
class _Entry:
    """A path's entry in a commit or in the index: its mode and the hash of its content."""

    mode: str
    content: str


class _Git:
    """The git repository that tracks a source tree."""

    def __init__(self, root: Path, program: str) -> None:
        self._root = root
        self._program = program

    def __call__(self, *arguments: str) -> bytes:
        """Run a git command in the tree and return its output; raise BuildError with git's message."""
        # A git hook sets its repository and index in GIT_ variables; only git's configuration is kept.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("GIT_") or name.startswith("GIT_CONFIG_")
        }
        ours = {"LC_ALL": "C", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_LITERAL_PATHSPECS": "1", "GIT_OPTIONAL_LOCKS": "0"}
        command = [self._program, *arguments]
        done = subprocess.run(command, cwd=self._root, env=kept | ours, capture_output=True, check=False)  # noqa: S603 - our own arguments
        if done.returncode:
            raise BuildError(f"git {arguments[0]} failed in {self._root}: {os.fsdecode(done.stderr).strip()}")
        return done.stdout

    def head(self) -> str | None:
        """Return the last commit; None before the first one."""
        try:
            return self("rev-parse", "--verify", "--quiet", "HEAD").decode().strip()
        except BuildError:
            return None

    def committed(self, paths: Sequence[str] = _CODE) -> dict[str, _Entry]:
        """Return the last commit's entries below paths, by path; empty before the first commit."""
        if self.head() is None:
            return {}
        lines = self._lines("ls-tree", "-r", "-z", "HEAD", "--", *paths)
        return {name: _Entry(mode, content) for (mode, _kind, content), name in map(_parts, lines)}

    def tracked(self, paths: Sequence[str] = _CODE) -> dict[str, _Entry]:
        """Return the index's entries below paths, by path; one side of an unresolved conflict."""
        lines = self._lines("ls-files", "--stage", "-z", "--", *paths)
        return {name: _Entry(mode, content) for (mode, content, _side), name in map(_parts, lines)}

    def untracked(self) -> list[str]:
        """Return the paths of code files that git neither tracks nor ignores."""
        names = self._lines("ls-files", "--others", "--exclude-standard", "-z", "--", *PACKAGES)
        return [name for name in names if name.endswith(".py")]

    def content_of(self, names: list[str]) -> dict[str, str]:
        """Return git's hashes of files in the working tree by path."""
        # git status would leave out files that are marked as assumed unchanged.
        found = self("hash-object", "--", *names).decode().split() if names else []
        return dict(zip(names, found, strict=True))

    def read(self, entry: _Entry) -> bytes:
        """Return a committed file's bytes."""
        return self("cat-file", "blob", entry.content)

    def _lines(self, *arguments: str) -> list[str]:
        return [os.fsdecode(line) for line in self(*arguments).split(b"\0") if line]


def sources(root: Path, *, allow_dirty: bool) -> dict[str, bytes]:
    """Return the code for the zip by path, from the last commit or, with allow_dirty, from the working tree.

    Raises BuildError naming each file that differs from the commit and each tracked symbolic link.
    """
    git = _repository(root, needed=not allow_dirty)
    if git is None:
        return _from_tree(root, _every_file(root))
    tracked = git.tracked()
    _refuse_links(tracked)
    if allow_dirty:
        _refuse_links_in_tree(root, tracked)
        return _from_tree(root, {*tracked, *git.untracked()})
    committed = git.committed()
    _refuse_links(committed)
    if differences := sorted(_differences(root, git, committed, tracked)):
        listed = "\n".join(f"  - {each}" for each in differences)
        raise BuildError(
            f"the zip is built from a commit, and these files differ from it:\n{listed}\ncommit them, {_NEXT_STEP}"
        )
    # Not the working tree's bytes: a checkout can convert line ends, and a file can change during the build.
    return {name: git.read(entry) for name, entry in committed.items() if _goes_in(name)}


def commit_of(root: Path, files: Iterable[Path]) -> str | None:
    """Return the last commit, in which files of the source tree are as they are here; None before the first commit.

    Raises BuildError naming each file that differs from it. Files outside of the tree are not compared.
    """
    root = root.resolve()
    git = _repository(root, needed=True)
    inside = (each.resolve() for each in files)
    names = sorted({each.relative_to(root).as_posix() for each in inside if each.is_relative_to(root)})
    if git is None or not names:
        return git.head() if git else None
    committed, tracked = git.committed(names), git.tracked(names)
    here = git.content_of([name for name in names if _is_file(root, name)])
    # What a file that exists nowhere means, others say.
    known = [name for name in names if name in {**committed, **tracked, **here}]
    if differences := list(_compared(known, committed, tracked, here)):
        listed = "\n".join(f"  - {each}" for each in differences)
        raise BuildError(
            f"a deployment is made of a commit, and these files differ from it:\n{listed}\n"
            "commit them, or deploy them as they are: make deploy ARGS=--allow-dirty"
        )
    return git.head()


def _repository(root: Path, *, needed: bool) -> _Git | None:
    """Return the repository that tracks the tree, or None; raise BuildError if there is none and it is needed."""
    program = shutil.which("git")
    if program:
        git = _Git(root, program)
        try:
            if "pyproject.toml" in git.tracked():
                return git
        except BuildError as error:
            # Other failures, such as a repository owned by another user, do not mean that git does not track the tree.
            if "not a git repository" not in str(error):
                raise
    if not needed:
        return None
    problem = f"git does not track {root}" if program else "git is not installed"
    raise BuildError(f"the zip is built from a commit, but {problem}; build in a clone, {_NEXT_STEP}")


def _parts(line: str) -> tuple[list[str], str]:
    fields, _, name = line.partition("\t")
    return fields.split(), name


def _refuse_links(entries: Mapping[str, _Entry]) -> None:
    for name, entry in entries.items():
        if entry.mode not in _REGULAR:
            raise BuildError(
                f"{_shown(name)} is {_KINDS.get(entry.mode, 'not a file')}, which cannot go into the zip; remove it"
            )


def _refuse_links_in_tree(root: Path, tracked: Iterable[str]) -> None:
    for name in filter(_goes_in, tracked):
        if (root / name).exists() and not _is_file(root, name):
            raise BuildError(
                f"{_shown(name)} is reached through a symbolic link, which cannot go into the zip; restore the file"
            )


def _differences(
    root: Path, git: _Git, committed: Mapping[str, _Entry], tracked: Mapping[str, _Entry]
) -> Iterator[str]:
    names = list(filter(_is_checked, {**committed, **tracked}))
    here = git.content_of([name for name in names if _is_file(root, name)])
    yield from _compared(names, committed, tracked, here)
    yield from (f"{_shown(name)} (untracked)" for name in git.untracked())


def _compared(
    names: Iterable[str], committed: Mapping[str, _Entry], tracked: Mapping[str, _Entry], here: Mapping[str, str]
) -> Iterator[str]:
    """Yield each name whose file differs from the commit, with how."""
    for name in names:
        was = committed.get(name)
        if tracked.get(name) != was:
            yield f"{_shown(name)} (staged)"
        elif name not in here:
            yield f"{_shown(name)} (missing, or a symbolic link)"
        elif was is None:
            yield f"{_shown(name)} (untracked)"
        elif here[name] != was.content:
            yield f"{_shown(name)} (changed)"


def _from_tree(root: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Return the working tree's files for the zip by path, without symbolic links."""
    return {name: (root / name).read_bytes() for name in sorted(names) if _goes_in(name) and _is_file(root, name)}


def _every_file(root: Path) -> Iterator[str]:
    for package in PACKAGES:
        yield from (path.relative_to(root).as_posix() for path in (root / package).rglob("*.py"))


def _is_checked(name: str) -> bool:
    return name.endswith(".py") or name in _PINS


def _goes_in(name: str) -> bool:
    if not name.endswith(".py") or name.startswith(_LEFT_OUT):
        return False
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise BuildError(f"the name of {_shown(name)} is not UTF-8, which a zip cannot store; rename it") from error
    return True


def _is_file(root: Path, name: str) -> bool:
    """Return whether a path is a file that is reached without a symbolic link."""
    path = root / name
    folders = [each for each in path.parents if each.is_relative_to(root) and each != root]
    return path.is_file() and not any(each.is_symlink() for each in (path, *folders))


def _shown(name: str) -> str:
    """Return a path in printable characters."""
    return name if name.isprintable() else ascii(name)
