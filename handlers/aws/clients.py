"""How boto3 talks: time-outs and retries set on purpose, endpoints from the standard environment alone."""

from functools import cache
from typing import Any, Final

import boto3
from botocore.config import Config

#: A call that hangs must not eat a record's share of time (about ten seconds).
_COMMON: Final = Config(
    connect_timeout=2,
    read_timeout=5,
    tcp_keepalive=True,
    user_agent_extra="joinguard",
    retries={"mode": "standard", "total_max_attempts": 3},
)

#: Organizations is retried by us alone (`core.timing.retry`). botocore does not retry
#: ConcurrentModificationException and PolicyChangesInProgressException at all, and what it does retry it
#: hides: whether a time-out came before "is attached already" decides whether the change was ours.
_BY_US: Final = Config(retries={"mode": "standard", "total_max_attempts": 1})


@cache
def _session() -> boto3.Session:
    return boto3.Session()


def client(service: str) -> Any:
    """Make a client for a service; its endpoint is the Region's, or what AWS_ENDPOINT_URL(_SERVICE) says."""
    config = _COMMON.merge(_BY_US) if service == "organizations" else _COMMON
    return _session().client(service, config=config)  # type: ignore[call-overload]
