"""Delete an installation: show what happens to each resource, stop the intake, and leave a record."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from handlers.aws.kms_pseudonyms import KmsPseudonyms
from handlers.core.errors import JoinguardError
from handlers.core.redaction import redact, redact_words
from infra.deploy.actor import actor_of, unique_id_of
from infra.deploy.adopt import is_kept
from infra.deploy.code import bucket_name
from infra.deploy.keys import WAITING_DAYS, schedule_deletion
from infra.deploy.preflight import EVENT_REGIONS
from infra.deploy.pseudonym_keys import key_in_force
from infra.deploy.queues import messages_in
from infra.deploy.stack import DeployError, Stack, delete, find
from infra.deploy.template import load

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping
    from pathlib import Path

    from mypy_boto3_cloudformation import CloudFormationClient

    from infra.deploy.stages import Target

_WAITING_IN: Final[Mapping[str, str]] = {
    "Joins": "joins",
    "Repairs": "repairs",
    "Removals": "removals",
    "DeadLetters": "dead letters",
    "Undelivered": "undelivered events",
}
#: What the workers have to handle. Each worker sends to the other's queue, so all have to be empty together.
_INTAKE: Final = ("joins", "repairs", "removals")
#: The function that requests policies by itself.
_SWEEP: Final = "Sweeper"
#: SQS's counts are approximate for up to a minute, and a message may change queues between the two counts. So empty
#: queues must be seen more than once.
_SEEN_EMPTY: Final = 3


@dataclass(frozen=True)
class Fate:
    """What happens to a resource when the stack is deleted, and why."""

    name: str
    resource_type: str
    resource_id: str
    kept: bool
    why: str
    #: After how many days a kept resource is deleted; None if it remains.
    days: int | None = None

    @property
    def outcome(self) -> str:
        """What happens, in words."""
        if not self.kept:
            return "deleted"
        return "kept" if self.days is None else f"deleted after {self.days} days"


@dataclass(frozen=True)
class Installed:
    """A stack that can be deleted, with what its template says about its resources."""

    stack: Stack
    template: Mapping[str, Any]
    #: Physical ids by logical id.
    ids: Mapping[str, str]


@dataclass(frozen=True)
class Order:
    """What an operator asks for."""

    reason: str
    #: Whether joins, repairs and removals that wait are deleted too.
    discard_joins: bool = False
    #: How long joins that still arrive, and removals after them, may take.
    drain_seconds: int = 300
    #: Keys that the stack keeps and that are deleted after it: logical ids with key ids.
    keys: Mapping[str, str] = field(default_factory=dict)


def read_installed(target: Target) -> Installed:
    """Read the stack; raise DeployError with the next step if there is none or it cannot be deleted now."""
    stage, cloudformation = target.stage, target.client("cloudformation")
    stack = find(cloudformation, stage.stack)
    if stack is None:
        raise DeployError(f"there is no stack {stage.stack} in {stage.region}, so there is nothing to delete")
    if stack.meaning.step == "wait":
        raise DeployError(f"{stack}; {stack.next_step}")
    return _read(cloudformation, stack)


def _read(cloudformation: CloudFormationClient, stack: Stack) -> Installed:
    # A stack that nobody created has no template and no resources.
    template = {} if stack.status == "REVIEW_IN_PROGRESS" else _template(cloudformation, stack.stack_id)
    ids = {
        each["LogicalResourceId"]: each.get("PhysicalResourceId", "")
        for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack.stack_id)
        for each in page["StackResourceSummaries"]
        if each["ResourceStatus"] != "DELETE_COMPLETE"
    }
    return Installed(stack, template, ids)


def _template(cloudformation: CloudFormationClient, stack_id: str) -> dict[str, Any]:
    body: Any = cloudformation.get_template(StackName=stack_id, TemplateStage="Original")["TemplateBody"]
    # botocore parses templates in JSON, but not those in YAML.
    return load(body) if isinstance(body, str) else dict(body)


def fates(installed: Installed, template_with_comments: Path, ending: Container[str] = ()) -> list[Fate]:
    """Return what happens to each resource of the stack, the kept ones first; keys in `ending` are deleted later."""
    text = template_with_comments.read_text().splitlines()
    resources = installed.template.get("Resources", {})
    found = [
        Fate(
            name,
            resources[name]["Type"],
            resource_id,
            is_kept(resources[name]),
            comment_above(text, name),
            WAITING_DAYS if name in ending else None,
        )
        for name, resource_id in installed.ids.items()
        if name in resources
    ]
    return sorted(found, key=lambda fate: not fate.kept)


def comment_above(lines: list[str], name: str) -> str:
    """Return the first sentence of the comment above a resource."""
    if f"  {name}:" not in lines:
        return ""
    end = lines.index(f"  {name}:")
    start = end
    while lines[start - 1].startswith("  #"):
        start -= 1
    return " ".join(line.strip(" #") for line in lines[start:end]).split(". ")[0].rstrip(".")


def unprotected(installed: Installed) -> list[str]:
    """Return the kept queues and buckets whose policy would be deleted, as it would by templates of older versions."""
    resources = {name: installed.template.get("Resources", {}).get(name, {}) for name in installed.ids}
    kept = {name for name, each in resources.items() if is_kept(each)}
    found = []
    for name, each in resources.items():
        if each.get("Type") in {"AWS::SQS::QueuePolicy", "AWS::S3::BucketPolicy"} and name not in kept:
            properties = each["Properties"]
            covered = {ref["Ref"] for ref in properties.get("Queues", [properties.get("Bucket", {})]) if "Ref" in ref}
            found += sorted(covered & kept)
    return found


def besides(target: Target, account_id: str, partition: str) -> list[Fate]:
    """Return what the tooling made outside the stack, or in it without a template."""
    stage, cloudformation = target.stage, target.client("cloudformation")
    sets = [
        Fate(each["ChangeSetName"], "change set", each["ChangeSetId"], kept=False, why="It belongs to the stack")
        for page in cloudformation.get_paginator("list_change_sets").paginate(StackName=stage.stack)
        for each in page["Summaries"]
    ]
    return [*_forwarder(target, EVENT_REGIONS.get(partition, stage.region)), *_code(target, account_id), *sets]


def _forwarder(target: Target, region: str) -> Iterator[Fate]:
    """Yield the forwarder's stack and its resources, none of which `destroy` deletes."""
    name, cloudformation = target.stage.forwarder, target.client("cloudformation", region=region)
    forwarder = find(cloudformation, name)
    if forwarder:
        why = (
            f"It is a stack of its own and would forward events to nowhere. Delete it: aws cloudformation "
            f"delete-stack --region {region} --stack-name {name}"
        )
        yield Fate(name, f"stack in {region}", forwarder.stack_id, kept=True, why=why)
        installed = _read(cloudformation, forwarder)
        for logical_id, resource_id in installed.ids.items():
            resource = installed.template.get("Resources", {}).get(logical_id, {})
            why = f"The deletion of stack {name} {'keeps' if is_kept(resource) else 'deletes'} it"
            yield Fate(logical_id, resource.get("Type", ""), resource_id, kept=True, why=why)


def _code(target: Target, account_id: str) -> Iterator[Fate]:
    bucket = target.stage.parameters.get("CodeBucket") or bucket_name(account_id, target.stage.region)
    try:
        target.client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=account_id)
    except ClientError:
        return
    why = (
        "It has the zips and templates of all stages in this account and Region. Empty and delete it after the last one"
    )
    yield Fate("code bucket", "AWS::S3::Bucket", bucket, kept=True, why=why)


def waiting(target: Target, installed: Installed) -> dict[str, int]:
    """Return how many messages each queue of the stack has: visible, in flight, and delayed together.

    Leaves out queues that do not exist any more.
    """
    sqs = target.client("sqs")
    counts = {}
    for name, what in _WAITING_IN.items():
        if name in installed.ids:
            try:
                counts[what] = messages_in(sqs, installed.ids[name])
            except sqs.exceptions.QueueDoesNotExist:
                continue
    return counts


def listed(counts: Mapping[str, int]) -> str:
    """Return counts of messages as text."""
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def refuse_while_joins_wait(counts: Mapping[str, int], stage: str) -> None:
    """Raise DeployError with the counts if joins, repairs or removals wait: nobody would ever handle them."""
    if _wait(counts):
        raise DeployError(
            f"messages wait: {listed(counts)}. Joins, repairs and removals would be deleted: accounts would not get "
            "their policies, or would keep some that they no longer need. Wait until the workers have handled them "
            f"(`make status STAGE={stage}`), or add --discard-joins"
        )


def _wait(counts: Mapping[str, int]) -> bool:
    return any(counts.get(each) for each in _INTAKE)


def refuse(target: Target, installed: Installed, counts: Mapping[str, int], order: Order) -> None:
    """Raise DeployError with the next step if the stack must not be deleted as it is."""
    stage = target.stage
    if exposed := unprotected(installed):
        raise DeployError(
            f"deleting this stack would keep {', '.join(exposed)} without the policy that protects it, because the "
            f"stack's template is older than this version. Update it first: make deploy STAGE={stage.name}"
        )
    if installed.stack.protected:
        raise DeployError(
            f"stack {stage.stack} is protected against deletion; turn that off first: aws cloudformation "
            f"update-termination-protection --no-enable-termination-protection --stack-name {stage.stack}"
        )
    if not order.discard_joins:
        refuse_while_joins_wait(counts, stage.name)


def carry_out(
    target: Target, installed: Installed, fates: list[Fate], order: Order, log: Callable[[str], None]
) -> str | None:
    """Stop the intake, and delete the stack and then the keys of the order.

    Returns the name of the log group with the record, or None if the stack has none. Raises DeployError with the next
    step if the stack must not be deleted or a step fails.
    """
    counts = waiting(target, installed)
    refuse(target, installed, counts, order)
    kept = {fate.name: redact(fate.resource_id.rpartition("/")[2]) for fate in fates if fate.kept}
    deleted = len(fates) - len(kept)
    later = {"deleted_after_days": dict.fromkeys(order.keys, WAITING_DAYS)} if order.keys else {}
    # Without a record, nothing is deleted.
    group = record(target, installed, order.reason, {"phase": "intended", "waiting": counts, "kept": kept, **later})
    log("stopping the intake")
    stop_intake(target, installed, discard_joins=order.discard_joins, drain_seconds=order.drain_seconds)
    log(f"deleting {deleted} resources")
    delete_installed(target, installed, order.reason)
    # Before the keys, because a log group accepts nothing while its key is about to be deleted.
    record(target, installed, order.reason, {"phase": "done", "deleted": deleted, **later})
    schedule_deletion(target, order.keys)
    return group


def stop_intake(target: Target, installed: Installed, *, discard_joins: bool, drain_seconds: int) -> None:
    """Stop the sweep, disable the rule, and wait until the workers have handled what still arrived and was requested.

    Undoes both and raises DeployError if any of it still waits after `drain_seconds`, or if the wait is cut off.
    """
    if "MemberAccountInitialization" not in installed.ids:
        return
    # The reference of a rule on another bus than the default one contains the bus.
    rule = installed.ids["MemberAccountInitialization"].rpartition("/")[2]
    rules, since = target.client("events"), datetime.now(UTC)
    try:
        _let_sweep_run(target, installed, runs=False)
        # Somebody may have deleted the rule.
        with suppress(rules.exceptions.ResourceNotFoundException):
            rules.disable_rule(Name=rule)
        if not discard_joins:
            _drain(target, installed, drain_seconds)
    except (KeyboardInterrupt, DeployError, BotoCoreError, ClientError) as error:
        with suppress(rules.exceptions.ResourceNotFoundException):
            rules.enable_rule(Name=rule)
        _let_sweep_run(target, installed, runs=True)
        raise DeployError(
            f"{str(error) or 'interrupted'}. Nothing was deleted and the rule is enabled again. Events from "
            f"{since:%H:%M:%S} to {datetime.now(UTC):%H:%M:%S} UTC did not arrive: request the policies of accounts "
            "that joined then (`make enforce`). Then try again, or add --discard-joins"
        ) from error


def _let_sweep_run(target: Target, installed: Installed, *, runs: bool) -> None:
    """Let the sweep be invoked, or not, so that it requests nothing more. An invocation that runs ends by itself."""
    if not (sweep := installed.ids.get(_SWEEP)):
        return
    functions = target.client("lambda")
    # Somebody may have deleted it.
    with suppress(functions.exceptions.ResourceNotFoundException):
        if runs:
            functions.delete_function_concurrency(FunctionName=sweep)
        else:
            functions.put_function_concurrency(FunctionName=sweep, ReservedConcurrentExecutions=0)


def _drain(target: Target, installed: Installed, seconds: int) -> None:
    """Wait until no joins, repairs or removals wait; raise DeployError with the counts if some do after `seconds`."""
    deadline, empty = time.monotonic() + seconds, 0
    while True:
        counts = waiting(target, installed)
        empty = 0 if _wait(counts) else empty + 1
        if empty == _SEEN_EMPTY:
            return
        if time.monotonic() > deadline:
            raise DeployError(f"messages arrived and were not handled within {seconds} s: {listed(counts)}")
        time.sleep(target.poll_seconds)


def record(target: Target, installed: Installed, reason: str, results: Mapping[str, Any]) -> str | None:
    """Write who deletes the stack and why to the worker's log group, which is kept; return the group's name.

    Returns None if the stack has no log group. The line names the caller as audit records do, and holds no account id,
    e-mail address or ARN. Raises DeployError if the record cannot be written.
    """
    group = installed.ids.get("AttachPoliciesLogs")
    if not group:
        return None
    logs, now = target.client("logs"), datetime.now(UTC)
    stream = f"destroy/{now:%Y-%m-%dT%H.%M.%S.%fZ}"
    line = {
        "action": "destroy",
        "stack": installed.stack.name,
        "stack_id": installed.stack.stack_id.rpartition("/")[2],
        **_actor(target, installed),
        "reason": redact_words(reason),
        "recorded_at": now.isoformat(),
        **results,
    }
    event = {"timestamp": int(now.timestamp() * 1000), "message": json.dumps(line)}
    try:
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])
    except ClientError as error:
        raise DeployError(
            f"cannot write the record to log group {group}: {error}. Use credentials that may call "
            "logs:CreateLogStream and logs:PutLogEvents there, then try again"
        ) from error
    return group


def _actor(target: Target, installed: Installed) -> dict[str, Any]:
    """Return who deletes the stack, as audit records name an operator: pseudonyms, and the unique id in IAM.

    The pseudonyms are None if the stack has no key, or KMS does not derive them. The stack can be deleted nevertheless.
    """
    identity: Any = target.client("sts").get_caller_identity()
    parameters = installed.stack.parameters
    key = key_in_force(parameters, installed.ids.get("PseudonymKey", ""))
    organization = parameters.get("OrganizationId")
    if key and organization:
        with suppress(JoinguardError):
            actor = actor_of(identity, KmsPseudonyms(target.client("kms"), key, organization))
            named = {"actor": actor.pseudonym.model_dump(), "actor_name": actor.name.model_dump()}
            return {**named, "actor_id": actor.unique_id}
    return {"actor": None, "actor_name": None, "actor_id": unique_id_of(identity)}


def delete_installed(target: Target, installed: Installed, reason: str) -> None:
    """Delete the stack; the reason is in the token of its events and of CloudTrail's record."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", redact_words(reason)).strip("-")
    token = f"destroy-{int(time.time())}-{slug}"[:128].rstrip("-")
    delete(
        target.client("cloudformation"),
        installed.stack.stack_id,
        token=token,
        role_arn=target.stage.role_arn,
        poll_seconds=target.poll_seconds,
    )
