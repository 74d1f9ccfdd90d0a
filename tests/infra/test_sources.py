"""The zip contains our files as they are in the commit; anything else is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.deploy.build import ROOT, build
from infra.deploy.sources import BuildError, commit_of, sources

FILES = {
    "handlers/__init__.py": b"",
    "handlers/worker.py": b"one = 1\n",
    "handlers/core/plan.py": b"two = 2\n",
    "handlers/operate/cli.py": b"an operator's\n",
    "schemas/event.py": b"three = 3\n",
    "schemas/json/event.json": b"{}\n",
    "infra/deploy.py": b"ours\n",
    "pyproject.toml": b"[project]\n",
    "uv.lock": b"version = 1\n",
    ".gitignore": b"*.pyc\nhandlers/private.py\n",
}
IN_ZIP = {
    name: FILES[name] for name in FILES if name.endswith(".py") and name.split("/")[1] not in {"operate", "deploy.py"}
}
NO_SETTINGS = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NO_SETTINGS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Return a source tree without a repository."""
    root = tmp_path / "a source's tree"
    for name, content in FILES.items():
        write(root / name, content)
    return root


@pytest.fixture
def tree(archive: Path) -> Path:
    """Return a clean checkout."""
    git(archive, "init", "--quiet")
    commit(archive)
    return archive


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def git(root: Path, *arguments: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | NO_SETTINGS
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments]
    return subprocess.run(command, cwd=root, env=inherited, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own arguments


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "x")


def refusal(root: Path, *, allow_dirty: bool = False) -> str:
    with pytest.raises(BuildError) as raised:
        sources(root, allow_dirty=allow_dirty)
    return str(raised.value)


@pytest.mark.parametrize("allow_dirty", [False, True])
def test_the_zip_gets_the_functions_code_and_nothing_else(tree: Path, *, allow_dirty: bool) -> None:
    write(tree / "handlers" / ".env", b"SECRET=1\n")
    write(tree / "handlers" / ".worker.py.swp", b"half a secret\n")
    write(tree / "handlers" / "worker.py~", b"an old secret\n")
    write(tree / "handlers" / "private.py", b"ignored = True\n")
    write(tree / "handlers" / "__pycache__" / "worker.pyc", b"compiled\n")

    assert sources(tree, allow_dirty=allow_dirty) == IN_ZIP


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems store only names in UTF-8")
@pytest.mark.parametrize("allow_dirty", [False, True])
def test_a_name_that_is_not_utf_8_is_refused(tree: Path, *, allow_dirty: bool) -> None:
    write(tree / "handlers" / os.fsdecode(b"caf\xe9.py"), b"x")
    commit(tree)

    message = refusal(tree, allow_dirty=allow_dirty)

    assert r"handlers/caf\udce9.py' is not UTF-8" in message
    assert message.endswith("rename it")


def test_tracked_files_that_are_not_code_stay_out(tree: Path) -> None:
    write(tree / "handlers" / "notes.txt", b"x")
    commit(tree)

    assert sources(tree, allow_dirty=False) == sources(tree, allow_dirty=True) == IN_ZIP


def stage_a_new_file(tree: Path) -> None:
    write(tree / "schemas" / "new.py", b"x")
    git(tree, "add", "--all")


def add_an_intent_to_add(tree: Path) -> None:
    write(tree / "schemas" / "new.py", b"x")
    git(tree, "add", "--intent-to-add", "--all")


def stage_a_change(tree: Path) -> None:
    write(tree / "handlers" / "worker.py", b"other\n")
    git(tree, "add", "--all")


def stage_a_change_and_revert_the_file(tree: Path) -> None:
    stage_a_change(tree)
    write(tree / "handlers" / "worker.py", FILES["handlers/worker.py"])


def hide(how: str, tree: Path) -> None:
    git(tree, "update-index", how, "handlers/worker.py")
    write(tree / "handlers" / "worker.py", b"other\n")


def conflict(tree: Path) -> None:
    main = git(tree, "branch", "--show-current").strip()
    for branch, content in (("other", b"other\n"), (main, b"another\n")):
        git(tree, "checkout", "--quiet", *(["-b"] if branch == "other" else []), branch)
        write(tree / "handlers" / "worker.py", content)
        commit(tree)
    with pytest.raises(subprocess.CalledProcessError):
        git(tree, "merge", "--quiet", "other")
    write(tree / "handlers" / "worker.py", b"another\n")


def replace_by_a_link(tree: Path) -> None:
    (tree / "handlers" / "worker.py").unlink()
    write(tree.parent / "elsewhere.py", FILES["handlers/worker.py"])
    (tree / "handlers" / "worker.py").symlink_to(tree.parent / "elsewhere.py")


def replace_the_folder_by_a_link(tree: Path) -> None:
    (tree / "handlers" / "core").rename(tree.parent / "core")
    (tree / "handlers" / "core").symlink_to(tree.parent / "core")


DIRTY = {
    "a changed file": (lambda t: write(t / "handlers" / "worker.py", b"x"), "handlers/worker.py (changed)"),
    "a change of the same length": (
        lambda t: write(t / "handlers" / "worker.py", b"one = 2\n"),
        "handlers/worker.py (changed)",
    ),
    "a staged file": (stage_a_change, "handlers/worker.py (staged)"),
    "a staged change that the file no longer has": (stage_a_change_and_revert_the_file, "handlers/worker.py (staged)"),
    "a new file that is staged": (stage_a_new_file, "schemas/new.py (staged)"),
    "a file that is added with --intent-to-add": (add_an_intent_to_add, "schemas/new.py (staged)"),
    "an untracked file": (lambda t: write(t / "schemas" / "new.py", b"x"), "schemas/new.py (untracked)"),
    "an untracked folder": (lambda t: write(t / "handlers" / "new" / "x.py", b"x"), "handlers/new/x.py (untracked)"),
    "a name with spaces": (lambda t: write(t / "handlers" / "a b.py", b"x"), "handlers/a b.py (untracked)"),
    "a name with a newline": (lambda t: write(t / "handlers" / "a\nb.py", b"x"), r"'handlers/a\nb.py' (untracked)"),
    "a name with an escape sequence": (
        lambda t: write(t / "handlers" / "\x1b[1m.py", b"x"),
        r"'handlers/\x1b[1m.py' (untracked)",
    ),
    "a deleted file": (lambda t: (t / "handlers" / "worker.py").unlink(), "handlers/worker.py (missing"),
    "a file that is deleted from the index": (
        lambda t: git(t, "rm", "--quiet", "handlers/worker.py"),
        "handlers/worker.py (staged)",
    ),
    "a changed file that is assumed unchanged": (
        lambda t: hide("--assume-unchanged", t),
        "handlers/worker.py (changed)",
    ),
    "a changed file with skip-worktree": (lambda t: hide("--skip-worktree", t), "handlers/worker.py (changed)"),
    "a change in the operator's tool": (
        lambda t: write(t / "handlers" / "operate" / "cli.py", b"x"),
        "operate/cli.py (changed)",
    ),
    "changed dependencies": (lambda t: write(t / "pyproject.toml", b"x"), "pyproject.toml (changed)"),
    "a changed lock": (lambda t: write(t / "uv.lock", b"x"), "uv.lock (changed)"),
    "an unresolved conflict": (conflict, "handlers/worker.py (staged)"),
    "a link instead of a file": (replace_by_a_link, "handlers/worker.py (missing, or a symbolic link)"),
    "a link instead of a folder": (replace_the_folder_by_a_link, "handlers/core/plan.py (missing, or a symbolic link)"),
}


@pytest.mark.parametrize(("make_dirty", "named"), DIRTY.values(), ids=DIRTY)
def test_an_uncommitted_change_is_refused_with_its_name_and_the_next_step(
    tree: Path, make_dirty: object, named: str
) -> None:
    assert callable(make_dirty)
    make_dirty(tree)

    message = refusal(tree)

    assert named in message
    assert "commit them, or" in message
    assert "--allow-dirty" in message


def test_changes_that_do_not_affect_the_zip_are_allowed(tree: Path) -> None:
    write(tree / "infra" / "deploy.py", b"other\n")
    write(tree / "README.md", b"new\n")

    assert sources(tree, allow_dirty=False) == IN_ZIP


def test_a_dirty_tree_is_built_from_its_files_with_allow_dirty(tree: Path) -> None:
    write(tree / "handlers" / "worker.py", b"changed = True\n")
    write(tree / "handlers" / "a\n b.py", b"new = True\n")
    write(tree / "handlers" / "private.py", b"ignored = True\n")
    (tree / "schemas" / "event.py").unlink()
    (tree / "handlers" / ".#worker.py").symlink_to("somebody@host.1234")
    (tree / "handlers" / "link.py").symlink_to(tree / "infra" / "deploy.py")
    (tree / "handlers" / "folder").symlink_to(tree / "infra")

    assert sources(tree, allow_dirty=True) == {
        "handlers/__init__.py": b"",
        "handlers/worker.py": b"changed = True\n",
        "handlers/a\n b.py": b"new = True\n",
        "handlers/core/plan.py": b"two = 2\n",
    }


@pytest.mark.parametrize("name", ["handlers/link.py", "handlers/folder", "schemas/data.json"])
@pytest.mark.parametrize("allow_dirty", [False, True])
def test_a_tracked_symbolic_link_is_refused(tree: Path, name: str, *, allow_dirty: bool) -> None:
    target = {"handlers/link.py": "worker.py", "handlers/folder": "../infra", "schemas/data.json": "/etc/passwd"}
    (tree / name).symlink_to(target[name])
    commit(tree)

    assert f"{name} is a symbolic link" in refusal(tree, allow_dirty=allow_dirty)


@pytest.mark.parametrize("replace", [replace_by_a_link, replace_the_folder_by_a_link])
def test_a_tracked_file_replaced_by_a_symbolic_link_is_refused_even_with_allow_dirty(
    tree: Path, replace: object
) -> None:
    assert callable(replace)
    replace(tree)

    assert "is reached through a symbolic link" in refusal(tree, allow_dirty=True)


@pytest.mark.parametrize("allow_dirty", [False, True])
def test_a_submodule_is_refused(tree: Path, *, allow_dirty: bool) -> None:
    head = git(tree, "rev-parse", "HEAD").strip()
    git(tree, "update-index", "--add", "--cacheinfo", f"160000,{head},handlers/other")
    git(tree, "commit", "--quiet", "--message", "x")

    assert "handlers/other is a submodule" in refusal(tree, allow_dirty=allow_dirty)


def test_converted_line_endings_do_not_change_the_zip(tree: Path) -> None:
    git(tree, "config", "core.autocrlf", "true")
    for name in FILES:
        (tree / name).unlink()
    git(tree, "checkout", "--", ".")
    assert (tree / "handlers" / "worker.py").read_bytes() == b"one = 1\r\n"

    assert sources(tree, allow_dirty=False) == IN_ZIP


def test_a_replaced_git_object_does_not_change_the_zip(tree: Path) -> None:
    write(tree / "other", b"replaced = True\n")
    other = git(tree, "hash-object", "-w", "other").strip()
    (tree / "other").unlink()
    git(tree, "replace", git(tree, "rev-parse", "HEAD:handlers/worker.py").strip(), other)

    assert sources(tree, allow_dirty=False) == IN_ZIP


def test_gits_variables_of_another_repository_are_ignored(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git sets them in the environment of every hook, including the hooks of another repository."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other / ".git" / "objects"))
    monkeypatch.setenv("GIT_PREFIX", "handlers/")

    assert sources(tree, allow_dirty=False) == sources(tree, allow_dirty=True) == IN_ZIP


def test_a_worktree_and_a_folder_of_a_larger_repository_give_the_same_files_as_a_clone(
    tree: Path, tmp_path: Path
) -> None:
    git(tree, "worktree", "add", "--quiet", str(tmp_path / "worktree"))
    larger = tmp_path / "larger"
    for name, content in FILES.items():
        write(larger / "joinguard" / name, content)
    git(larger, "init", "--quiet")
    commit(larger)
    write(larger / "elsewhere.py", b"unrelated\n")

    assert sources(tmp_path / "worktree", allow_dirty=False) == IN_ZIP
    assert sources(larger / "joinguard", allow_dirty=False) == IN_ZIP


def inside_another_repository(root: Path) -> None:
    git(root.parent, "init", "--quiet")
    write(root.parent / ".gitignore", b"*\n")


@pytest.mark.parametrize(
    "prepare", [lambda _root: None, inside_another_repository], ids=["no repository", "another repository"]
)
def test_an_untracked_tree_is_built_only_with_allow_dirty(archive: Path, prepare: object) -> None:
    assert callable(prepare)
    prepare(archive)
    (archive / "handlers" / "folder").symlink_to(archive / "infra")
    write(archive / "handlers" / ".env", b"SECRET=1\n")

    message = refusal(archive)

    assert "git does not track" in message
    assert "build in a clone, or" in message
    assert "--allow-dirty" in message
    assert sources(archive, allow_dirty=True) == IN_ZIP


def test_before_the_first_commit_every_file_counts_as_uncommitted(archive: Path) -> None:
    git(archive, "init", "--quiet")
    git(archive, "add", "--all")

    assert "handlers/worker.py (staged)" in refusal(archive)
    assert sources(archive, allow_dirty=True) == IN_ZIP


def test_without_git_a_tree_is_built_only_with_allow_dirty(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)

    assert "git is not installed" in refusal(tree)
    assert sources(tree, allow_dirty=True) == IN_ZIP


@pytest.mark.parametrize("allow_dirty", [False, True])
def test_a_repository_that_git_does_not_trust_is_refused_with_gits_message(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, allow_dirty: bool
) -> None:
    """This happens in a container that runs as root on a user's checkout: git cannot list the ignored files."""
    # Git has this variable for its own tests.
    distrusting = f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {shutil.which("git")} "$@"\n'
    write(tmp_path / "bin" / "git", distrusting.encode())
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    message = refusal(tree, allow_dirty=allow_dirty)

    assert "safe.directory" in message


def test_a_commit_gives_the_same_zip_in_every_checkout_and_a_dirty_tree_gives_none(tmp_path: Path) -> None:
    """Run the command itself in a new checkout."""
    checkout = tmp_path / "another checkout"
    for name in ("handlers", "schemas", "infra"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, checkout / name)
    write(checkout / ".gitignore", b"__pycache__/\nbuild/\n")
    git(checkout, "init", "--quiet")
    commit(checkout)
    write(checkout / "handlers" / ".env", b"SECRET=1\n")
    command = [sys.executable, "-m", "infra.deploy", "build"]

    built = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    zipped = checkout / built.stdout.partition(" ")[0]
    ours = build(target=tmp_path / "ours.zip", allow_dirty=True).path
    assert built.returncode == 0, built.stderr
    assert zipped.read_bytes() == ours.read_bytes()

    zipped.unlink()
    write(checkout / "handlers" / "worker.py", b"changed = True\n")
    refused = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    assert refused.returncode == 1
    assert "handlers/worker.py (untracked)" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not zipped.exists()


STAGE, LOCK = "infra/stages/prod.yaml", "infra/guardrails/prod.lock.json"


def deployed(tree: Path) -> list[Path]:
    """Commit a stage file, and return it with a lock file that is nowhere, and a file outside of the tree."""
    write(tree / STAGE, b"region: us-east-1\n")
    commit(tree)
    write(tree.parent / "other.yaml", b"x")
    return [tree / STAGE, tree / LOCK, tree.parent / "other.yaml"]


def test_a_deployment_of_committed_files_has_their_commit(tree: Path) -> None:
    files = deployed(tree)
    write(tree / "infra" / "stages" / "test.yaml", b"another stage")

    assert commit_of(tree, files) == git(tree, "rev-parse", "HEAD").strip()
    assert commit_of(tree, files[2:]) == git(tree, "rev-parse", "HEAD").strip()


@pytest.mark.parametrize(
    ("name", "staged", "how"),
    [(STAGE, False, "changed"), (STAGE, True, "staged"), (LOCK, False, "untracked"), (LOCK, True, "staged")],
)
def test_a_file_that_decides_what_is_deployed_must_be_committed(
    tree: Path, name: str, *, staged: bool, how: str
) -> None:
    files = deployed(tree)
    write(tree / name, b"other\n")
    if staged:
        git(tree, "add", "--all")

    with pytest.raises(BuildError) as raised:
        commit_of(tree, files)

    assert f"\n  - {name} ({how})\n" in str(raised.value)
    assert str(raised.value).endswith("make deploy ARGS=--allow-dirty")


def test_a_committed_file_that_is_gone_is_refused(tree: Path) -> None:
    files = deployed(tree)
    (tree / STAGE).unlink()

    with pytest.raises(BuildError, match=r"prod\.yaml \(missing, or a symbolic link\)"):
        commit_of(tree, files)


def test_without_a_repository_there_is_no_commit(archive: Path) -> None:
    with pytest.raises(BuildError, match="git does not track"):
        commit_of(archive, [archive / STAGE])
