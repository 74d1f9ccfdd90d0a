"""Check an installation along the path of an event, and compare each part with the template that was deployed.

Each part is checked on its own, so one that is missing or may not be read does not hide the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from infra.deploy.health import bucket, delivery, page, records, rehearsal, sealed, stacks, sweep, worker
from infra.deploy.health.check import Check, attempt
from infra.deploy.health.deployed import read_contents, read_stack
from infra.deploy.health.guardrails import guardrails
from infra.deploy.health.pauses import pauses
from infra.deploy.preflight import EVENT_REGIONS
from infra.deploy.stack import outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from infra.deploy.health.deployed import Deployed
    from infra.deploy.stages import Target

__all__ = ["Check", "check_subscribers", "checks"]

T = TypeVar("T")

#: A check with its name and the resources that it is about.
Planned = tuple[str, tuple[str, ...], "Callable[[], Iterable[Check]]"]
DEAD_LETTERS = "handlers/operate/RUNBOOK.md#dead-letters"
UNDELIVERED = "handlers/operate/RUNBOOK.md#undelivered"
#: The rule that matches the events, and the forwarder's rule.
JOINS = "MemberAccountInitialization"
FORWARDER = "Forwarder"
MANAGEMENT = "ManagementAccountId"
#: The roles that are compared with the template, and the names of the checks.
ROLES = {
    "AttachPoliciesRole": "worker's role",
    "DetachPoliciesRole": "removing worker's role",
    "OperatorReads": "role OperatorReads",
    "OperatorActs": "role OperatorActs",
    "Resolver": "role Resolver",
    "RehearsalRole": "rehearsals' role",
    "SweepRole": "sweep's role",
    "SweepScheduleRole": "role of the sweep's schedule",
    "SealRole": "sealer's role",
    "SealScheduleRole": "role of the sealer's schedule",
}
#: The workers, and how the names of their checks begin.
WORKERS = {"AttachPolicies": "", "DetachPolicies": "removing worker's "}
#: The sweep's function, which has no mapping.
SWEEP = "Sweeper"
#: The function that seals, and the rule that announces objects to it.
SEALER = "Sealer"
ANNOUNCES = "EvidenceWritten"
#: The schedule of the rehearsals.
REHEARSAL = "Rehearsal"
#: What only a stack has that removes policies, and what earlier versions of the template do not declare.
NOT_ALWAYS = frozenset(
    {
        *("Removals", "DetachPolicies", "DetachPoliciesMapping", "DetachPoliciesRole", "Repairs", "RepairsMapping"),
        *(
            "RehearsalRole",
            "Resolver",
            "SweepRole",
            "SweepScheduleRole",
            "SealRole",
            "SealScheduleRole",
            "Announcements",
        ),
    }
)
#: The queues with the names of their checks, and the next step if a queue is not empty.
QUEUES = {
    "Joins": ("joins waiting", ""),
    "Repairs": ("repairs waiting", ""),
    "Removals": ("removals waiting", ""),
    "Announcements": ("objects to seal", ""),
    "DeadLetters": ("dead letters", DEAD_LETTERS),
    "Undelivered": ("undelivered", UNDELIVERED),
}
#: The event source mappings, with the names of their checks.
MAPPINGS = {
    "AttachPoliciesMapping": "mapping",
    "RepairsMapping": "mapping of repairs",
    "DetachPoliciesMapping": "removing worker's mapping",
}
#: How the names of the forwarder's checks begin.
FORWARDERS = "forwarder's "
UNFORWARDED = "handlers/operate/RUNBOOK.md#unforwarded"


def checks(target: Target) -> list[Check]:
    """Return the results of all checks, in the order in which an event passes the parts."""
    found: list[Check] = []
    stack = _stack(target, target.stage.stack, target.stage.region, "stack", found)
    if stack is None:
        forwarding = attempt("forwarder", lambda: _forwarder_to_elsewhere(target))
        # Then the main stack is not missing, but in another account.
        elsewhere = any(check.what == "stack" for check in forwarding)
        found = forwarding if elsewhere else found + forwarding
    found += attempt("trail", lambda: _trail(target, stack))
    if stack is None or not stack.template["Resources"]:
        return found
    found += _forwarder(target, stack)
    parts = (_event_path, _schedules, _sweep, _records, _sealed_log, _rehearsals, _page)
    found += _run(stack, [planned for part in parts for planned in part(target, stack)])
    s3, organizations = target.client("s3"), target.client("organizations")
    found += attempt("guardrails", lambda: guardrails(s3, organizations, stack, target.stage.name))
    dynamodb, kms = target.client("dynamodb"), target.client("kms")
    found += attempt("pauses", lambda: pauses(dynamodb, s3, kms, stack, target.stage.name))
    return found


def check_subscribers(target: Target, *, forwarder_in: str | None = None) -> Check:
    """Count the confirmed subscribers of the page in a stack that was just deployed.

    With `forwarder_in`, of the forwarder's stack in that Region.
    """
    whose, name = (FORWARDERS, target.stage.forwarder) if forwarder_in else ("", target.stage.stack)
    topic = outputs(target.client("cloudformation", region=forwarder_in), name)["Topic"]

    def read() -> Iterator[Check]:
        sns = target.client("sns", region=forwarder_in)
        yield page.subscribers(sns.get_topic_attributes(TopicArn=topic)["Attributes"], whose)

    return attempt(f"{whose}subscribers", read)[0]


def _stack(target: Target, name: str, region: str, what: str, found: list[Check]) -> Deployed | None:
    """Read a stack and add a check of its state; return None if there is none or it cannot be read."""
    cloudformation = target.client("cloudformation", region=region)
    # The last element is the most complete.
    read: list[Deployed] = []

    def state() -> Iterator[Check]:
        try:
            read.append(read_stack(cloudformation, name))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            command = "forwarder" if what == "forwarder" else "deploy"
            step = f"run `make {command} STAGE={target.stage.name}`"
            yield Check(what, f"there is no stack {name} in {region}", "wrong", step)
        else:
            yield stacks.state_of(read[-1], target.stage.name, what)

    def contents() -> Iterable[Check]:
        read.append(read_contents(cloudformation, read[-1]))
        return ()

    found += attempt(what, state)
    # A stack in this state has no template and no resources yet.
    if read and read[-1].status != "REVIEW_IN_PROGRESS":
        found += attempt(f"template of stack {name}", contents)
    return read[-1] if read else None


def _run(stack: Deployed, planned: Iterable[Planned]) -> Iterator[Check]:
    """Run the checks; in a stack that is not complete, only those whose resources exist."""
    whole = stacks.is_whole(stack)
    if not whole:
        yield stacks.resources(stack)
    for what, resources, check in planned:
        if whole or all(name in stack.ids for name in resources):
            yield from attempt(what, check)


def _trail(target: Target, stack: Deployed | None) -> Iterator[Check]:
    if stack and MANAGEMENT in stack.parameters:
        account, partition, management = stack.account, stack.partition, stack.parameters[MANAGEMENT]
    else:
        account, partition = _identity(target)
        management = target.client("organizations").describe_organization()["Organization"]["MasterAccountId"]
    yield from delivery.trail(target.client, account=account, management_account=management, partition=partition)


def _identity(target: Target) -> tuple[str, str]:
    """Return the account and the partition of the credentials."""
    identity = target.client("sts").get_caller_identity()
    return identity["Account"], identity["Arn"].split(":")[1]


def _forwarder(target: Target, stack: Deployed) -> list[Check]:
    """Check the forwarder's stack if the events do not exist in the stack's own account and Region."""
    region, management = EVENT_REGIONS.get(stack.partition), stack.parameters[MANAGEMENT]
    if stack.account != management:
        found = f"cannot be read from account {stack.account}: it is in account {management}"
        step = f"run `make status STAGE={target.stage.name}` with credentials of account {management}"
        return [Check("forwarder", found, "unknown", step, needs_operator=False)]
    if region in {None, stack.region}:
        return []
    forwarder, results = _forwarders_stack(target, str(region))
    if forwarder and forwarder.template["Resources"]:
        what, step = f"{FORWARDERS}pattern", f"run `make forwarder STAGE={target.stage.name}`"
        results += attempt(what, lambda: delivery.forwarded((forwarder, FORWARDER), (stack, JOINS), what, step))
    return results


def _forwarder_to_elsewhere(target: Target) -> list[Check]:
    """Check the forwarder to a main stack in another account; return nothing if this account has no such forwarder."""
    account, partition = _identity(target)
    forwarder, found = _forwarders_stack(target, EVENT_REGIONS.get(partition, target.stage.region))
    bus_account = forwarder.parameters.get("TargetBusArn", "").split(":")[4:5] if forwarder else []
    if not bus_account or bus_account == [account]:
        return []
    main = f"cannot be read from account {account}: it is in account {bus_account[0]}"
    step = f"run `make status STAGE={target.stage.name}` with credentials of account {bus_account[0]}"
    return [Check("stack", main, "unknown", step, needs_operator=False), *found]


def _forwarders_stack(target: Target, region: str) -> tuple[Deployed | None, list[Check]]:
    """Read the forwarder's stack and check it."""
    found: list[Check] = []
    stack = _stack(target, target.stage.forwarder, region, "forwarder", found)
    if stack and stack.template["Resources"]:
        found += _run(stack, _forwarding(target, stack))
    return stack, found


def _forwarding(target: Target, stack: Deployed) -> Iterator[Planned]:
    def client(service: str) -> Any:
        return target.client(service, region=stack.region)

    for name in stack.of_type("AWS::Events::Rule"):
        for part, check in (("rule", delivery.rule), ("target", delivery.target)):
            yield _planned(f"{FORWARDERS}{part}", check, client("events"), stack, name, f"{FORWARDERS}{part}")
    for name in stack.of_type("AWS::SQS::Queue"):
        yield _planned("unforwarded", _queue, client("sqs"), stack, name, "unforwarded", UNFORWARDED)
    for name in stack.of_type("AWS::SQS::QueuePolicy"):
        yield _planned(f"queue policy {name}", delivery.queue_policy, client("sqs"), stack, name)
    for name in stack.of_type("AWS::SNS::Topic"):
        yield _planned(f"{FORWARDERS}topic", page.topic, client("sns"), stack, name, FORWARDERS)
    yield f"{FORWARDERS}alarms", (), lambda: page.alarms(client("cloudwatch"), stack, f"{FORWARDERS}alarms")


def _event_path(target: Target, stack: Deployed) -> Iterator[Planned]:
    events, sqs = target.client("events"), target.client("sqs")
    for name in stack.of_type("AWS::Events::EventBusPolicy"):
        yield _planned("bus policy", delivery.bus_policy, events, stack, name)
    yield _planned("rule", delivery.rule, events, stack, JOINS)
    yield _planned("target", delivery.target, events, stack, JOINS)
    for name, (what, step) in _declared(stack, QUEUES).items():
        yield _planned(what, _queue, sqs, stack, name, what, step)
    for name in stack.of_type("AWS::SQS::QueuePolicy"):
        yield _planned(f"queue policy {name}", delivery.queue_policy, sqs, stack, name)
    yield from _workers(target, stack)


def _workers(target: Target, stack: Deployed) -> Iterator[Planned]:
    lambda_client, iam = target.client("lambda"), target.client("iam")
    for name, what in _declared(stack, MAPPINGS).items():
        yield _planned(what, worker.mapping, lambda_client, stack, name, what)
    workers = _declared(stack, WORKERS)
    for name, whose in workers.items():
        yield _planned(f"{whose}function", worker.function, lambda_client, stack, name, f"{whose}function")
    for name, what in _declared(stack, ROLES).items():
        yield _planned(what, worker.role, iam, stack, name, what)
    for name, whose in workers.items():
        what = f"{whose}permissions boundary"
        yield _planned(what, worker.boundary, iam, stack, f"{name}Role", what)


def _declared(stack: Deployed, names: Mapping[str, T]) -> dict[str, T]:
    """Return those of some resources that a stack has, or should have."""
    absent = NOT_ALWAYS.difference(stack.declared())
    return {name: each for name, each in names.items() if name not in absent}


def _schedules(target: Target, stack: Deployed) -> Iterator[Planned]:
    for name in stack.of_type("AWS::Scheduler::Schedule"):
        yield _planned(f"schedule {name}", delivery.schedule, target.client("scheduler"), stack, name)


def _sweep(target: Target, stack: Deployed) -> Iterator[Planned]:
    if SWEEP not in stack.declared():
        return
    yield _planned("sweep's function", worker.function, target.client("lambda"), stack, SWEEP, "sweep's function")
    what = "sweep's permissions boundary"
    yield _planned(what, worker.boundary, target.client("iam"), stack, "SweepRole", what)
    yield _planned("sweep", sweep.last, target.client("dynamodb"), stack, "Reconciliation", target.stage.name)


def _sealed_log(target: Target, stack: Deployed) -> Iterator[Planned]:
    if SEALER not in stack.declared():
        return
    yield from _rule(target, stack, ANNOUNCES)
    yield _planned("sealer's function", worker.function, target.client("lambda"), stack, SEALER, "sealer's function")
    what = "sealer's permissions boundary"
    yield _planned(what, worker.boundary, target.client("iam"), stack, "SealRole", what)
    yield _planned("sealed log", sealed.last, target.client("s3"), stack, "Evidence")


def _rehearsals(target: Target, stack: Deployed) -> Iterator[Planned]:
    if REHEARSAL in stack.declared():
        clients = rehearsal.Clients(*(target.client(each) for each in ("scheduler", "dynamodb", "cloudwatch")))
        yield "rehearsal", (REHEARSAL, "Outcomes"), lambda: rehearsal.last(clients, stack, REHEARSAL)


def _records(target: Target, stack: Deployed) -> Iterator[Planned]:
    dynamodb, s3, kms = (target.client(each) for each in ("dynamodb", "s3", "kms"))
    for name in stack.of_type("AWS::DynamoDB::Table"):
        yield _planned(f"table {name}", records.table, dynamodb, stack, name)
    yield _planned("bucket Evidence", bucket.bucket, s3, stack, "Evidence")
    yield _planned("policy of bucket Evidence", bucket.bucket_policy, s3, stack, "EvidencePolicy")
    for name in stack.of_type("AWS::KMS::Key"):
        # Pseudonyms are not derived from the stack's own key any more if the stage names another one.
        if name != "PseudonymKey" or not stack.parameters.get("PseudonymKeyArn"):
            yield _planned(f"key {name}", records.key, kms, stack, name)
        yield _planned(f"policy of key {name}", records.key_policy, kms, stack, name)
    yield "pseudonym keys", (), lambda: records.pseudonym_keys(kms, stack)


def _page(target: Target, stack: Deployed) -> Iterator[Planned]:
    for name in stack.of_type("AWS::SNS::Topic"):
        yield _planned("topic", page.topic, target.client("sns"), stack, name)
    for name in stack.of_type("AWS::Events::Rule"):
        # The other rules page.
        if name not in {JOINS, ANNOUNCES}:
            yield from _rule(target, stack, name)
            yield _planned(
                f"trail of {name}", delivery.trail_of_pages, target.client, stack, name, stack.parameters[MANAGEMENT]
            )
    yield "alarms", (), lambda: page.alarms(target.client("cloudwatch"), stack)


def _rule(target: Target, stack: Deployed, name: str) -> Iterator[Planned]:
    events = target.client("events")
    yield _planned(f"rule {name}", delivery.rule, events, stack, name, f"rule {name}")
    yield _planned(f"target of {name}", delivery.target, events, stack, name, f"target of {name}")


def _queue(sqs: Any, stack: Deployed, name: str, what: str, needs_operator: str) -> Iterator[Check]:
    return delivery.queue(sqs, stack, name, what, needs_operator=needs_operator)


def _planned(what: str, check: Callable[..., Iterable[Check]], client: Any, stack: Deployed, *rest: str) -> Planned:
    return what, rest[:1], lambda: check(client, stack, *rest)
