"""Compare a stack in the AWS stand-in with its template."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from infra.local.stand_in_policies import adapt_resource_policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from infra.deploy.health.deployed import Deployed
    from infra.local.standin import StandIn

#: What is compared, the template's value, the actual value.
Compared = tuple[str, object, object]


def default_retention(parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the default retention that the stack's parameters ask for."""
    return {"Mode": parameters["RetentionMode"], "Days": int(parameters["RetentionDays"])}


class Comparison:
    """Read back the properties that matter, each with the template's value and the actual value."""

    def __init__(self, aws: StandIn, stack: Deployed) -> None:
        self._aws, self._stack, self._resources = aws, stack, stack.ids
        self._declared = {name: each.get("Properties", {}) for name, each in stack.template["Resources"].items()}

    def results(self) -> Iterator[Compared]:
        """Yield every comparison."""
        yield from self._queues()
        yield from self._queue_policies()
        for mapping in self._stack.of_type("AWS::Lambda::EventSourceMapping"):
            yield from self._mapping(mapping)
        for function in self._stack.of_type("AWS::Lambda::Function"):
            yield from self._function(function)
        yield from self._rule()
        yield from self._evidence()
        yield from self._outcomes()

    def _queues(self) -> Iterator[Compared]:
        for queue in self._stack.of_type("AWS::SQS::Queue"):
            declared, actual = self._declared[queue], self._attributes(queue)
            for name in ("VisibilityTimeout", "MessageRetentionPeriod"):
                if name in declared:
                    yield f"{queue}.{name}", declared[name], int(actual[name])
            if "RedrivePolicy" in declared:
                receives = int(json.loads(actual["RedrivePolicy"])["maxReceiveCount"])
                yield f"{queue}.maxReceiveCount", declared["RedrivePolicy"]["maxReceiveCount"], receives

    def _queue_policies(self) -> Iterator[Compared]:
        """Compare the Deny statements of each queue's policy, adapted as they were for the stand-in."""
        for policy in self._stack.of_type("AWS::SQS::QueuePolicy"):
            declared = self._stack.properties(policy)["PolicyDocument"]
            document = adapt_resource_policy(declared, self._aws.access_key_id)
            for queue in self._declared[policy]["Queues"]:
                actual = json.loads(self._attributes(queue["Ref"])["Policy"])
                yield f"{queue['Ref']}'s policy", _denials(document), _denials(actual)

    def _mapping(self, mapping: str) -> Iterator[Compared]:
        declared = self._declared[mapping]
        actual = self._aws.client("lambda").get_event_source_mapping(UUID=self._resources[mapping])
        for name in ("BatchSize", "FunctionResponseTypes", "ScalingConfig"):
            yield f"{mapping}.{name}", declared[name], actual.get(name)

    def _function(self, function: str) -> Iterator[Compared]:
        client = self._aws.client("lambda")
        declared = self._declared[function]
        actual = client.get_function_configuration(FunctionName=self._resources[function])
        for name in ("Handler", "Timeout"):
            yield f"{function}.{name}", declared[name], actual[name]
        variables = self._stack.resolve(declared["Environment"]["Variables"])
        yield f"{function}.Environment", sorted(variables), sorted(actual["Environment"]["Variables"])

    def _rule(self) -> Iterator[Compared]:
        events, name = self._aws.client("events"), self._rule_name()
        declared = self._stack.properties("MemberAccountInitialization")
        target = events.list_targets_by_rule(Rule=name)["Targets"][0]
        pattern = json.loads(events.describe_rule(Name=name)["EventPattern"])
        yield "the rule's pattern", declared["EventPattern"], pattern
        yield "the rule's retries", declared["Targets"][0]["RetryPolicy"], target.get("RetryPolicy")

    def _evidence(self) -> Iterator[Compared]:
        s3, bucket = self._aws.client("s3"), self._resources["Evidence"]
        lock = s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
        yield "Evidence's retention", default_retention(self._stack.parameters), lock["Rule"]["DefaultRetention"]
        yield "Evidence's versioning", "Enabled", s3.get_bucket_versioning(Bucket=bucket).get("Status")

    def _outcomes(self) -> Iterator[Compared]:
        declared = self._declared["Outcomes"]
        table = self._aws.client("dynamodb").describe_table(TableName=self._resources["Outcomes"])["Table"]
        yield "Outcomes.KeySchema", declared["KeySchema"], table["KeySchema"]
        indexes = [each["IndexName"] for each in table.get("GlobalSecondaryIndexes", [])]
        yield "Outcomes' indexes", [each["IndexName"] for each in declared["GlobalSecondaryIndexes"]], indexes

    def _attributes(self, queue: str) -> Mapping[str, str]:
        attributes: Mapping[str, str] = self._aws.client("sqs").get_queue_attributes(
            QueueUrl=self._resources[queue], AttributeNames=["All"]
        )["Attributes"]
        return attributes

    def _rule_name(self) -> str:
        return self._resources["MemberAccountInitialization"].rpartition("/")[2]


def _denials(document: Mapping[str, Any]) -> list[Any]:
    return [each for each in document["Statement"] if each["Effect"] == "Deny"]
