"""The function that seals, created from its environment: its answer, its log line, its metrics, its errors."""

from __future__ import annotations

import io
import json
import logging
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from handlers.bootstrap import sealer
from handlers.core.errors import RetryableError, fault
from handlers.seal_evidence import lambda_handler
from handlers.sealing import SealFailedError, logger, metrics, seal
from handlers.settings import SettingsError
from schemas.sealed import SealState
from tests.integration.test_sweep_handler import published
from tests.sealing import SealWorld
from tests.unit.test_sealing import with_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTEXT: Any = SimpleNamespace(aws_request_id="request-1", get_remaining_time_in_millis=lambda: 900_000)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return what the function logs; powertools' handler does not follow pytest's stdout."""
    text = io.StringIO()
    [handler] = logger.handlers
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(text)
    metrics.clear_metrics()
    yield text
    handler.setStream(before)


def test_what_was_sealed_is_counted_and_logged(log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    w = with_objects(3)
    w.bucket.put("configuration/111122223333.json", announced=False)
    w.bucket.delete("configuration/111122223333.json")

    assert seal(CONTEXT, w.sealer) == {"size": 4, "batches": 1, "objects": 3}

    [line] = [json.loads(each) for each in log.getvalue().splitlines()]
    assert (line["level"], line["message"], line["objects"], line["foreign"]) == ("ERROR", "sealed", 3, 2)
    found = published(capsys.readouterr().out)
    assert found == {
        "CheckpointsSigned": 1,
        "ObjectsSealed": 3,
        "UnannouncedObjects": 0,
        "DeletedObjects": 0,
        "ForeignObjects": 2,
        "CheckpointsNotCopied": 0,
    }
    assert "111122223333" not in log.getvalue()


def test_zeros_are_published_too(log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    w = SealWorld()
    seal(CONTEXT, w.sealer)
    capsys.readouterr()

    seal(CONTEXT, w.sealer)

    assert set(published(capsys.readouterr().out).values()) == {0, 1}
    assert [json.loads(each)["level"] for each in log.getvalue().splitlines()] == ["INFO", "INFO"]


def test_a_copy_that_fails_is_a_warning(log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    w = SealWorld()
    w.steps.fail("copy", RetryableError(fault("S3.AccessDenied", "denied")))

    seal(CONTEXT, w.sealer)

    [line] = [json.loads(each) for each in log.getvalue().splitlines()]
    assert (line["level"], line["copy_fault"]["code"], line["behind"]) == ("WARNING", "S3.AccessDenied", 1)
    assert published(capsys.readouterr().out)["CheckpointsNotCopied"] == 1


def test_a_copy_of_another_checkpoint_is_an_error(log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    w = SealWorld()
    w.copies.notes[0] = b"another log"

    seal(CONTEXT, w.sealer)

    [line] = [json.loads(each) for each in log.getvalue().splitlines()]
    assert (line["level"], line["copy_fault"]["code"]) == ("ERROR", "CHECKPOINT_DIFFERS")
    assert published(capsys.readouterr().out)["ForeignObjects"] == 1


def test_a_state_that_was_not_possible_is_a_warning(log: io.StringIO) -> None:
    w = SealWorld()
    w.index.kept = SealState(compared_at=w.clock.now() + timedelta(days=1))

    seal(CONTEXT, w.sealer)

    [line] = [json.loads(each) for each in log.getvalue().splitlines()]
    assert (line["level"], line["restored"]) == ("WARNING", True)


def test_a_call_that_fails_is_an_error_of_the_function(log: io.StringIO) -> None:
    w = with_objects(1)
    w.steps.fail("sign", RetryableError(fault("KMS.DisabledException", "the key is disabled")))

    with pytest.raises(SealFailedError, match=r"KMS\.DisabledException: the key is disabled"):
        seal(CONTEXT, w.sealer)

    assert "DisabledException" in log.getvalue()


def test_what_was_found_is_published_although_the_function_fails(
    log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    w = with_objects(1)
    w.bucket.put("configuration/other.json", announced=False)
    w.steps.fail("versions", None, None, RetryableError(fault("S3.SlowDown", "slow down")))

    with pytest.raises(SealFailedError) as error:
        seal(CONTEXT, w.sealer)

    metrics = published(capsys.readouterr().out)
    assert metrics["ForeignObjects"] == 1
    assert "CheckpointsNotCopied" not in metrics, "a 0 would end the alarm of copies that are behind"
    [line] = [json.loads(each) for each in log.getvalue().splitlines()]
    assert (line["level"], line["message"], line["foreign"]) == ("ERROR", "the evidence was not sealed", 1)
    assert line["error"] == str(error.value)


def test_an_unexpected_error_names_no_account(log: io.StringIO) -> None:
    w = with_objects(1)
    w.steps.fail("describe", ZeroDivisionError("account 1111-2222-3333"))

    with pytest.raises(SealFailedError, match="ZeroDivisionError") as error:
        seal(CONTEXT, w.sealer)

    assert "2222" not in str(error.value) + log.getvalue()


@pytest.mark.parametrize("missing", ["SEAL_KEY_ID", "DATA_KEY_ARN", "EVIDENCE_BUCKET", "SEALED_TABLE", "LOG_NAME"])
def test_a_missing_setting_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "EVIDENCE_BUCKET",
        "ANNOUNCEMENTS_QUEUE_URL",
        "SEALED_TABLE",
        "SEAL_KEY_ID",
        "DATA_KEY_ARN",
        "LOG_NAME",
    ):
        monkeypatch.setenv(name, "" if name == missing else "x")
    sealer.cache_clear()

    with pytest.raises(SettingsError, match=missing):
        lambda_handler({}, CONTEXT)
