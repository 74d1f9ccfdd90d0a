"""The usual solution, for comparison: a function that the rule invokes, which attaches and ignores errors."""

from __future__ import annotations

from functools import partial
from random import Random

from infra.local.organizations import ATTACH, READ, Organizations, Rules, policies_of
from tests.bench.virtual import VirtualTime

#: botocore's standard mode: three attempts if the error is a throttle or a server error.
_MAX_ATTEMPTS = 3
_BOTOCORE_RETRIES = frozenset({"TooManyRequestsException", "ServiceException"})


def run_rival(joins: int, *, policies: int = 2, within: float = 60, seed: int = 1) -> dict[str, float]:
    """Let accounts join within a minute, each in its own invocation; return the results."""
    clock, rng = VirtualTime(), Random(seed)  # noqa: S311 - an experiment
    policy_ids = tuple(f"p-{number:08d}" for number in range(policies))
    organizations = Organizations(Rules(seed=seed), clock, set(policy_ids))
    joined_at = {f"{number + 1:012d}": rng.uniform(0, within) for number in range(joins)}
    organizations.join(*joined_at)

    def call(operation: str, request: dict[str, str]) -> None:
        for attempt in range(_MAX_ATTEMPTS):
            answer = organizations.answer(operation, request)
            body = (answer.body or b"").decode()
            if answer.status == 200 or not any(code in body for code in _BOTOCORE_RETRIES):
                return
            clock.wait(rng.uniform(0, 1) * 2**attempt)

    def function(account_id: str) -> None:
        clock.wait(joined_at[account_id])
        # It would list all policies of the organization, at the same rate and cost.
        call(READ, {"TargetId": account_id})
        for policy_id in policy_ids:
            call(ATTACH, {"TargetId": account_id, "PolicyId": policy_id})

    clock.run(*[partial(function, account_id) for account_id in joined_at])
    carried = policies_of(organizations, joined_at)
    return {
        "calls per join": sum(organizations.calls.values()) / joins,
        "throttled": organizations.refused[ATTACH, "TooManyRequestsException"] / organizations.calls[ATTACH],
        "accounts without all policies": sum(each != set(policy_ids) for each in carried.values()),
        "seconds": clock.seconds(),
    }
