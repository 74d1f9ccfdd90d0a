"""How boto3 is told to talk, seen in a process of its own, since clients are made once a process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from infra.deploy.build import ROOT

CODE = """if True:
    import json
    from handlers.aws.clients import client
    made = {name: client(name) for name in ("organizations", "dynamodb", "s3", "sqs", "kms")}
    print(json.dumps({
        name: [each.meta.endpoint_url, each.meta.config.retries, each.meta.config.connect_timeout,
               each.meta.config.read_timeout] for name, each in made.items()
    }))
"""


def told(**environment: str) -> dict[str, Any]:
    base = {"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", CODE], cwd=ROOT, env=base | environment, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_endpoints_come_from_the_standard_variables_alone() -> None:
    plain = told()
    assert plain["sqs"][0] == "https://sqs.eu-central-1.amazonaws.com"

    one = told(AWS_ENDPOINT_URL_ORGANIZATIONS="http://127.0.0.1:1")
    assert one["organizations"][0] == "http://127.0.0.1:1"
    assert {name: each[0] for name, each in one.items() if name != "organizations"} == {
        name: each[0] for name, each in plain.items() if name != "organizations"
    }

    everything = told(AWS_ENDPOINT_URL="http://127.0.0.1:2", AWS_ENDPOINT_URL_ORGANIZATIONS="http://127.0.0.1:1")
    assert {each[0] for each in everything.values()} == {"http://127.0.0.1:1", "http://127.0.0.1:2"}


def test_retries_and_time_outs_are_set_on_purpose() -> None:
    for name, (_, retries, connect, read) in told().items():
        assert retries["mode"] == "standard"
        assert retries["total_max_attempts"] == (1 if name == "organizations" else 3)
        assert (connect, read) == (2, 5)
