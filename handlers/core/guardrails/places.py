"""Which policies fit on an account.

AWS limits the number of policies of each type on an account, its own policy included. Whatever is attached keeps its
place, whoever attached it and whether or not it is required: attaching never detaches. The required policies that are
missing take the places that are left, the most important first; the least important ones have no place.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from schemas.compiled_guardrails import CompiledPolicy, PolicyType
from schemas.ids import PolicyId


@dataclass(frozen=True)
class AttachedPolicy:
    """A policy that an account carries."""

    id: PolicyId
    type: PolicyType
    #: Whether it is one of AWS's own.
    aws_managed: bool = False


@dataclass(frozen=True)
class NoPlace:
    """A required policy that cannot be attached, because the account carries as many of its type as AWS allows."""

    policy_id: PolicyId
    type: PolicyType
    #: The policies of the guardrails that hold a place and are not required, or are less important.
    held_by: tuple[PolicyId, ...]
    #: How many places policies hold that are not in the guardrails, AWS's own included.
    foreign: int


@dataclass(frozen=True)
class Places:
    """How the required policies of an account fit; each in the order of importance."""

    attached: tuple[PolicyId, ...]
    #: Not attached, and there is a place.
    to_attach: tuple[PolicyId, ...]
    no_place: tuple[NoPlace, ...]


def places(
    policies: Sequence[CompiledPolicy],
    required: Collection[PolicyId],
    attached: Collection[AttachedPolicy],
    policies_per_account: Mapping[PolicyType, int],
) -> Places:
    """Distribute the places of an account.

    `policies` are those of the guardrails, the most important first. Types without a limit have places for all.
    """
    carried = {each.id for each in attached}
    used = Counter(each.type for each in attached)
    order = [each.id for each in policies]
    to_attach: list[PolicyId] = []
    no_place: list[NoPlace] = []
    for position, policy in enumerate(policies):
        if policy.id not in required or policy.id in carried:
            continue
        if used[policy.type] < policies_per_account.get(policy.type, used[policy.type] + 1):
            used[policy.type] += 1
            to_attach.append(policy.id)
            continue
        same_type = {each.id for each in attached if each.type == policy.type}
        dispensable = [each for each in order if each not in required or each in order[position:]]
        held_by = tuple(each for each in dispensable if each in same_type)
        no_place.append(NoPlace(policy.id, policy.type, held_by, foreign=len(same_type.difference(order))))
    return Places(
        tuple(each for each in order if each in required and each in carried), tuple(to_attach), tuple(no_place)
    )
