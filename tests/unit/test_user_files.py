"""Files that users name, which others can have made: each command says what is wrong with one, and never waits."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from click.testing import Result

from handlers.operate.errors import OperateError
from handlers.operate.files import read_file
from handlers.operate.guardrails_document import GuardrailsError
from handlers.operate.verifying import FileProgress
from tests.fake_queues import dead_letter
from tests.operator_cli import operator_cli
from tests.verifying import VerifyWorld, download, key_file

LARGE = 300 * 1024 * 1024


@pytest.fixture(scope="module")
def world() -> VerifyWorld:
    return VerifyWorld.with_batches(3)


@pytest.fixture
def here(world: VerifyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a download of the bucket, the log's key, and a folder for checkpoints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    download(world, tmp_path)
    key_file(world, tmp_path)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


def make(kind: str, path: Path) -> None:
    match kind:
        case "a FIFO":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()
        case "too large":
            with path.open("wb") as file:
                file.truncate(LARGE)
        case "not UTF-8":
            path.write_bytes(b"\xff\xfe")
        case _:
            path.symlink_to("/dev/zero")


#: Each command with the file `bad`; some need another name, by its ending.
COMMANDS = [
    ("bad", "verify --offline bucket --key bad"),
    ("bad", "verify --offline bucket --key key.txt --against bad"),
    ("checkpoints/bad", "verify --offline bucket --key key.txt --against checkpoints"),
    ("bad", "verify --proof bad --key key.txt"),
    ("bad", "proof evidence/none --offline bucket --key bad"),
    ("bad", "plan infra/guardrails/example.yaml --snapshot bad --before none"),
    ("bad.json", "plan infra/guardrails/example.yaml --before bad.json"),
    ("bad.yaml", "lock bad.yaml"),
    ("bad.lock.json", "explain 222222222222 --document bad.yaml"),
    ("bad", "coverage --snapshot bad --guardrails bad"),
    ("bad", "resolve acct-52bae77317b6e63f83be0c1b773d1b95 --candidates bad --reason x"),
    ("bad", "enforce --event bad"),
    ("bad", "enforce --from bad"),
    ("bad", "edit m-1 --body bad"),
]


@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "too large", "not UTF-8", "a device"])
@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[each for _, each in COMMANDS])
def test_a_file_that_cannot_be_used_is_an_error_with_its_name(here: Path, name: str, command: str, kind: str) -> None:
    make(kind, here / name)
    said = said_by(command)
    if (kind, name) == ("a folder", "checkpoints/bad"):
        assert "has no files" in said
    else:
        assert re.search(r"\bbad\b|\bbody\b|the event is unreadable", said), said


def said_by(command: str) -> str:
    """Return what a command says when it fails."""
    result: Result = operator_cli(dead_letter()).run(*command.split())
    assert result.exit_code != 0
    assert isinstance(result.exception, (SystemExit, OperateError, GuardrailsError)), repr(result.exception)
    return f"{result.output} {result.exception}"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("a FIFO", "a FIFO or a device"),
        ("a device", "a FIFO or a device"),
        ("a folder", "Is a directory"),
        ("too large", "larger than"),
    ],
)
def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path, kind: str, says: str) -> None:
    make(kind, tmp_path / "bad")

    with pytest.raises(OSError, match=says):
        read_file(tmp_path / "bad")

    (tmp_path / "good").write_bytes(b"12345")
    assert read_file(tmp_path / "good", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_file(tmp_path / "good", 4)


@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "a device"])
def test_an_object_to_compare_with_a_proof_is_read_with_the_same_care(
    here: Path, world: VerifyWorld, kind: str
) -> None:
    key = min(each for each in world.bucket.versions if each.startswith("evidence/"))
    tool = operator_cli()
    tool.queues.clock = world.clock
    assert tool.run("proof", key, "--offline", "bucket", "--key", "key.txt", "--out", "proof").exit_code == 0
    make(kind, here / "bad")

    assert "bad" in said_by("verify --proof proof --key key.txt --object bad")


@pytest.mark.parametrize(
    "command",
    [
        "export --from 2026-11-24 nowhere/file",
        "snapshot nowhere/file",
        "proof KEY --offline bucket --key key.txt --out nowhere/file",
    ],
)
def test_a_file_that_cannot_be_written_is_an_error_with_its_name_and_the_next_step(
    here: Path, world: VerifyWorld, command: str
) -> None:
    key = min(each for each in world.bucket.versions if each.startswith("evidence/"))
    tool = operator_cli()
    tool.queues.clock = world.clock

    result = tool.run(*command.replace("KEY", key).split())

    assert str(result.exception) == (
        "cannot write nowhere/file: No such file or directory. Name a file in a folder that exists, and that you can "
        "write to"
    )
    assert tool.reader.calls.total() == 0, "nothing is read in vain"
    assert not (here / "nowhere").exists()


@pytest.mark.parametrize(
    ("text", "command", "says"),
    [
        ("222222222222", "enforce --from file", "this sends 1 join request to the joins queue: 222222222222"),
        ("222222222222", "resolve ACCOUNT --candidates file --reason x", "current key"),
        (dead_letter().body, "edit m-1 --body file", "the body is not changed"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_text(here: Path, text: str, command: str, says: str) -> None:
    (here / "file").write_text(text, encoding="utf-8-sig")
    tool = operator_cli(dead_letter())

    result = tool.run(*command.replace("ACCOUNT", tool.pseudonyms.of("222222222222").value).split())

    assert (result.exit_code, says in " ".join(result.output.split())) == (0, True), result.output


def test_progress_in_a_fifo_is_no_progress(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "progress")

    assert FileProgress(tmp_path / "progress").load() is None


def test_a_folder_of_checkpoints_may_have_any_names_and_what_systems_put_there(here: Path, world: VerifyWorld) -> None:
    (here / "checkpoints" / "checkpoint.20261126").write_bytes(world.copies.notes[0])
    (here / "checkpoints" / ".DS_Store").write_bytes(b"\x00\xff")

    result = operator_cli().run("verify", "--offline", "bucket", "--key", "key.txt", "--against", "checkpoints")

    assert (result.exit_code, "as it was sealed" in result.stdout) == (0, True), result.output


def test_links_in_a_folder_of_checkpoints_are_refused(here: Path, world: VerifyWorld) -> None:
    (here / "secret").write_bytes(world.copies.notes[0])
    (here / "checkpoints" / "000").symlink_to(here / "secret")

    assert "checkpoints/000: it is a link" in said_by("verify --offline bucket --key key.txt --against checkpoints")
