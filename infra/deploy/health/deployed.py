"""A deployed stack: its state, its resources, and the properties that its template gives them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from infra.deploy.template import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_cloudformation import CloudFormationClient

_NO_VALUE: Final = object()
_OF_LISTS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "Fn::Join": lambda separator, parts: separator.join(parts),
    "Fn::Select": lambda index, values: values[int(index)],
    "Fn::Split": lambda separator, text: text.split(separator),
}
#: States of a resource that does not exist.
_GONE: Final = frozenset({"CREATE_FAILED", "DELETE_COMPLETE"})
#: The ARN of a resource without a region, or with its own form. {id} is the physical id, or the last part of a URL.
_ARNS: Final = {
    "AWS::DynamoDB::Table": "arn:{partition}:dynamodb:{region}:{account}:table/{id}",
    "AWS::Events::Rule": "arn:{partition}:events:{region}:{account}:rule/{id}",
    "AWS::KMS::Key": "arn:{partition}:kms:{region}:{account}:key/{id}",
    "AWS::Lambda::Function": "arn:{partition}:lambda:{region}:{account}:function:{id}",
    "AWS::Logs::LogGroup": "arn:{partition}:logs:{region}:{account}:log-group:{id}:*",
    "AWS::S3::Bucket": "arn:{partition}:s3:::{id}",
    "AWS::SQS::Queue": "arn:{partition}:sqs:{region}:{account}:{id}",
    # In the default group, as all of ours.
    "AWS::Scheduler::Schedule": "arn:{partition}:scheduler:{region}:{account}:schedule/default/{id}",
}


class MissingError(Exception):
    """A resource of the template is not in the stack."""


class UnresolvedError(Exception):
    """A value of the template cannot be computed here."""


@dataclass(frozen=True)
class Deployed:
    """A stack as it was deployed. A resource is named by its logical id."""

    name: str
    stack_id: str
    status: str
    reason: str
    parameters: Mapping[str, str]
    template: Mapping[str, Any] = field(default_factory=lambda: {"Resources": {}}, repr=False)
    #: Physical ids by logical id, of the resources that exist according to CloudFormation.
    ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def partition(self) -> str:
        """The stack's partition, such as aws or aws-cn."""
        return self.stack_id.split(":")[1]

    @property
    def region(self) -> str:
        """The stack's Region."""
        return self.stack_id.split(":")[3]

    @property
    def account(self) -> str:
        """The account that the stack is in."""
        return self.stack_id.split(":")[4]

    def declared(self) -> list[str]:
        """Return the resources of the template whose condition is true or cannot be evaluated here."""
        return [name for name, each in self.template["Resources"].items() if self._applies(each.get("Condition"))]

    def _applies(self, condition: str | None) -> bool:
        try:
            return condition is None or self._condition(condition)
        except (MissingError, UnresolvedError):
            return True

    def of_type(self, kind: str) -> list[str]:
        """Return the declared resources of a type."""
        return [name for name in self.declared() if self.template["Resources"][name]["Type"] == kind]

    def id(self, name: str) -> str:
        """Return a resource's physical id; raise MissingError if it does not exist."""
        if name not in self.ids:
            raise MissingError("does not exist in the stack")
        return self.ids[name]

    def short_id(self, name: str) -> str:
        """Return the name of a queue, rule or function, whose physical id may be a URL or an ARN."""
        return re.split(r"[/|]", self.id(name))[-1]

    def properties(self, name: str) -> dict[str, Any]:
        """Return a resource's properties with all references replaced; raise UnresolvedError or MissingError."""
        resolved: dict[str, Any] = self.resolve(self.declaration(name).get("Properties", {}))
        return resolved

    def declaration(self, name: str) -> Mapping[str, Any]:
        """Return a resource as the template has it; raise MissingError if the template has no such resource."""
        resource: Mapping[str, Any] | None = self.template["Resources"].get(name)
        if resource is None:
            raise MissingError("is not in the template that was deployed")
        return resource

    def resolve(self, value: Any) -> Any:
        """Return a part of the template with all intrinsic functions replaced by their values."""
        if isinstance(value, list):
            return [each for each in map(self.resolve, value) if each is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(name, argument)] = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._function(name, argument)
        resolved = {name: self.resolve(each) for name, each in value.items()}
        return {name: each for name, each in resolved.items() if each is not _NO_VALUE}

    def _function(self, name: str, argument: Any) -> Any:
        match name:
            case "Ref":
                return self._reference(argument)
            case "Fn::GetAtt":
                return self._attribute(*(argument if isinstance(argument, list) else argument.split(".", 1)))
            case "Fn::If":
                condition, then, otherwise = argument
                return self.resolve(then if self._condition(condition) else otherwise)
            case "Fn::Sub":
                text, variables = (argument, {}) if isinstance(argument, str) else argument
                return self._substitute(text, self.resolve(variables))
        if name not in _OF_LISTS:
            raise UnresolvedError(f"the template uses {name}")
        return _OF_LISTS[name](*self.resolve(argument))

    def _reference(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        pseudo = {
            "AWS::AccountId": self.account,
            "AWS::Partition": self.partition,
            "AWS::Region": self.region,
            "AWS::StackId": self.stack_id,
            "AWS::StackName": self.name,
            "AWS::URLSuffix": "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com",
        }
        if name in pseudo:
            return pseudo[name]
        if name not in self.parameters:
            return self.id(name)
        is_list = self.template.get("Parameters", {}).get(name, {}).get("Type") == "CommaDelimitedList"
        return [each.strip() for each in self.parameters[name].split(",")] if is_list else self.parameters[name]

    def _attribute(self, name: str, attribute: str) -> str:
        resource = self.declaration(name)
        if attribute.endswith("Name"):
            return self.short_id(name)
        if attribute == "Arn" and resource["Type"] == "AWS::IAM::Role":
            path = self.resolve(resource.get("Properties", {}).get("Path", "/"))
            return f"arn:{self.partition}:iam::{self.account}:role{path}{self.id(name)}"
        if attribute != "Arn" or resource["Type"] not in _ARNS:
            raise UnresolvedError(f"the template uses {name}.{attribute}")
        # A log group's name contains slashes.
        identity = self.id(name) if resource["Type"] == "AWS::Logs::LogGroup" else self.short_id(name)
        return _ARNS[resource["Type"]].format(
            partition=self.partition, region=self.region, account=self.account, id=identity
        )

    def _substitute(self, text: str, variables: Mapping[str, str]) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in variables:
                return str(variables[name])
            if "." in name:
                return self._attribute(*name.split(".", 1))
            return str(self._reference(name))

        return re.sub(r"\$\{([^}]+)\}", value, text)

    def _condition(self, condition: Any) -> bool:
        if isinstance(condition, str):
            return self._condition(self.template["Conditions"][condition])
        [(name, argument)] = condition.items()
        match name:
            case "Condition":
                return self._condition(argument)
            case "Fn::Equals":
                first, second = self.resolve(argument)
                return bool(first == second)
            case "Fn::Not":
                return not self._condition(argument[0])
            case "Fn::And":
                return all(map(self._condition, argument))
            case "Fn::Or":
                return any(map(self._condition, argument))
        raise UnresolvedError(f"the template uses {name} in a condition")


def read_stack(cloudformation: CloudFormationClient, stack: str) -> Deployed:
    """Read a stack's state, without its template and resources; the error ValidationError means that there is none."""
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    return Deployed(
        name=stack,
        stack_id=described["StackId"],
        status=described["StackStatus"],
        reason=described.get("StackStatusReason", ""),
        parameters=dict(_parameters(described.get("Parameters", []))),
    )


def read_contents(cloudformation: CloudFormationClient, stack: Deployed) -> Deployed:
    """Return the stack with its template and its resources."""
    resources = cloudformation.describe_stack_resources(StackName=stack.name)["StackResources"]
    template: Any = cloudformation.get_template(StackName=stack.name)["TemplateBody"]
    return replace(
        stack,
        # botocore parses a template in JSON.
        template=load(template) if isinstance(template, str) else template,
        ids={
            each["LogicalResourceId"]: each["PhysicalResourceId"]
            for each in resources
            if each.get("PhysicalResourceId") and each["ResourceStatus"] not in _GONE
        },
    )


def _parameters(described: list[Any]) -> Iterator[tuple[str, str]]:
    for each in described:
        yield each["ParameterKey"], each.get("ResolvedValue", each["ParameterValue"])
