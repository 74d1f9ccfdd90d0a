"""Create boto3 clients with explicit time-outs and retries; endpoints come from AWS's own environment variables."""

from functools import cache
from typing import Any, Final

import boto3
from botocore.config import Config

#: The time-outs keep a call that hangs from using up a record's time slice of about ten seconds.
_COMMON: Final = Config(
    connect_timeout=2,
    read_timeout=5,
    tcp_keepalive=True,
    user_agent_extra="joinguard",
    retries={"mode": "standard", "total_max_attempts": 3},
)

#: Calls of Organizations are retried by `core.timing.retry` alone. botocore does not retry
#: ConcurrentModificationException and PolicyChangesInProgressException, and it hides the retries that it makes. If it
#: hid a time-out before an answer "already attached", the attachment would not be recorded as ours.
_WITHOUT_RETRIES: Final = Config(retries={"mode": "standard", "total_max_attempts": 1})
#: The Resource Groups Tagging API answers with the tags of accounts.
_RETRIED_BY_US: Final = frozenset({"organizations", "resourcegroupstaggingapi"})


@cache
def _session() -> boto3.Session:
    return boto3.Session()


def client(service: str, region: str | None = None) -> Any:
    """Create a client for a service in a Region, or in the function's.

    Its endpoint is that of the Region, unless `AWS_ENDPOINT_URL_<SERVICE>` or `AWS_ENDPOINT_URL` is set.
    """
    config = _COMMON.merge(_WITHOUT_RETRIES) if service in _RETRIED_BY_US else _COMMON
    return _session().client(service, region_name=region, config=config)  # type: ignore[call-overload]
