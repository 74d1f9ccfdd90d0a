"""Find out whether a CloudTrail trail logs management events, without which no event of a call reaches EventBridge.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-service-event-cloudtrail.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: The trail has to log write events: AcceptHandshake is one, and service events are logged with them.
_WITH_WRITES: Final = frozenset({"All", "WriteOnly"})
ORGANIZATIONS: Final = "organizations.amazonaws.com"
#: The services whose events our rules match, which a trail can leave out; many leave out KMS, which has many events.
SERVICES: Final = {ORGANIZATIONS: "Organizations", "kms.amazonaws.com": "KMS", "s3.amazonaws.com": "S3"}


@dataclass(frozen=True)
class Trails:
    """The trails that cover a Region."""

    #: The names of the trails that log the events of the service.
    working: tuple[str, ...]
    #: Why each of the others does not.
    problems: tuple[str, ...]

    @property
    def found(self) -> str:
        """What was found, in one sentence."""
        if self.working:
            return f"{', '.join(self.working)} logs management events"
        return "; ".join(self.problems) or "there is no trail"


def read_trails(client: Callable[[str], Any], region: str, source: str = ORGANIZATIONS) -> Trails:
    """Read which trails log a service's events in a Region; `client` returns a CloudTrail client of a Region.

    Raises ClientError.
    """
    working, problems = [], []
    # Shadow trails are those of other Regions and of the organization.
    for trail in client(region).describe_trails(includeShadowTrails=True)["trailList"]:
        home = trail.get("HomeRegion", region)
        if home != region and not trail.get("IsMultiRegionTrail"):
            continue
        problem = next(_problems(client(home), trail, source), None)
        if problem:
            problems.append(f"trail {trail['Name']} {problem}")
        else:
            working.append(trail["Name"])
    return Trails(tuple(working), tuple(problems))


def _problems(cloudtrail: Any, trail: Mapping[str, Any], source: str) -> Iterator[str]:
    arn = trail["TrailARN"]
    if not cloudtrail.get_trail_status(Name=arn).get("IsLogging"):
        yield "is not logging"
    selectors = cloudtrail.get_event_selectors(TrailName=arn)
    basic, advanced = selectors.get("EventSelectors") or [], selectors.get("AdvancedEventSelectors") or []
    if not any(_basic(each, source) for each in basic) and not any(_advanced(each, source) for each in advanced):
        yield f"does not log write management events of {SERVICES[source]}"


def _basic(selector: Mapping[str, Any], source: str) -> bool:
    # Both defaults are those of PutEventSelectors.
    writes = selector.get("ReadWriteType", "All") in _WITH_WRITES
    excluded = selector.get("ExcludeManagementEventSources") or []
    return bool(selector.get("IncludeManagementEvents", True)) and writes and source not in excluded


def _advanced(selector: Mapping[str, Any], source: str) -> bool:
    """Whether an advanced selector matches a service's write management events. All fields have to match."""
    fields = {each["Field"]: each for each in selector["FieldSelectors"]}
    return (
        fields.get("eventCategory", {}).get("Equals") == ["Management"]
        and _selects(fields.get("readOnly"), "false")
        and _selects(fields.get("eventSource"), source)
        # Other fields, such as eventName or sessionCredentialFromConsole, can leave out what our rules match.
        and fields.keys() <= {"eventCategory", "readOnly", "eventSource"}
    )


def _selects(field: Mapping[str, Any] | None, value: str) -> bool:
    if field is None:
        return True
    conditions = {
        "Equals": value in field.get("Equals", []),
        "NotEquals": value not in field.get("NotEquals", []),
        "StartsWith": any(map(value.startswith, field.get("StartsWith", []))),
        "NotStartsWith": not any(map(value.startswith, field.get("NotStartsWith", []))),
        "EndsWith": any(map(value.endswith, field.get("EndsWith", []))),
        "NotEndsWith": not any(map(value.endswith, field.get("NotEndsWith", []))),
    }
    return all(holds for name, holds in conditions.items() if field.get(name))
