"""What `make status` concludes from what AWS returns, where the embedded AWS cannot show it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ClientError
from botocore.session import get_session

from handlers.core.errors import RetryableError, fault
from infra.deploy.build import ROOT
from infra.deploy.health import checks, delivery, page, rehearsal, sealed, sweep, worker
from infra.deploy.health.check import Check, attempt
from infra.deploy.health.deployed import Deployed
from infra.deploy.preflight import Account, warnings
from infra.deploy.stack import MEANINGS
from infra.deploy.stages import Stage, Target
from infra.deploy.template import load
from infra.deploy.trail import SERVICES, read_trails
from schemas.sweep import FaultOfOrganization, SweepMode, SweepReport, SweepState
from tests.prepared import stub

if TYPE_CHECKING:
    from collections.abc import Mapping

    import boto3

MANAGEMENT = "111111111111"
TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Fails": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"AlarmDescription": "Do this.", "Threshold": 0}},
        "Page": {
            "Type": "AWS::CloudWatch::CompositeAlarm",
            "Properties": {
                "AlarmRule": {"Fn::Sub": 'ALARM("${Fails}")'},
                "AlarmActions": [{"Ref": "Pages"}],
                "OKActions": [{"Ref": "Pages"}],
            },
        },
        "Pages": {"Type": "AWS::SNS::Topic"},
    }
}
IDS = {"Fails": "joinguard-Fails-X", "Page": "joinguard-page", "Pages": "arn:aws:sns:us-east-1:111111111111:pages"}


class Answers:
    """A client whose operations return prepared answers; an operation without one is denied."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    def __getattr__(self, operation: str) -> Any:
        def call(**_: object) -> Any:
            answer = self._answers.get(operation, "AccessDenied")
            if isinstance(answer, str):
                raise ClientError({"Error": {"Code": answer, "Message": "x"}}, operation)
            return answer

        return call


class Session:
    """A session whose clients have prepared answers."""

    def __init__(self, **clients: Answers) -> None:
        self._clients = clients

    def client(self, service: str, **_: object) -> Answers:
        return self._clients.get(service, Answers())


def stack_id(account: str = MANAGEMENT, region: str = "us-east-1") -> str:
    return f"arn:aws:cloudformation:{region}:{account}:stack/joinguard/1"


def deployed(**changes: Any) -> Deployed:
    values = {
        "name": "joinguard",
        "stack_id": stack_id(),
        "status": "CREATE_COMPLETE",
        "reason": "",
        "parameters": {"ManagementAccountId": MANAGEMENT},
        "template": TEMPLATE,
        "ids": IDS,
    }
    return Deployed(**values | changes)


def cloudformation(status: str, existing: Mapping[str, str], account: str = MANAGEMENT) -> Answers:
    parameters = [{"ParameterKey": "ManagementAccountId", "ParameterValue": MANAGEMENT}]
    stack = {"StackId": stack_id(account), "StackStatus": status, "StackStatusReason": "why", "Parameters": parameters}
    resources = [
        {"LogicalResourceId": name, "PhysicalResourceId": each, "ResourceStatus": "CREATE_COMPLETE"}
        for name, each in existing.items()
    ]
    return Answers(
        describe_stacks={"Stacks": [stack]},
        describe_stack_resources={"StackResources": resources},
        get_template={"TemplateBody": TEMPLATE},
    )


def found_in(session: Session, *, region: str = "us-east-1") -> dict[str, Any]:
    target = Target(cast("boto3.Session", session), Stage(name="prod", region=region))
    return {check.what: check for check in checks(target)}


def found_with(template: Mapping[str, Any], **changes: str) -> dict[str, Any]:
    """Return the checks of a stack with a template and these parameters beside the defaults, without resources."""
    defaults = {name: str(each.get("Default", "")) for name, each in template["Parameters"].items()}
    given = defaults | {"ManagementAccountId": MANAGEMENT} | changes
    parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()]
    answers = Answers(
        describe_stacks={
            "Stacks": [{"StackId": stack_id(), "StackStatus": "CREATE_COMPLETE", "Parameters": parameters}]
        },
        describe_stack_resources={"StackResources": []},
        get_template={"TemplateBody": template},
    )
    return found_in(Session(cloudformation=answers))


def test_every_state_of_a_stack_has_its_own_words() -> None:
    model = get_session().get_service_model("cloudformation")
    assert set(model.shape_for("StackStatus").enum) == set(MEANINGS)  # type: ignore[attr-defined]
    texts = [each.words for each in MEANINGS.values()]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("status", MEANINGS)
def test_no_state_of_a_stack_ends_in_a_traceback(status: str) -> None:
    found = found_in(Session(cloudformation=cloudformation(status, {})))

    assert status in found["stack"].found
    is_well = status in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"}
    assert (found["stack"].well, found["stack"].exit_status) == (is_well, int(not is_well))
    if not is_well:
        # A deployment says the same.
        assert MEANINGS[status].words in found["stack"].found
        next_step = found["stack"].next_step
        assert next_step.startswith(MEANINGS[status].next_step.split("{stack}")[0])
        if not MEANINGS[status].next_step:
            assert next_step.endswith("run `make deploy STAGE=prod`")
            assert ("FAILED event" in next_step) == ("ROLLBACK" in status)
        assert "why" in found["stack"].found
        assert not re.search("[{}]", found["stack"].next_step)
    assert "trail" in found


def test_in_a_stack_whose_creation_failed_only_what_exists_is_checked() -> None:
    existing = {name: IDS[name] for name in ("Pages",)}
    found = found_in(Session(cloudformation=cloudformation("ROLLBACK_FAILED", existing)))

    assert found["resources"].found == "1 of 3 exist; the others are not checked"
    assert "topic" in found
    assert "rule" not in found


#: What is checked only in a stage that removes policies.
OF_REMOVALS = {
    "removals waiting",
    "queue policy RemovalsPolicy",
    "removing worker's mapping",
    "removing worker's function",
    "removing worker's role",
    "removing worker's permissions boundary",
}


@pytest.mark.parametrize("removes", ["true", "false", None], ids=["on", "off", "a template without it"])
def test_the_worker_that_removes_policies_is_checked_where_it_is_declared(removes: str | None) -> None:
    template = load((ROOT / "infra" / "template.yaml").read_text())
    if removes is None:
        resources = {name: each for name, each in template["Resources"].items() if each.get("Condition") != "Removes"}
        template = {**template, "Resources": resources}

    found = found_with(template, **({"RemovePolicies": removes} if removes else {}))

    assert OF_REMOVALS & found.keys() == (OF_REMOVALS if removes == "true" else set())
    assert {"joins waiting", "mapping", "function", "worker's role", "permissions boundary"} <= found.keys()


OF_THE_SWEEP = {
    "sweep",
    "schedule SweepSchedule",
    "sweep's function",
    "sweep's role",
    "role of the sweep's schedule",
    "sweep's permissions boundary",
}


def test_the_sweep_is_checked_where_the_template_has_it() -> None:
    template = load((ROOT / "infra" / "template.yaml").read_text())
    without = {name: each for name, each in template["Resources"].items() if not name.startswith("Sweep")}
    parameters = [{"ParameterKey": "ManagementAccountId", "ParameterValue": MANAGEMENT}]
    stack = {"StackId": stack_id(), "StackStatus": "CREATE_COMPLETE", "Parameters": parameters}

    def checked(template: dict[str, Any]) -> set[str]:
        answers = Answers(
            describe_stacks={"Stacks": [stack]},
            describe_stack_resources={"StackResources": []},
            get_template={"TemplateBody": template},
        )
        return OF_THE_SWEEP & found_in(Session(cloudformation=answers)).keys()

    assert checked(template) == OF_THE_SWEEP
    assert checked({**template, "Resources": without}) == set()


def sweeps_schedule(**changes: Any) -> Any:
    """Return the check of the sweep's schedule, with changes to what AWS returns."""
    stack = deployed(
        template=load((ROOT / "infra" / "template.yaml").read_text()),
        ids={"SweepSchedule": "MemberAccountSweep", "Sweeper": "sweep-1", "SweepScheduleRole": "role-1"},
        parameters={"NameSuffix": "", "RolePath": "/"},
    )
    declared = stack.properties("SweepSchedule")
    [check] = delivery.schedule(Answers(get_schedule={**declared, **changes}), stack, "SweepSchedule")
    return check


def report_of_a_sweep(**changes: Any) -> SweepReport:
    values: dict[str, Any] = {
        "sweep_id": "0" * 32,
        "organization_id": "o-exampleorgid",
        "guardrails": "0" * 64,
        "mode": SweepMode.REPORT,
        "begun_at": datetime(2026, 11, 26, tzinfo=UTC),
        "decided_at": datetime(2026, 11, 26, tzinfo=UTC),
        "members": 400,
        "covered": 400,
        "with_gaps": 0,
        "unclear": 0,
        "requested": 0,
    }
    return SweepReport(**values | changes)


def last_sweep(report: SweepReport | None, *, minutes: float = 12, minutes_since: float = 100) -> Any:
    """Return the check of the last sweep, which was decided some minutes ago."""
    now = datetime(2026, 11, 26, 12, tzinfo=UTC)
    decided_at = now - timedelta(minutes=minutes)
    last = report and report.model_copy(update={"begun_at": decided_at, "decided_at": decided_at})
    state = SweepState(last=last, since=now - timedelta(minutes=minutes_since))
    stack = deployed(ids={"Reconciliation": "table"}, parameters={"SweepMinutes": "30"})
    answers = Answers(get_item={"Item": {"kept": {"S": state.model_dump_json(exclude_none=True)}}})
    [check] = sweep.last(answers, stack, "Reconciliation", "test", now)
    return check


def test_the_last_sweep_is_shown_with_what_it_found() -> None:
    check = last_sweep(report_of_a_sweep())

    assert (check.state, check.always_shown) == ("ok", True)
    assert check.found == "report, at 2026-11-26 11:48Z: 400 of 400 members covered"


@pytest.mark.parametrize(
    ("changes", "found", "step"),
    [
        ({"with_gaps": 3, "covered": 397}, "397 of 400 members covered, 3 with gaps", "`make coverage STAGE=test`"),
        ({"unclear": 2}, "2 unclear", "`make coverage STAGE=test`"),
        ({"halted": "30 of 400 lost policies"}, "halted: 30 of 400 lost policies", "#sweep-halted"),
        ({"mode": SweepMode.ENFORCE, "with_gaps": 3, "requested_again": 1}, "3 with gaps", "#gaps-remain"),
        (
            {"faults": (FaultOfOrganization(kind="NO_POLICY", what="p-aaaaaaaa"),)},
            "NO_POLICY p-aaaaaaaa",
            "#organization-at-fault",
        ),
    ],
    ids=["gaps that nobody requests", "unclear", "halted", "gaps that a request did not repair", "at fault"],
)
def test_what_a_sweep_found_needs_an_operator(changes: dict[str, Any], found: str, step: str) -> None:
    check = last_sweep(report_of_a_sweep(**changes))

    assert (check.state, check.exit_status) == ("wrong", 1)
    assert found in check.found
    assert step in check.next_step


def test_gaps_that_the_sweep_has_just_requested_need_nobody() -> None:
    check = last_sweep(report_of_a_sweep(mode=SweepMode.ENFORCE, with_gaps=3, requested=3))

    assert check.state == "ok"


@pytest.mark.parametrize(("minutes", "state"), [(90, "ok"), (91, "wrong")])
def test_a_sweep_is_too_old_after_three_intervals(minutes: float, state: str) -> None:
    check = last_sweep(report_of_a_sweep(), minutes=minutes)

    assert check.state == state
    assert ("#sweep-too-old" in check.next_step) == (state == "wrong")


@pytest.mark.parametrize(("minutes_since", "state"), [(5, "ok"), (91, "wrong")])
def test_an_installation_without_a_complete_sweep_is_well_only_in_the_beginning(
    minutes_since: float, state: str
) -> None:
    assert last_sweep(None, minutes_since=minutes_since).state == state


def test_a_sweep_that_has_never_run_is_found() -> None:
    stack = deployed(ids={"Reconciliation": "table"}, parameters={"SweepMinutes": "30"})

    [check] = sweep.last(Answers(get_item={}), stack, "Reconciliation", "prod")

    assert (check.state, "#sweep-too-old" in check.next_step) == ("wrong", True)
    assert "none was completed yet or begun" in check.found


def test_a_schedule_that_somebody_disabled_or_changed_is_found() -> None:
    assert (sweeps_schedule().state, sweeps_schedule().found) == ("ok", "ENABLED, rate(5 minutes)")
    assert sweeps_schedule(State="DISABLED").found == "State is DISABLED, not ENABLED"
    assert (
        sweeps_schedule(ScheduleExpression="rate(1 day)").found
        == "ScheduleExpression is rate(1 day), not rate(5 minutes)"
    )
    assert "Target is " in sweeps_schedule(Target={"Arn": "x"}).found
    assert sweeps_schedule(State="DISABLED").exit_status == 1


OF_REPAIRS = {"repairs waiting", "queue policy RepairsPolicy", "mapping of repairs"}


@pytest.mark.parametrize("declares", [True, False], ids=["today's template", "an earlier template"])
def test_the_queue_of_requests_is_checked_where_it_is_declared(*, declares: bool) -> None:
    template = load((ROOT / "infra" / "template.yaml").read_text())
    if not declares:
        resources = {name: each for name, each in template["Resources"].items() if not name.startswith("Repairs")}
        template = {**template, "Resources": resources}

    found = found_with(template)

    assert OF_REPAIRS & found.keys() == (OF_REPAIRS if declares else set())


def test_from_a_member_account_the_trail_and_the_forwarder_are_unknown_and_need_nobody() -> None:
    found = found_in(Session(cloudformation=cloudformation("CREATE_COMPLETE", IDS, account="222222222222")))

    for name in ("trail", "forwarder"):
        assert (found[name].state, found[name].exit_status) == ("unknown", 0)
        assert f"account {MANAGEMENT}" in found[name].found


@pytest.mark.parametrize("code", [*("AccessDeniedException", "ThrottlingException"), "ResourceNotFoundException"])
def test_an_error_of_one_service_hides_no_other_check(code: str) -> None:
    session = Session(cloudformation=cloudformation("CREATE_COMPLETE", IDS), sns=Answers(get_topic_attributes=code))
    found = found_in(session)

    assert (
        code in found["topic"].found or "GetTopicAttributes" in found["topic"].found or "denied" in found["topic"].found
    )
    assert found["topic"].exit_status == 1
    assert "alarms" in found


def alarms(*faults: str, **changes: Any) -> dict[str, Any]:
    metric = {"AlarmName": IDS["Fails"], "StateValue": "OK", "Threshold": 0.0, "ActionsEnabled": True}
    composite = {
        "AlarmName": IDS["Page"],
        "StateValue": "OK",
        "AlarmRule": f'ALARM("{IDS["Fails"]}")',
        "AlarmActions": [IDS["Pages"]],
        "OKActions": [IDS["Pages"]],
        "ActionsEnabled": True,
    } | changes
    answer = {
        "MetricAlarms": [] if "metric" in faults else [metric],
        "CompositeAlarms": [] if "composite" in faults else [composite],
    }
    return {check.what: check for check in page.alarms(Answers(describe_alarms=answer), deployed())}


def test_the_page_is_compared_with_the_template() -> None:
    """The stand-in's CloudFormation rejects composite alarms."""
    assert [check.well for check in alarms().values()] == [True]
    assert alarms(AlarmActions=[])["joinguard-page"].found.startswith("AlarmActions is []")
    assert alarms(OKActions=[])["joinguard-page"].found.startswith("OKActions is []")
    assert alarms(AlarmRule="FALSE")["joinguard-page"].found.startswith("AlarmRule is FALSE")
    assert alarms(ActionsEnabled=False)["joinguard-page"].found == "its actions are disabled"
    assert alarms("composite")["joinguard-page"].found == "was deleted"
    assert alarms("composite")["alarms"].found == "0 of 2 in ALARM, 1 missing"
    assert not alarms("metric", "composite")["alarms"].well
    on = alarms(StateValue="ALARM")["alarms"]
    assert (on.found, on.well) == ("1 of 2 in ALARM", False)


@pytest.mark.parametrize(
    ("confirmed", "pending", "found"),
    [
        ("1", "0", "1 confirmed"),
        ("2", "1", "2 confirmed, 1 not confirmed"),
        ("0", "0", "nobody gets the page: 0 confirmed"),
        ("0", "1", "nobody gets the page: 0 confirmed, 1 not confirmed"),
    ],
)
def test_only_confirmed_subscriptions_count(confirmed: str, pending: str, found: str) -> None:
    check = page.subscribers({"SubscriptionsConfirmed": confirmed, "SubscriptionsPending": pending})

    assert (check.found, check.well) == (found, confirmed != "0")


@pytest.mark.parametrize(
    ("whose", "command"), [("", "make deploy"), ("forwarder's ", "make forwarder")], ids=["main", "forwarder"]
)
def test_each_topics_subscribers_are_added_by_the_command_of_its_stack(whose: str, command: str) -> None:
    stack, sns = deployed(), Answers(get_topic_attributes={"Attributes": {}})

    found = {check.what: check for check in page.topic(sns, stack, "Pages", whose)}

    assert list(found) == [f"{whose}subscribers", f"{whose}topic"]
    assert f"`{command}`" in found[f"{whose}subscribers"].next_step


class Forwarder(Answers):
    """The CloudFormation of an account that has only the forwarder's stack, which forwards to an account."""

    def __init__(self, to: str) -> None:
        super().__init__(
            get_template={"TemplateBody": {"Resources": {"Pages": TEMPLATE["Resources"]["Pages"]}}},
            describe_stack_resources={
                "StackResources": [
                    {
                        "LogicalResourceId": "Pages",
                        "PhysicalResourceId": IDS["Pages"],
                        "ResourceStatus": "CREATE_COMPLETE",
                    }
                ]
            },
        )
        self._to = to

    def describe_stacks(self, *, StackName: str) -> Any:  # noqa: N803 - the name of AWS's parameter
        if not StackName.endswith("-forwarder"):
            raise ClientError({"Error": {"Code": "ValidationError", "Message": "x"}}, "DescribeStacks")
        bus = f"arn:aws:events:us-east-1:{self._to}:event-bus/default"
        stack = {"StackId": stack_id(), "StackStatus": "CREATE_COMPLETE"}
        return {"Stacks": [stack | {"Parameters": [{"ParameterKey": "TargetBusArn", "ParameterValue": bus}]}]}


def forwarding(to: str) -> dict[str, Any]:
    identity = {"Account": MANAGEMENT, "Arn": f"arn:aws:iam::{MANAGEMENT}:root"}
    attributes = {"Attributes": {"SubscriptionsConfirmed": "0"}}
    sessions = {
        "cloudformation": Forwarder(to),
        "sts": Answers(get_caller_identity=identity),
        "sns": Answers(get_topic_attributes=attributes),
    }
    return found_in(Session(**sessions))


def test_the_management_account_checks_the_forwarder_to_another_account() -> None:
    """The main stack is not missing there."""
    found = forwarding("222222222222")

    assert (found["stack"].state, found["stack"].exit_status) == ("unknown", 0)
    assert "it is in account 222222222222" in found["stack"].found
    assert found["forwarder"].well
    assert found["forwarder's subscribers"].exit_status == 1
    assert "trail" in found


def test_a_main_stack_that_is_missing_beside_its_forwarder_is_missing() -> None:
    found = forwarding(MANAGEMENT)

    assert found["stack"].found == "there is no stack joinguard in us-east-1"
    assert found["stack"].exit_status == 1
    assert "forwarder" not in found


ROLE: dict[str, Any] = {
    "Type": "AWS::IAM::Role",
    "Properties": {
        "Path": {"Ref": "RolePath"},
        "Policies": [
            {
                "PolicyDocument": {
                    "Statement": [
                        {
                            "Action": ["s3:PutObject"],
                            "Resource": "arn:aws:s3:::e/*",
                            "Condition": {"StringEquals": {"s3:ResourceAccount": {"Ref": "AWS::AccountId"}}},
                        },
                        {"Action": "kms:Decrypt", "Resource": ["k1", "k2"]},
                    ]
                }
            }
        ],
    },
}


def boundary(decisions: str) -> Any:
    """Return the check for decisions on s3:PutObject and on kms:Decrypt with each of two keys: y, n, or - for none."""
    iam = stub("iam")
    role = f"arn:aws:iam::{MANAGEMENT}:role/team/a/worker"
    details: list[dict[str, Any]] = [
        {} if each == "-" else {"PermissionsBoundaryDecisionDetail": {"AllowedByPermissionsBoundary": each == "y"}}
        for each in decisions
    ]
    context = [{"ContextKeyName": "s3:ResourceAccount", "ContextKeyValues": [MANAGEMENT], "ContextKeyType": "string"}]
    result = {"EvalActionName": "s3:PutObject", "EvalDecision": "implicitDeny"} | details[0]
    iam.add_response(
        "simulate_principal_policy",
        {"EvaluationResults": [result]},
        {
            "PolicySourceArn": role,
            "ActionNames": ["s3:PutObject"],
            "ResourceArns": ["arn:aws:s3:::e/111122223333"],
            "ContextEntries": context,
        },
    )
    specific = [
        {"EvalResourceName": name, "EvalResourceDecision": "allowed"} | detail
        for name, detail in zip(("k1", "k2"), details[1:], strict=True)
    ]
    result = {"EvalActionName": "kms:Decrypt", "EvalDecision": "implicitDeny", "ResourceSpecificResults": specific}
    iam.add_response("simulate_principal_policy", {"EvaluationResults": [result]})
    stack = deployed(
        template={"Resources": {"Role": ROLE}}, ids={"Role": "worker"}, parameters={"RolePath": "/team/a/"}
    )
    with iam:
        [check] = worker.boundary(iam.client, stack, "Role")
    return check


def test_a_permissions_boundary_is_asked_about_each_action_of_the_worker() -> None:
    """The embedded AWS's CloudFormation ignores boundaries, and its simulator does, too."""
    assert boundary("yyy").found == "allows what the worker does"
    assert boundary("---").found == "none"
    assert boundary("---").well
    denied = boundary("nyn")
    assert denied.found == "it denies kms:Decrypt; it denies s3:PutObject"
    assert denied.exit_status == 1
    assert "infra/README.md" in denied.next_step
    assert boundary("yny").found == "it denies kms:Decrypt"


def test_a_list_parameter_is_resolved_as_a_list() -> None:
    """Otherwise the boundary would be asked about all policies as one resource."""
    stack = deployed(
        template=TEMPLATE | {"Parameters": {"Arns": {"Type": "CommaDelimitedList"}, "One": {"Type": "String"}}},
        parameters={"Arns": "arn:a, arn:b", "One": "x,y"},
    )

    assert stack.resolve({"Resource": {"Ref": "Arns"}, "Text": {"Fn::Join": ["", {"Ref": "Arns"}]}}) == {
        "Resource": ["arn:a", "arn:b"],
        "Text": "arn:aarn:b",
    }
    assert stack.resolve({"Ref": "One"}) == "x,y"


def advanced(*fields: dict[str, Any]) -> dict[str, Any]:
    category = {"Field": "eventCategory", "Equals": ["Management"]}
    return {"AdvancedEventSelectors": [{"FieldSelectors": [category, *fields]}]}


@pytest.mark.parametrize(
    ("selectors", "works"),
    [
        (advanced(), True),
        (advanced({"Field": "readOnly", "Equals": ["false"]}), True),
        (advanced({"Field": "readOnly", "Equals": ["true"]}), False),
        (advanced({"Field": "eventSource", "NotEquals": ["kms.amazonaws.com"]}), True),
        (advanced({"Field": "eventSource", "Equals": ["s3.amazonaws.com"]}), False),
        (advanced({"Field": "eventName", "NotEquals": ["AcceptHandshake"]}), False),
        ({"AdvancedEventSelectors": [{"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Data"]}]}]}, False),
        ({"EventSelectors": [{"ReadWriteType": "WriteOnly", "IncludeManagementEvents": True}]}, True),
        ({"EventSelectors": [{"ExcludeManagementEventSources": ["kms.amazonaws.com"]}]}, True),
        ({"EventSelectors": [{"ReadWriteType": "All", "IncludeManagementEvents": False}]}, False),
        ({}, False),
    ],
)
def test_a_trail_works_if_its_selectors_include_joins(selectors: dict[str, Any], works: bool) -> None:  # noqa: FBT001 - a parameter of the table
    trail = {"Name": "all", "TrailARN": "arn", "HomeRegion": "us-east-1"}
    client = Answers(
        describe_trails={"trailList": [trail]}, get_trail_status={"IsLogging": True}, get_event_selectors=selectors
    )
    trails = read_trails(lambda _: client, "us-east-1")

    assert bool(trails.working) == works
    assert bool(trails.problems) != works


@pytest.mark.parametrize(
    "selectors",
    [
        {"EventSelectors": [{"ExcludeManagementEventSources": ["kms.amazonaws.com"]}]},
        advanced({"Field": "eventSource", "NotEquals": ["kms.amazonaws.com"]}),
    ],
)
def test_a_trail_that_leaves_out_kms_still_logs_joins(selectors: dict[str, Any]) -> None:
    trail = {"Name": "all", "TrailARN": "arn", "HomeRegion": "us-east-1"}
    client = Answers(
        describe_trails={"trailList": [trail]}, get_trail_status={"IsLogging": True}, get_event_selectors=selectors
    )

    found = {name: read_trails(lambda _: client, "us-east-1", source).found for source, name in SERVICES.items()}

    assert found == {
        "Organizations": "all logs management events",
        "KMS": "trail all does not log write management events of KMS",
        "S3": "all logs management events",
    }


def test_in_a_member_account_the_trail_of_the_pages_is_not_known_and_no_reason_to_act() -> None:
    stack = Deployed("joinguard", "arn:aws:cloudformation:us-east-1:222222222222:stack/joinguard/1", "", "", {})

    [check] = delivery.trail_of_pages(lambda _: Answers(), stack, "KeysAtRisk", "111111111111")

    assert (check.state, check.exit_status) == ("unknown", 0)
    assert "in account 111111111111" in check.next_step


def test_a_trail_of_another_region_counts_only_if_it_covers_all_regions() -> None:
    trails = [
        {"Name": "there", "TrailARN": "arn", "HomeRegion": "eu-west-1", "IsMultiRegionTrail": False},
        {"Name": "everywhere", "TrailARN": "arn", "HomeRegion": "eu-west-1", "IsMultiRegionTrail": True},
    ]
    client = Answers(
        describe_trails={"trailList": trails}, get_trail_status={"IsLogging": True}, get_event_selectors=advanced()
    )
    asked: list[str] = []

    def client_in(region: str) -> Any:
        asked.append(region)
        return client

    found = read_trails(client_in, "us-east-1")

    assert found.working == ("everywhere",)
    assert asked == ["us-east-1", "eu-west-1"], "the home Region answers for its trail"


def test_the_rules_pattern_is_compared_as_its_parameters_resolve_it() -> None:
    watching = pattern_of("true")

    def found(watches: str, actual: object) -> str:
        rule = {"State": "ENABLED", "EventPattern": json.dumps(actual)}
        [check] = delivery.rule(Answers(describe_rule=rule), main_stack(watches), "MemberAccountInitialization")
        return check.found

    assert "TagResource" in watching["detail"]["eventName"]
    assert found("true", watching) == found("false", pattern_of("false")) == "ENABLED"
    assert found("true", pattern_of("false")) == found("false", watching) == "the pattern was changed"


@pytest.mark.parametrize(("forwarder", "rule", "well"), [("true", "true", True), ("false", "true", False)])
def test_a_forwarder_that_was_deployed_for_fewer_events_needs_to_be_deployed_again(
    forwarder: str, rule: str, *, well: bool
) -> None:
    template = load((ROOT / "infra" / "forwarder.yaml").read_text())
    forwarding = deployed(template=template, parameters={"WatchMoves": "false", "WatchTags": forwarder})

    main = (main_stack(rule), "MemberAccountInitialization")
    [check] = delivery.forwarded((forwarding, "Forwarder"), main, "pattern", "run `make forwarder`")

    assert (check.well, check.next_step) == (well, "run `make forwarder`")


def main_stack(watches_tags: str) -> Deployed:
    """Return the main stack, whose rule watches tags or not."""
    template = load((ROOT / "infra" / "template.yaml").read_text())
    parameters = {"NameSuffix": "", "WatchMoves": "false", "WatchTags": watches_tags}
    names = ("MemberAccountInitialization", "Joins", "Undelivered")
    return deployed(template=template, parameters=parameters, ids={name: name for name in names})


def pattern_of(watches_tags: str) -> dict[str, Any]:
    """Return the pattern of the main stack's rule."""
    pattern: dict[str, Any] = main_stack(watches_tags).properties("MemberAccountInitialization")["EventPattern"]
    return pattern


def test_the_bus_policy_is_compared_by_our_statement_only() -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
        "Action": "events:PutEvents",
    }
    resource = {"Type": "AWS::Events::EventBusPolicy", "Properties": {"StatementId": "ours", "Statement": statement}}
    stack = deployed(template={"Resources": {"Bus": resource}}, ids={"Bus": "ours"})

    def found(*statements: dict[str, Any]) -> str:
        policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        [check] = delivery.bus_policy(Answers(describe_event_bus={"Policy": policy}), stack, "Bus")
        return check.found

    others = statement | {"Sid": "theirs"}
    assert found(others, statement | {"Sid": "ours"}) == "ours"
    assert found(others) == "there is no policy"
    assert found(statement | {"Sid": "ours", "Effect": "Deny"}) == "the policy's statement ours was changed"


def test_a_condition_that_cannot_be_evaluated_hides_no_check() -> None:
    """A template of another version may use functions that this version does not know."""
    conditions = {"Unknown": {"Fn::Contains": [["a"], "a"]}, "Never": {"Fn::Equals": ["a", "b"]}}
    resources = {
        "Always": {"Type": "AWS::SNS::Topic"},
        "Perhaps": {"Type": "AWS::SNS::Topic", "Condition": "Unknown"},
        "No": {"Type": "AWS::SNS::Topic", "Condition": "Never"},
        "Odd": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Fn::Base64": "x"}}},
    }
    stack = deployed(template={"Conditions": conditions, "Resources": resources}, ids={"Always": "a", "Odd": "o"})

    assert stack.declared() == ["Always", "Perhaps", "Odd"]
    attributes = {"SubscriptionsConfirmed": "1"}
    [checked] = attempt(
        "topic", lambda: [*page.topic(Answers(get_topic_attributes={"Attributes": attributes}), stack, "Odd")]
    )
    assert (checked.found, checked.state) == ("cannot be compared: the template uses Fn::Base64", "unknown")


@pytest.mark.parametrize(
    ("original", "found"),
    [
        (ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetItem"), "GetItem is denied"),
        (TimeoutError(), "X.Y: no answer"),
    ],
)
def test_what_an_adapter_could_not_read_is_unknown_with_the_next_step(original: Exception, found: str) -> None:
    def read() -> list[Check]:
        raise RetryableError(fault("X.Y", "no answer")) from original

    [checked] = attempt("pauses", read)

    assert (checked.found, checked.state) == (f"cannot be read: {found}", "unknown")
    assert checked.next_step
    assert checked.exit_status == 1


def account(account_id: str) -> Account:
    return Account(
        account_id=account_id,
        partition="aws",
        region="us-east-1",
        organization_id="o-1234567890",
        management_account_id=MANAGEMENT,
        all_features=True,
    )


@pytest.mark.parametrize(
    ("account_id", "parameters", "warning"),
    [
        ("222222222222", {}, f"in account {MANAGEMENT}"),
        ("222222222222", {"CreateTrail": "true"}, f"in account {MANAGEMENT}"),
        (MANAGEMENT, {}, "logs management events: An error occurred (AccessDenied)"),
        (MANAGEMENT, {"CreateTrail": "true"}, None),
    ],
)
def test_a_trail_that_cannot_be_read_is_a_warning(
    account_id: str, parameters: dict[str, str], warning: str | None
) -> None:
    stage = Stage(name="prod", region="us-east-1", parameters=parameters | {"AttachTo": "none"})
    found = [*warnings(Target(cast("boto3.Session", Session()), stage), account(account_id))]

    assert len(found) == (warning is not None)
    assert warning is None or warning in found[0]


def passed(**counts: float) -> Answers:
    """Return CloudWatch with the sums of metrics; a metric without a sum has no data."""
    results = [{"Id": name, "Values": [each]} for name, each in counts.items()]
    return Answers(get_metric_data={"MetricDataResults": results})


@pytest.mark.parametrize(
    ("counts", "lost", "step"),
    [
        ({}, "lost before the rule, which matched no event in 45 minutes", "#no-rehearsals"),
        ({"matched": 3, "failed": 3}, "lost at the rule's target, which it could not invoke", "#rule-fails"),
        ({"matched": 3}, "lost before the joins queue, which received nothing of 3 events", "#no-rehearsals"),
        (
            {"matched": 3, "sent": 3},
            "lost before the worker, which was not invoked; 3 messages were sent",
            "#no-rehearsals",
        ),
        (
            {"matched": 3, "sent": 3, "invoked": 9},
            "lost in the worker, which was invoked 9 times and wrote no records of them",
            "#no-rehearsals",
        ),
    ],
)
def test_where_rehearsals_are_lost_follows_from_the_metrics_of_each_hop(
    counts: dict[str, float], lost: str, step: str
) -> None:
    names = ("Outcomes", "Rehearsal", "MemberAccountInitialization", "Joins", "AttachPolicies")
    stack = deployed(ids={name: name for name in names})
    clients = rehearsal.Clients(
        scheduler=Answers(get_schedule={"State": "ENABLED"}),
        dynamodb=Answers(batch_get_item={"Responses": {}}),
        cloudwatch=passed(**counts),
    )

    [check] = rehearsal.last(clients, stack, "Rehearsal")

    assert check.found.endswith(f": {lost}")
    assert check.next_step.endswith(step)
    assert check.exit_status == 1


@pytest.mark.parametrize(
    ("minutes", "state", "age"), [(59, "ok", "59m"), (60, "ok", "1h"), (61, "wrong", "1h 1m")], ids=["59", "60", "61"]
)
def test_a_checkpoint_is_too_old_after_an_hour(minutes: int, state: str, age: str) -> None:
    """The embedded AWS cannot hold an object that is an hour old."""
    s3, now = stub("s3"), datetime(2026, 11, 26, 12, tzinfo=UTC)
    newest = {"Key": "log/checkpoints/000/001/007", "LastModified": now - timedelta(minutes=minutes)}
    answers: dict[str, dict[str, Any]] = {
        "log/checkpoints/": {"CommonPrefixes": [{"Prefix": "log/checkpoints/000/"}]},
        "log/checkpoints/000/": {"CommonPrefixes": [{"Prefix": f"log/checkpoints/000/00{each}/"} for each in (0, 1)]},
        "log/checkpoints/000/001/": {"Contents": [{"Key": "log/checkpoints/000/001/006"}, newest]},
    }
    for prefix, answer in answers.items():
        s3.add_response("list_objects_v2", answer, {"Bucket": "evidence", "Prefix": prefix, "Delimiter": "/"})
    s3.activate()

    [check] = sealed.last(s3.client, deployed(ids={"Evidence": "evidence"}), "Evidence", now)

    assert (check.state, check.found) == (state, f"checkpoint 1007 was signed {age} ago")
