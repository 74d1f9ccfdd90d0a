"""`make local` and `make demo`, run as users run them."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from infra.deploy.build import ROOT
from infra.local.client import SAMPLES
from infra.local.demo import run_on
from infra.local.events import handshake_accepted
from infra.local.installation import Installation, build_local
from infra.local.organizations import Organizations, Rules, policies_of, serving
from infra.local.standin import StandIn, running
from infra.local.waiting import HANGS_AFTER, until
from infra.local.watch import Watch
from schemas.outcome import OutcomeStatus
from tests.relay import running_relay

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

KEYS = {
    "endpoint",
    "region",
    "access_key_id",
    "secret_access_key",
    "queue_url",
    "repairs_queue_url",
    "dead_letter_queue_url",
    "undelivered_queue_url",
    "outcomes_table",
    "evidence_bucket",
    "policy_ids",
    "account_ids",
    "organization_id",
    "management_account_id",
    "organizations_endpoint",
}


@pytest.fixture(scope="module", autouse=True)
def _package() -> None:
    """Build the zip first, because packages cannot be downloaded in the environments below."""
    build_local()


#: Settings of a user that must not affect an embedded run.
NOWHERE = "http://127.0.0.1:9"
HOSTILE = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), NOWHERE),
    **dict.fromkeys(
        ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_IAM"), NOWHERE
    ),
    **dict.fromkeys(("AWS_PROFILE", "AWS_DEFAULT_PROFILE"), "nobody"),
    **dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE"), "/nowhere"),
    **dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "eu-central-1"),
    **dict.fromkeys(("AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS", "AWS_DEFAULTS_MODE", "AWS_ACCOUNT_ID_ENDPOINT_MODE"), "odd"),
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SESSION_TOKEN": "token",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": NOWHERE,
    "LANG": "C",
    "COLUMNS": "40",
    "CI": "true",
    "HOME": "/dev/null",
}


@contextmanager
def local(environment: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], Installation]]:
    """Run `make local` in an environment; yield its process and the installation that it prints."""
    with subprocess.Popen(
        [sys.executable, "-m", "infra.local"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(environment),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        try:
            yield process, Installation(**json.loads(line))
        finally:
            # A failed test does not stop the process itself.
            process.terminate()


def end(process: subprocess.Popen[str], sent: signal.Signals) -> tuple[int, str, str]:
    """Send a signal; return exit status, stdout and stderr."""
    process.send_signal(sent)
    stdout, stderr = process.communicate(timeout=HANGS_AFTER)
    return process.returncode, stdout, stderr


def test_local_prints_one_line_stays_up_and_stops_cleanly() -> None:
    """Run it in an environment with PATH alone, without a home folder."""
    with local({"PATH": os.environ["PATH"]}) as (process, at):
        client = StandIn(at.endpoint, ROOT, process).client("sqs")
        urls = [at.queue_url, at.repairs_queue_url, at.dead_letter_queue_url, at.undelivered_queue_url]
        counts = [client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"] for url in urls]
        status, stdout, _ = end(process, signal.SIGINT)

    assert vars(at).keys() == KEYS
    assert len(set(urls)) == 4
    assert {int(each["ApproximateNumberOfMessages"]) for each in counts} == {0}
    assert (status, stdout) == (0, "")
    address = urlsplit(at.endpoint)
    with pytest.raises(ConnectionRefusedError), socket.create_connection((address.hostname, address.port)):
        pass


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | HOSTILE | environment,
    )


def test_sample_events_reach_the_local_pipeline_and_its_settings_are_printed() -> None:
    with local(os.environ) as (process, at):
        # The line is printed before the file is written.
        pid = f"--pid={process.pid}"
        until(lambda: run("infra.local.client", "env", pid).returncode == 0, "the file of the process")
        exported = run("infra.local.client", "env", pid)
        account = f"--account={at.account_ids[1]}"
        sent = [run("infra.local.client", "join", pid, account, f"--kind={kind}") for kind in SAMPLES]
        watch = Watch(StandIn(at.endpoint, ROOT, process), at)
        watch.until_quiet()
        codes = {each["MessageAttributes"]["ERROR_CODE"]["StringValue"] for each in watch.dead_letters()}
        attached = watch.attached(at.account_ids[1])
        end(process, signal.SIGTERM)

    assert {each.returncode for each in sent} == {0}, sent
    assert codes == {"INVALID_EVENT", "WRONG_ORGANIZATION"}
    assert attached == set(at.policy_ids)
    assert f"export AWS_ENDPOINT_URL={at.endpoint}\n" in exported.stdout
    assert "version 1 of the AWS CLI ignores AWS_ENDPOINT_URL for sqs" in exported.stderr
    assert f"export AWS_ENDPOINT_URL_ORGANIZATIONS={at.endpoint}\n" in exported.stdout
    late = run("infra.local.client", "join", pid)
    assert (late.returncode, late.stderr) == (1, "Error: make local is not running; start it in another terminal\n")


def test_local_stops_when_its_terminal_is_closed() -> None:
    """As in a terminal window that runs `make local` itself: only make gets SIGHUP, and waits for us."""
    terminal, ours = pty.openpty()
    leader = subprocess.Popen(
        ["/bin/sh", "-c", 'trap "" HUP; "$0" -m infra.local; exit 0', sys.executable],
        cwd=ROOT,
        stdin=ours,
        stdout=subprocess.PIPE,
        # Nobody reads the terminal, which would fill up.
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    os.close(ours)
    assert leader.stdout is not None
    with leader:
        at = json.loads(leader.stdout.readline())
        os.close(terminal)
        leader.wait(timeout=HANGS_AFTER)

    address = urlsplit(at["endpoint"])
    with pytest.raises(ConnectionRefusedError), socket.create_connection((address.hostname, address.port)):
        pass


def test_local_uses_only_the_endpoint_of_organizations_from_the_users_settings(tmp_path: Path) -> None:
    temporary = tmp_path / "with a space"
    temporary.mkdir()
    organizations = Organizations(Rules(write_seconds=0.0, read_seconds=0.0, attach_rate=1e6, read_rate=1e6))
    with serving(organizations) as endpoint:
        used = {"AWS_ENDPOINT_URL_ORGANIZATIONS": endpoint, "TMPDIR": str(temporary), "FORCE_COLOR": "1"}
        with local(os.environ | HOSTILE | used) as (process, at):
            organizations.policies.update(at.policy_ids)
            organizations.join(at.account_ids[0])
            outcome = enforced(process, at)
            status, _, stderr = end(process, signal.SIGTERM)

    assert outcome is OutcomeStatus.ENFORCED, stderr
    assert policies_of(organizations, at.account_ids[:1]) == {at.account_ids[0]: set(at.policy_ids)}
    assert status == 0
    assert list(temporary.iterdir()) == []


def test_a_join_is_enforced_although_a_third_of_all_calls_to_organizations_fail() -> None:
    faults = {"FAULTS": "faults=0.3,seed=3,attach_rate=50,read_rate=50"}
    with local(os.environ | faults) as (process, at):
        outcome = enforced(process, at)
        status, _, stderr = end(process, signal.SIGHUP)

    assert outcome is OutcomeStatus.ENFORCED, stderr
    assert "Organizations is a double" in stderr
    assert status == 0


def enforced(process: subprocess.Popen[str], at: Installation) -> OutcomeStatus | None:
    """Let an account join; return the status of its outcome."""
    watch = Watch(StandIn(at.endpoint, ROOT, process), at)
    event = handshake_accepted(at.account_ids[0], at.organization_id, at.management_account_id)
    watch.put(event)
    watch.until_quiet()
    outcome = watch.outcome(event["detail"]["eventID"])
    return outcome.status if outcome else None


def test_an_unknown_rule_in_faults_is_refused_with_the_known_rules() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.local"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_AFTER,
        env=os.environ | {"FAULTS": "fault=0.3"},
    )

    assert done.returncode == 1
    assert "'fault' is not a rule of FAULTS; use one of attach_rate" in done.stderr


def test_the_demo_succeeds_in_a_hostile_environment(tmp_path: Path) -> None:
    (tmp_path / "yaml.py").write_text("raise ImportError")
    python = {"PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "error", "PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": "2"}
    done = subprocess.run(
        ["make", "--silent", "demo"],  # noqa: S607 - make from PATH
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_AFTER,
        env=os.environ | HOSTILE | python | {"AWS_ENDPOINT_URL_ORGANIZATIONS": NOWHERE},
        umask=0o077,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every account carries its policies." in done.stdout
    assert "PolicyTypeNotEnabledException" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_demo_fails_if_a_result_is_not_as_expected(capsys: pytest.CaptureFixture[str]) -> None:
    with running_relay() as relay:
        relay.fail_all((400, "PolicyTypeNotEnabledException"))
        status = run_on(running(relay.endpoint))

    assert status == 1
    assert "failed: an invited account joins: FAILED, not ENFORCED" in capsys.readouterr().out
