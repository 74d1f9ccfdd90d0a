"""What a shell completes, through the protocol with which a shell asks the installed command."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.operate.completion import Seen
from infra.deploy.build import ROOT
from schemas.events import KNOWN_EVENT_NAMES
from tests.fake_queues import dead_letter
from tests.fakes import ACCOUNT
from tests.operator_cli import CHANGE_BODY, CONFIRM, OperatorCli, operator_cli

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

BACKUP: Final = "backups/2026/11/24/0a1b2c.jsonl"
#: What each shell sends: all words of the line, and the number or the text of the word at the cursor.
SHELLS: Final[dict[str, Callable[[Sequence[str]], dict[str, str]]]] = {
    "bash": lambda words: {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
    "zsh": lambda words: {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
    "fish": lambda words: {"COMP_WORDS": " ".join(words), "COMP_CWORD": words[-1]},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's cache directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ask(*words: str, shell: str = "bash", **environment: str) -> subprocess.CompletedProcess[str]:
    """Ask for the completions of the last word, as a shell does after Tab."""
    return subprocess.run(
        [sys.executable, "-m", "handlers.operate"],
        cwd=ROOT,
        env=os.environ
        | {"_JOINGUARD_COMPLETE": f"{shell}_complete"}
        | SHELLS[shell](("joinguard", *words))
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def completed(*words: str, shell: str = "bash", **environment: str) -> list[str]:
    """Return the completions of the last word, which the shell gets without any error."""
    done = ask(*words, shell=shell, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if line]
    if shell == "zsh":
        # Three lines each: type, value, help.
        return lines[1::3]
    # The value follows the type; fish gets its help after a tab.
    return [line.partition(",")[2].partition("\t")[0] for line in lines]


def tool(*messages: str, stack: str = "joinguard") -> OperatorCli:
    """Return a tool that keeps what it displays, with messages of these ids."""
    letters = [replace(dead_letter(number), message_id=each) for number, each in enumerate(messages, 1)]
    made = operator_cli(*letters)
    made.seen = Seen.of(stack)
    return made


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_the_ids_that_the_last_list_displayed(shell: str) -> None:
    tool("8f14e45f-1", "8f14-2", "c4ca4238-3").run("list")

    assert completed("show", "8f", shell=shell) == ["8f14e45f-1", "8f14-2"]
    assert completed("edit", "c4", shell=shell) == ["c4ca4238-3"]
    assert completed("redrive", "--id", "8f14e", shell=shell) == ["8f14e45f-1"]
    assert completed("drop", "--id", "8f14-2", "--id", "c", shell=shell) == ["c4ca4238-3"]


def test_the_last_list_replaces_the_messages_of_the_one_before() -> None:
    tool("gone-1", "left-2").run("list")
    tool("left-2", "new-3").run("list")

    assert completed("show", "") == ["left-2", "new-3"]


def test_a_list_of_some_messages_keeps_the_others() -> None:
    both = tool("one-1", "two-2")
    both.run("list")
    both.run("list", "--older-than", "5d")

    assert set(completed("show", "")) == {"one-1", "two-2"}


def test_show_outcome_and_outcomes_add_the_ids_of_events() -> None:
    ours = tool("m-1")
    ours.queues.add_failure(dead_letter(1))
    ours.queues.add_failure(dead_letter(2))
    ours.run("list")
    ours.run("show", "m-1")
    assert completed("show", "") == ["m-1", "event-1"]
    assert set(completed("redrive", "--event", "e")) == {"event-1"}

    ours.run("outcomes")

    assert set(completed("redrive", "--event", "e")) == {"event-1", "event-2"}
    assert set(completed("redrive", "--event", "")) == {"event-1", "event-2", *KNOWN_EVENT_NAMES}


def test_outcome_adds_the_ids_of_its_events() -> None:
    ours = tool()
    ours.queues.add_failure(dead_letter(3))

    ours.run("outcome", ACCOUNT)

    assert completed("show", "event") == ["event-3"]


def test_keys_of_backups_are_completed_after_drop_edit_and_backups() -> None:
    ours = tool("m-1")
    ours.run("drop", "--id", "m-1", *CONFIRM)
    [dropped] = ours.bucket.locks
    assert completed("restore", "back") == [dropped]
    ours.queues.messages = [dead_letter(1)]
    ours.run("edit", "m-1", *CONFIRM, **CHANGE_BODY)
    assert set(completed("restore", "")) == set(ours.bucket.locks)

    ours.bucket.objects = {BACKUP: b""}
    ours.run("backups")

    assert completed("restore", "") == [BACKUP]


def test_each_stack_has_its_own_ids() -> None:
    tool("m-1").run("list")
    tool("m-2", stack="joinguard-test").run("list")

    assert completed("show", "") == ["m-1"]
    assert completed("--stack", "joinguard-test", "show", "") == ["m-2"]
    assert completed("--region", "us-east-1", "--stack", "joinguard-other", "show", "") == []


def test_an_account_id_is_neither_kept_nor_completed(cache: Path) -> None:
    ours = tool(f"m-{ACCOUNT}")
    event = json.loads(dead_letter(1).body)
    event["detail"]["eventID"] = f"event-{ACCOUNT}"
    ours.queues.messages += [dead_letter(2, body=json.dumps(event))]
    ours.run("list")
    ours.run("show", "m-2")

    [file] = (cache / "joinguard").iterdir()
    assert ACCOUNT not in file.read_text() + file.name
    assert completed("show", "") == ["m-2"]


def test_only_the_user_may_read_the_file(cache: Path) -> None:
    os.umask(0)
    try:
        tool("m-1").run("list")
        tool("m-2").run("list")
    finally:
        os.umask(0o022)

    [file] = (cache / "joinguard").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_the_file_stays_small(cache: Path) -> None:
    seen = Seen.of("joinguard")
    for number in range(3):
        seen.add("events", [f"{number}-{'x' * 100}-{each}" for each in range(1000)])

    [file] = (cache / "joinguard").iterdir()
    assert file.stat().st_size < 100_000
    assert seen.ids("events")[0].startswith("2-")
    assert len(seen.ids("events")) == 500


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\x00",
        b"[]",
        b"1",
        b'{"messages": 7}',
        b'{"messages": [7, null, "a b", "$(id)"]}',
        b"[" * 100_000,
    ],
    ids=range(8),
)
def test_a_broken_file_completes_nothing_and_is_replaced(content: bytes) -> None:
    seen = Seen.of("joinguard")
    seen.path.parent.mkdir(parents=True)
    seen.path.write_bytes(content)
    assert completed("show", "") == []

    assert tool("m-1").run("list").exit_code == 0

    assert completed("show", "") == ["m-1"]


@pytest.mark.parametrize("where", ["a file", "a directory without permissions", "/dev/null/x"])
def test_a_cache_that_cannot_be_used_is_no_error(where: str, tmp_path: Path) -> None:
    if where == "a file":
        (tmp_path / "cache").write_text("x")
    elif where == "a directory without permissions":
        (tmp_path / "cache").mkdir(mode=0)
    else:
        os.environ["XDG_CACHE_HOME"] = where

    result = tool("m-1").run("list")

    assert (result.exit_code, result.exception) == (0, None)
    assert "cache" not in result.output
    assert ask("show", "").stderr == ""


def test_the_cache_is_in_the_home_directory_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for relative in ("", "here"):
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert tmp_path in Seen.of("joinguard").path.parents


def test_no_temporary_file_stays(cache: Path) -> None:
    seen = Seen.of("joinguard")
    # Nothing can replace a directory.
    seen.path.mkdir(parents=True)

    seen.add("messages", ["m-1"])

    assert list((cache / "joinguard").iterdir()) == [seen.path]


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("outcome", "1"),
        ("redrive", "--older-than", "x", "--id", ""),
        ("--poll", "x", "show", ""),
        ("--stack", "", "show", ""),
        ("--nothing", "show", ""),
        ("nothing", ""),
        ("restore", "a", "b", ""),
        ("show", '"'),
    ],
    ids=" ".join,
)
def test_whatever_is_typed_no_error_is_printed(words: tuple[str, ...]) -> None:
    tool("m-1").run("list")

    done = ask(*words)

    assert "Traceback" not in done.stderr
    assert done.returncode == 0


def test_an_account_is_not_completed() -> None:
    tool("m-1").run("outcome", ACCOUNT)

    assert completed("outcome", "") == []


def test_completion_imports_no_sdk_and_calls_nobody() -> None:
    """boto3 takes longer to import than everything else together."""
    code = """if True:
        import atexit, os, sys
        atexit.register(lambda: os._exit(3 if {"boto3", "botocore"} & set(sys.modules) else 0))
        sys.addaudithook(lambda event, _: os._exit(4) if event.startswith("socket.") else None)
        from handlers.operate.__main__ import main
        main()
    """
    environment = {"_JOINGUARD_COMPLETE": "bash_complete", "COMP_WORDS": "joinguard show m", "COMP_CWORD": "2"}
    tool("m-1").run("list")

    began = time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "plain,m-1\n")
    assert time.monotonic() - began < 10


@given(st.lists(st.text(max_size=30) | st.sampled_from(["m-1", BACKUP, f"x{ACCOUNT}"]), max_size=5))
def test_only_ids_without_characters_of_the_shell_are_kept(texts: list[str]) -> None:
    seen = Seen.of("hypothesis")

    seen.add("messages", texts, only=True)

    kept = seen.ids("messages")
    assert set(kept) <= set(texts)
    assert len(kept) == len(set(kept))
    assert all(
        each.isascii() and each.replace("-", "").replace("_", "").replace(".", "").replace("/", "").isalnum()
        for each in kept
    )
    assert {"m-1", BACKUP} & set(texts) == {"m-1", BACKUP} & set(kept)
    assert f"x{ACCOUNT}" not in kept


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_that_switches_completion_on_is_printed(shell: str) -> None:
    done = ask(shell=shell, _JOINGUARD_COMPLETE=f"{shell}_source")

    assert done.returncode == 0
    assert f"_JOINGUARD_COMPLETE={shell}_complete" in done.stdout
