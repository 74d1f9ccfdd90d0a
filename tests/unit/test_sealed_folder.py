"""A download of the evidence bucket that comes from somebody who wants to mislead or to harm whoever verifies it."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from handlers.core.errors import RetryableError
from handlers.core.evidence.verifying import MAX_KEPT, Wanted
from handlers.operate.errors import OperateError
from handlers.operate.sealed_folder import MAX_OBJECT, SealedFolder
from schemas.keys import LOG
from schemas.sealed import ObjectKind, SealedObject
from tests.fakes import NOON
from tests.operator_cli import operator_cli
from tests.verifying import VerifyWorld, download, key_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

SECRET = b"what is outside of the folder"


@pytest.fixture
def world() -> VerifyWorld:
    return VerifyWorld.with_batches(3, 2)


@pytest.fixture
def folder(world: VerifyWorld, tmp_path: Path) -> Path:
    return download(world, tmp_path)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a file that does not belong to the download."""
    path = tmp_path / "outside" / "secret"
    path.parent.mkdir()
    path.write_bytes(SECRET)
    return path


def run(world: VerifyWorld, folder: Path, command: str = "verify", *arguments: str) -> Result:
    tool = operator_cli()
    tool.queues.clock, tool.is_missing = world.clock, True
    return tool.run(command, *arguments, "--offline", str(folder), "--key", key_file(world, folder.parent), "--json")


def found(world: VerifyWorld, folder: Path) -> dict[tuple[str, str], str]:
    """Return the meaning of each finding, by its kind and what it is about."""
    result = run(world, folder)
    assert result.exit_code == 1, result.output
    return {(each["kind"], each["what"]): each["meaning"] for each in json.loads(result.stdout)["findings"]}


def evidence(world: VerifyWorld) -> str:
    return min(key for key in world.bucket.versions if key.startswith("evidence/"))


def link_to_a_file(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def link_to_a_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside.parent)


def fifo(path: Path, outside: Path) -> None:  # noqa: ARG001 - as the others
    os.mkfifo(path)


def link_to_a_device(path: Path, outside: Path) -> None:  # noqa: ARG001 - as the others
    path.symlink_to("/dev/zero")


def unix_socket(path: Path, outside: Path) -> None:  # noqa: ARG001 - as the others
    here = Path.cwd()
    # The path of a socket is short.
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)
    os.chdir(here)


def large_file(path: Path, outside: Path) -> None:  # noqa: ARG001 - as the others
    with path.open("wb") as file:
        file.truncate(MAX_OBJECT + 1)


KINDS = {
    link_to_a_file: "is a link",
    link_to_a_folder: "is a link",
    fifo: "is a FIFO",
    link_to_a_device: "is a link",
    unix_socket: "is a device or a socket",
    large_file: "67,108,865 bytes",
}
of_each_kind = pytest.mark.parametrize(("make", "says"), KINDS.items(), ids=lambda each: getattr(each, "__name__", ""))


@of_each_kind
def test_what_takes_the_place_of_an_object_is_found_by_its_name(
    world: VerifyWorld, folder: Path, outside: Path, make: Callable[[Path, Path], None], says: str
) -> None:
    key = evidence(world)
    (folder / key).rename(outside)
    make(folder / key, outside)

    findings = found(world, folder)

    assert set(findings) == {("missing", key), ("inserted", key)}
    assert says in findings["inserted", key]


@of_each_kind
def test_what_is_beside_the_objects_is_found_by_its_name(
    world: VerifyWorld, folder: Path, outside: Path, make: Callable[[Path, Path], None], says: str
) -> None:
    make(folder / "acts", outside)
    make(folder / "evidence" / "2026" / "x", outside)

    findings = found(world, folder)

    assert set(findings) == {("inserted", "acts"), ("inserted", "evidence/2026/x")}
    assert says in findings["inserted", "evidence/2026/x"]


@of_each_kind
@pytest.mark.parametrize("command", ["verify", "proof"])
@pytest.mark.parametrize("name", ["log/checkpoints/000/000/001", "log/tile/0/000.p/7", "log/tile", "log"])
def test_a_log_with_something_else_than_files_is_refused_with_its_name(  # noqa: PLR0913, PLR0917 - fixtures
    world: VerifyWorld,
    folder: Path,
    outside: Path,
    make: Callable[[Path, Path], None],
    says: str,
    command: str,
    name: str,
) -> None:
    (folder / name).rename(outside.parent / "moved")
    make(folder / name, outside.parent / "moved")

    result = run(world, folder, command, *([evidence(world)] if command == "proof" else []))

    assert isinstance(result.exception, OperateError)
    assert str(folder / name if name != "log" else folder) in str(result.exception)
    assert (says if name != "log" else "has no folder log") in str(result.exception)


@pytest.mark.parametrize("name", ["log", "log/checkpoints", "evidence", "evidence/2026"])
def test_a_file_in_place_of_a_folder_is_named(world: VerifyWorld, folder: Path, outside: Path, name: str) -> None:
    (folder / name).rename(outside.parent / "moved")
    (folder / name).write_bytes(b"")

    result = run(world, folder)

    if name.startswith("log"):
        assert ("log" if name == "log" else "NOT_SIGNED") in str(result.exception)
    else:
        assert ("inserted", name) in found(world, folder)


@pytest.mark.parametrize(
    ("name", "what", "says"),
    [
        (b"evidence/\xff.json", "evidence/\\xff.json", "not UTF-8"),
        (b"evidence/\xff", "evidence/\\xff", "not UTF-8"),
        (b"/".join([b"evidence", *[b"x" * 200] * 6]), None, "longer than 1,024 bytes"),
        (b"evidence/2026/\x1b[2J\n.json", "evidence/2026/ [2J .json", "no part of Joinguard writes"),
        ("evidence/é".encode(), "evidence/ ", "no part of Joinguard writes"),
        ("evidence/e\u0301".encode(), "evidence/e ", "no part of Joinguard writes"),
    ],
)
def test_names_that_no_object_has_are_findings(
    world: VerifyWorld, folder: Path, name: bytes, what: str | None, says: str
) -> None:
    path = os.path.join(os.fsencode(folder), name)  # noqa: PTH118 - a Path has no bytes
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - likewise
    with open(path, "wb"):  # noqa: PTH123 - likewise
        pass

    [((kind, shown), meaning)] = found(world, folder).items()

    assert (kind, shown if what else None) == ("inserted", what)
    assert says in meaning


def test_names_that_differ_only_in_case_are_different_objects(world: VerifyWorld, folder: Path) -> None:
    key = evidence(world)
    another = folder / key.replace("event-", "EVENT-")
    another.parent.mkdir(parents=True)
    (folder / key).rename(another)

    findings = found(world, folder)

    assert set(findings) == {("missing", key), ("inserted", key.replace("event-", "EVENT-"))}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("evidence/2026/.DS_Store", "macOS or Windows"),
        ("evidence/2026/._11", "macOS or Windows"),
        ("log/tile/.DS_Store", "macOS or Windows"),
        ("evidence/2026/0001.json.3fA2bC9d", "interrupted download"),
        ("log/checkpoints/000/000/001.e1B2c3D4", "interrupted download"),
    ],
)
def test_files_that_others_leave_beside_objects_are_said_to_be_that(
    world: VerifyWorld, folder: Path, name: str, says: str
) -> None:
    (folder / name).write_bytes(b"x")

    [((kind, what), meaning)] = found(world, folder).items()
    [finding] = json.loads(run(world, folder).stdout)["findings"]

    assert (kind, what, says in meaning) == ("inserted", name, True)
    assert "delete it" in finding["next_step"]


def test_folders_as_deep_as_a_key_is_long_are_read(world: VerifyWorld, folder: Path) -> None:
    path = folder / "evidence" / Path(*["d"] * 500) / "x"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")

    [(kind, what)] = found(world, folder)

    assert (kind, what[:99]) == ("inserted", f"evidence/{'d/' * 45}")


def test_what_others_have_outside_of_the_logs_prefixes_is_not_about_the_log(
    world: VerifyWorld, folder: Path, outside: Path
) -> None:
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "elsewhere").symlink_to(outside.parent)

    assert run(world, folder).exit_code == 0


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read by anybody")
def test_a_file_that_cannot_be_read_is_named() -> None:
    folder = SealedFolder(Path("/proc/self"))

    with pytest.raises(OperateError, match="cannot read /proc/self/mem: Input/output error"):
        folder.read("mem")
    with pytest.raises(OperateError, match="cannot read /proc/self/mem: Input/output error"):
        list(folder.fetch([Wanted("mem", "", 0)]))


# ---------------------------------------------------------------- keys of a log that somebody else signed

HOSTILE = (
    "../outside/secret",
    "evidence/../../outside/secret",
    "evidence/./../../outside/secret",
    "evidence//../../outside/secret",
    "link/secret",
    "evidence/a\0b",
    "evidence/" + "x" * 300,
    "x/" * 500,
    "evidence/\ud800",
    "",
    "/",
    ".",
    "evidence",
    "evidence/",
    "file/below",
    "fifo",
)


@settings(max_examples=200)
@given(st.lists(st.sampled_from(["..", ".", "", "outside", "secret", "link", "log", "\0"]), max_size=8).map("/".join))
@example("ABSOLUTE")
def test_no_key_leads_out_of_a_folder(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    top = tmp_path_factory.mktemp("top")
    (top / "outside").mkdir()
    (top / "outside" / "secret").write_bytes(SECRET)
    (top / "bucket" / "log").mkdir(parents=True)
    (top / "bucket" / "link").symlink_to(top / "outside")
    (top / "bucket" / "secret").symlink_to(top / "outside" / "secret")
    (top / "bucket" / "fifo").symlink_to(top / "outside")
    folder = SealedFolder(top / "bucket")
    key = key.replace("ABSOLUTE", str(top / "outside" / "secret"))

    with pytest.raises(RetryableError):
        folder.read(key)
    assert [each.sha256 for each in folder.fetch([Wanted(key, "", 0)])] == [None]
    assert [each.key for each in folder.listed(f"{key}/")] == []


@pytest.mark.parametrize("key", HOSTILE)
def test_a_key_that_no_file_has_is_an_object_that_is_not_there(tmp_path: Path, outside: Path, key: str) -> None:
    bucket = tmp_path / "bucket"
    (bucket / "evidence").mkdir(parents=True)
    (bucket / "file").write_bytes(b"x")
    (bucket / "link").symlink_to(outside.parent)
    os.mkfifo(bucket / "fifo")

    with pytest.raises(RetryableError, match="the folder has no file"):
        SealedFolder(bucket).read(key)
    assert next(SealedFolder(bucket).fetch([Wanted(key, "", 0)])).sha256 is None


@pytest.mark.parametrize("key", [*(each for each in HOSTILE if each.isprintable()), "evidence/a\0b", "ABSOLUTE"])
def test_a_key_in_the_log_that_leads_elsewhere_is_a_finding_and_is_not_read(
    world: VerifyWorld, tmp_path: Path, outside: Path, key: str
) -> None:
    key = str(outside) if key == "ABSOLUTE" else key
    leaf: Any = {"kind": ObjectKind.EVIDENCE, "version_id": "1", "sha256": "0" * 64, "size": len(SECRET)}
    hostile = SealedObject(key=key, modified_at=NOON, **leaf)
    first, *others = world.batches()
    world.write_log([[first.model_copy(update={"objects": 1}), hostile]])
    assert others
    folder = download(world, tmp_path)

    result = run(world, folder)

    assert result.exit_code == 1, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert SECRET.decode() not in result.output
    meanings = [each["meaning"] for each in json.loads(result.stdout)["findings"]]
    assert "no part of Joinguard writes an object with such a key" in meanings


def test_large_files_are_hashed_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x" * MAX_KEPT)
    (tmp_path / "large").write_bytes(b"x" * (MAX_KEPT + 1))

    small, large = SealedFolder(tmp_path).fetch([Wanted("small", "", 0), Wanted("large", "", 0)])

    assert (small.size, small.body) == (MAX_KEPT, b"x" * MAX_KEPT)
    assert (large.size, large.body, bool(large.sha256)) == (MAX_KEPT + 1, None, True)
    assert len(SealedFolder(tmp_path).read("large", limit=10)) == 11


def test_a_file_that_is_larger_than_any_object_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_OBJECT + 1)

    assert next(SealedFolder(tmp_path).fetch([Wanted("large", "", 0)])).sha256 is None


def test_a_tile_that_is_too_long_is_not_read_for_a_proof(world: VerifyWorld, folder: Path) -> None:
    [tile] = (folder / LOG / "tile" / "0").glob("000.p/7")
    tile.write_bytes(tile.read_bytes() + bytes(10_000))

    result = run(world, folder, "proof", evidence(world))

    # At most one byte more than a tile has.
    assert "000.p/7 has 8193 bytes instead of 224" in str(result.exception)
