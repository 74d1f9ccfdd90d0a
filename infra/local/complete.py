"""Bring the embedded AWS to what the template says, and say what it cannot show.

The stand-in (ministack 1.5.33) reports CREATE_COMPLETE although it drops some properties. Here, in one
place: what it dropped is set by API, everything that matters is read back, and `NOT_CHECKED` names the rest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.local.standin import StandIn

#: What the template says and no test against the embedded AWS can show; the template's own tests hold these.
NOT_CHECKED: Final = (
    "TLS only: the stand-in speaks plain HTTP, so the statement is taken out of its queue and bucket policies",
    "only the rule may send to the queue: the stand-in delivers whatever the queue policy says",
    "time-outs, retries and the dead-letter queue of the rule's target: never undelivered there",
    "encryption at rest and point-in-time recovery of the table, log retention: accepted and not kept",
    "the function's memory and its Python version: it runs on the interpreter that runs this",
    "the limit of ten policies an account, throttles and conflicting changes in Organizations: never refused",
)


class IncompleteError(Exception):
    """Something that matters is not as the template says, even after completing it."""


def complete(aws: StandIn, stack: str, parameters: Mapping[str, str]) -> None:
    """Complete and verify a deployed stack; raise IncompleteError naming each difference."""
    resources = {
        each["LogicalResourceId"]: each["PhysicalResourceId"]
        for each in aws.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    }
    _speak_plainly(aws, resources)
    _lock(aws, resources["Evidence"], parameters)
    differences = list(_differences(aws, resources, parameters))
    if differences:
        message = f"the embedded AWS differs from the template: {'; '.join(differences)}"
        raise IncompleteError(message)


def _speak_plainly(aws: StandIn, resources: Mapping[str, str]) -> None:
    """Take the TLS-only statements out, as one who comes over TLS (the header says so)."""
    sqs, s3 = (_over_tls(aws.client(service)) for service in ("sqs", "s3"))
    for queue in (resources["Joins"], resources["Undelivered"]):
        policy = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])["Attributes"]["Policy"]
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": _without_tls(policy)})
    bucket = resources["Evidence"]
    s3.put_bucket_policy(Bucket=bucket, Policy=_without_tls(s3.get_bucket_policy(Bucket=bucket)["Policy"]))


def _over_tls(client: Any) -> Any:  # noqa: ANN401 - any client
    client.meta.events.register("before-sign", lambda request, **_: request.headers.add_header("X-Forwarded-Proto", "https"))
    return client


def _without_tls(policy: str) -> str:
    document = json.loads(policy)
    document["Statement"] = [each for each in document["Statement"] if each.get("Sid") != "OnlyOverTls"]
    return json.dumps(document)


def _lock(aws: StandIn, bucket: str, parameters: Mapping[str, str]) -> None:
    """Set the default retention, which the stand-in's CloudFormation drops."""
    aws.client("s3").put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": _retention(parameters)},
        },
    )


def _retention(parameters: Mapping[str, str]) -> dict[str, Any]:
    return {"Mode": parameters["RetentionMode"], "Days": int(parameters["RetentionDays"])}


def _differences(aws: StandIn, resources: Mapping[str, str], parameters: Mapping[str, str]) -> Any:
    ...
