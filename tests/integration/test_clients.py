"""The settings of boto3's clients, each read in a new process, because a process creates its clients once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from infra.deploy.build import ROOT

SERVICES = ("dynamodb", "kms", "organizations", "s3", "sqs")
MADE = """if True:
    import json
    from handlers.aws.clients import client
    made = {name: client(name) for name in ("dynamodb", "kms", "organizations", "s3", "sqs")}
"""
SETTINGS = f"""{MADE}
    print(json.dumps({{
        name: {{
            "url": each.meta.endpoint_url,
            "mode": each.meta.config.retries["mode"],
            "attempts": each.meta.config.retries["total_max_attempts"],
            "seconds": [each.meta.config.connect_timeout, each.meta.config.read_timeout],
            "keepalive": each.meta.config.tcp_keepalive,
            "agent": each.meta.config.user_agent_extra,
        }} for name, each in made.items()
    }}))
"""
# botocore imports `sleep` from `time`, so replacing it first removes the pauses.
ATTEMPTS = f"""if True:
    import time
    time.sleep = lambda seconds: None
{MADE}
    from collections import Counter
    from botocore.exceptions import ConnectionClosedError
    sent = Counter()
    def fail(request, event_name, **_):
        sent[event_name.split(".")[1]] += 1
        raise ConnectionClosedError(endpoint_url=request.url)
    calls = {{
        "dynamodb": lambda each: each.list_tables(),
        "kms": lambda each: each.list_keys(),
        "organizations": lambda each: each.attach_policy(PolicyId="p-aaaaaaaa", TargetId="222222222222"),
        "s3": lambda each: each.put_object(Bucket="bucket", Key="key", Body=b"", IfNoneMatch="*"),
        "sqs": lambda each: each.list_queues(),
    }}
    for name, each in made.items():
        each.meta.events.register("before-send", fail)
        try:
            calls[name](each)
        except ConnectionClosedError:
            pass
    print(json.dumps(sent))
"""


def run(code: str, **environment: str) -> dict[str, Any]:
    base = {
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], cwd=ROOT, env=base | environment, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def urls(**environment: str) -> dict[str, str]:
    return {name: each["url"] for name, each in run(SETTINGS, **environment).items()}


def test_endpoints_come_from_the_standard_variables_alone() -> None:
    plain = urls()
    assert plain["sqs"] == "https://sqs.eu-central-1.amazonaws.com"
    # Organizations has one endpoint for all Regions of the partition.
    assert plain["organizations"] == "https://organizations.us-east-1.amazonaws.com"

    one, two = "http://127.0.0.1:1", "http://127.0.0.1:2"
    assert urls(AWS_ENDPOINT_URL_ORGANIZATIONS=one) == plain | {"organizations": one}
    assert urls(AWS_ENDPOINT_URL=two, AWS_ENDPOINT_URL_ORGANIZATIONS=one) == dict.fromkeys(SERVICES, two) | {
        "organizations": one
    }


def test_retries_and_timeouts_are_set_explicitly() -> None:
    for name, each in run(SETTINGS).items():
        assert each["mode"] == "standard"
        assert each["attempts"] == (1 if name == "organizations" else 3)
        assert each["seconds"] == [2, 5]
        assert each["keepalive"] is True
        assert each["agent"] == "joinguard"


def test_the_environment_does_not_change_the_retries() -> None:
    found = run(SETTINGS, AWS_MAX_ATTEMPTS="7", AWS_RETRY_MODE="legacy")

    assert {name: (each["mode"], each["attempts"]) for name, each in found.items()} == {
        name: ("standard", 1 if name == "organizations" else 3) for name in SERVICES
    }


def test_botocore_sends_a_call_to_organizations_once_and_any_other_three_times() -> None:
    assert run(ATTEMPTS) == dict.fromkeys(SERVICES, 3) | {"organizations": 1}
