"""What an installation costs in seven years, by part and by service: list prices times numbers of calls, and no bill.

Prices are those of us-east-1 in November 2026, without free tiers, from https://aws.amazon.com/SERVICE/pricing/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

YEARS: Final = 7
_MONTHS: Final = 12 * YEARS
_DAYS: Final = 365 * YEARS
_MILLION: Final = 1_000_000
_GB: Final = 1e9

# https://aws.amazon.com/lambda/pricing/, on arm64
LAMBDA_GB_SECOND: Final = 13.33 / _MILLION
LAMBDA_REQUEST: Final = 0.20 / _MILLION
# https://aws.amazon.com/eventbridge/pricing/; S3's events at the price of custom events, although sources differ.
EVENT: Final = 1.00 / _MILLION
SCHEDULED: Final = 1.00 / _MILLION
# https://aws.amazon.com/sqs/pricing/
SQS_REQUEST: Final = 0.40 / _MILLION
# https://aws.amazon.com/dynamodb/pricing/on-demand/; units of 1 KB written, and of 4 KB read with consistency
WRITE: Final = 0.625 / _MILLION
READ: Final = 0.125 / _MILLION
TABLE_GB_MONTH: Final = 0.25
RECOVERY_GB_MONTH: Final = 0.20
# https://aws.amazon.com/s3/pricing/
PUT: Final = 5.00 / _MILLION
LIST: Final = 5.00 / _MILLION
GET: Final = 0.40 / _MILLION
STANDARD_GB_MONTH: Final = 0.023
# https://aws.amazon.com/kms/pricing/; asymmetric keys but those of RSA_2048 cost five times as much a call
KEY_MONTH: Final = 1.00
KEY_CALL: Final = 3.00 / _MILLION
SIGNATURE: Final = 15.00 / _MILLION
# https://aws.amazon.com/cloudwatch/pricing/
METRIC_MONTH: Final = 0.30
ALARM_MONTH: Final = 0.10
DASHBOARD_MONTH: Final = 3.00
PAGE_MONTH: Final = 0.50
LOG_GB: Final = 0.50

#: A year, as the template schedules them.
REHEARSALS: Final = 365 * 96
SWEEPS: Final = 365 * 48
CHECKPOINTS: Final = 365 * 48
#: GB of a function's memory.
_MEMORY: Final = 0.5
#: Bytes.
_EVIDENCE: Final = 1_200
_ROW: Final = 2_000
_INDEX_ITEM: Final = 350
_LEAF: Final = 400
_HASH: Final = 32
_LOG_LINE: Final = 1_300
_ACCESS_LOG_LINE: Final = 700
#: Leaves of a full tile, and of one that is not full on average.
_FULL: Final = 256
_UNFILLED: Final = 128

#: Dollars, by service.
Dollars: TypeAlias = dict[str, float]


@dataclass(frozen=True)
class Installation:
    """How large an installation is."""

    joins_a_year: int
    #: Dollars a month of the sweep, by service (infra/README.md#the-sweep).
    sweep: Dollars

    @property
    def objects_a_year(self) -> int:
        """The number of objects to seal; operators' actions and deployments are few."""
        return self.joins_a_year + REHEARSALS + SWEEPS


SMALL: Final = Installation(10_000, {"Lambda": 2.71, "DynamoDB": 0.18, "CloudWatch": 7.80, "S3": 0.15})
LARGE: Final = Installation(1_000_000, {"Lambda": 13.32, "DynamoDB": 0.69, "CloudWatch": 7.80, "S3": 0.25})


def held(a_year: float, size: float) -> float:
    """Return the GB-months of what is added evenly and never deleted."""
    return a_year * size / _GB * YEARS**2 / 2 * 12


def parts(of: Installation) -> dict[str, Dollars]:
    """Return the dollars of seven years by part of the installation, and of each by service."""
    return {
        "joins: worker, outcomes, evidence": _joins(of),
        "sweeps": {service: _MONTHS * each for service, each in of.sweep.items()},
        "rehearsals": _rehearsals(),
        "sealed log: objects": _objects(of),
        "sealed log: checkpoints": _checkpoints(of),
        "sealed log: daily comparison": _comparisons(of),
        "keys, alarms, dashboard, polls": _fixed(of),
    }


def full_verification(of: Installation) -> Dollars:
    """Return the dollars of one verification of everything after seven years."""
    objects = YEARS * of.objects_a_year
    rows = YEARS * of.joins_a_year * _ROW / 4_096 / 2
    return {"S3": objects * GET + objects / 1_000 * LIST, "DynamoDB": rows * READ}


def _joins(of: Installation) -> Dollars:
    joins, kept = YEARS * of.joins_a_year, of.joins_a_year
    return {
        # It waits for turns.
        "Lambda": joins * (1.2 * _MEMORY * LAMBDA_GB_SECOND + LAMBDA_REQUEST),
        # Sent by the rule, received, deleted.
        "SQS": joins * 3 * SQS_REQUEST,
        # A read; begin, intent, announcement and outcome; two turns; the index of what is failing.
        "DynamoDB": joins * (READ + 10 * WRITE) + held(kept, _ROW) * (TABLE_GB_MONTH + RECOVERY_GB_MONTH),
        "S3": joins * PUT + held(kept, _EVIDENCE + 2 * _ACCESS_LOG_LINE) * STANDARD_GB_MONTH,
        "CloudWatch": joins * _LOG_LINE / _GB * LOG_GB,
    }


def _rehearsals() -> Dollars:
    """Return the dollars of infra/README.md#rehearsals."""
    a_year = {"EventBridge": 0.07, "SQS": 0.04, "Lambda": 0.19, "KMS": 0.21, "DynamoDB": 0.09, "S3": 0.26}
    a_year["CloudWatch"] = 15.62
    return {service: YEARS * each for service, each in a_year.items()}


def _objects(of: Installation) -> Dollars:
    objects, kept = YEARS * of.objects_a_year, of.objects_a_year
    return {
        "EventBridge": objects * EVENT,
        # Sent one by one, received and deleted by tens.
        "SQS": objects * 1.2 * SQS_REQUEST,
        "DynamoDB": objects * (READ + WRITE) + held(kept, _INDEX_ITEM) * TABLE_GB_MONTH,
        # HEAD, its line in the access logs, and the leaf in a batch and in a full bundle, with its hash.
        "S3": objects * GET + held(kept, _ACCESS_LOG_LINE + 2 * _LEAF + _HASH) * STANDARD_GB_MONTH,
        # Eight at a time.
        "Lambda": objects * 0.02 / 8 * _MEMORY * LAMBDA_GB_SECOND,
    }


def _checkpoints(of: Installation) -> Dollars:
    number = YEARS * CHECKPOINTS
    full = YEARS * of.objects_a_year / _FULL
    return {
        "EventBridge": number * SCHEDULED,
        "Lambda": number * (3 * _MEMORY * LAMBDA_GB_SECOND + LAMBDA_REQUEST),
        "SQS": number * 2 * SQS_REQUEST,
        "KMS": number * 2 * SIGNATURE + number * KEY_CALL + _MONTHS * KEY_MONTH,
        "DynamoDB": number * (READ + 2 * WRITE),
        # Batch, tile, bundle, checkpoint; of each full tile, tile and bundle, and the tile above. What is not full.
        "S3": (4 * number + 3 * full) * PUT
        + number * (3 * LIST + 7 * GET)
        + held(CHECKPOINTS, _UNFILLED * (_LEAF + _HASH) + _LEAF + 200) * STANDARD_GB_MONTH,
        "CloudWatch": _MONTHS * (6 * METRIC_MONTH + 3 * ALARM_MONTH) + number * _LOG_LINE / _GB * LOG_GB,
    }


def _comparisons(of: Installation) -> Dollars:
    """Return the dollars of comparing, each day, all objects that there are, and of listing the log itself."""
    compared = of.objects_a_year * YEARS / 2 * _DAYS
    pages = (compared + 4 * CHECKPOINTS * YEARS / 2 * _DAYS) / 1_000
    # A page takes ten calls of DynamoDB.
    return {"S3": pages * LIST, "DynamoDB": compared * READ, "Lambda": pages * 0.4 * _MEMORY * LAMBDA_GB_SECOND}


def _fixed(of: Installation) -> Dollars:
    # Each of the first two yearly rotations of DataKey adds the price of a key.
    keys = 2 * _MONTHS + 12 + 24 * (YEARS - 2)
    # DynamoDB and S3 ask for a data key again after five minutes: four tables and a bucket.
    calls = 5 * 12 * 24 * _DAYS
    hours = min(of.joins_a_year / 8_760, 1)
    return {
        "KMS": keys * KEY_MONTH + calls * KEY_CALL,
        "CloudWatch": _MONTHS * (12 * METRIC_MONTH * hours + 20 * ALARM_MONTH + PAGE_MONTH + DASHBOARD_MONTH),
        "SQS": _MONTHS * 1.3 * _MILLION * SQS_REQUEST,
    }


def by_service(of: Installation) -> Dollars:
    """Return the dollars of seven years by service."""
    every = parts(of).values()
    return {service: sum(each.get(service, 0) for each in every) for each in every for service in each}


def measure() -> dict[str, dict[str, dict[str, float]]]:
    """Return dollars in seven years, and of one full verification after them."""
    columns = {f"{each.joins_a_year:,} joins a year": each for each in (SMALL, LARGE)}
    by_part = {name: {part: sum(each.values()) for part, each in parts(of).items()} for name, of in columns.items()}
    services = {name: by_service(of) for name, of in columns.items()}
    once = {name: {"everything, once": sum(full_verification(of).values())} for name, of in columns.items()}
    for each in by_part.values():
        each["together"] = sum(each.values())
    tables = {"by part": by_part, "by service": services, "to verify after them": once}
    return {title: _by_row(each) for title, each in tables.items()}


def _by_row(columns: dict[str, Dollars]) -> dict[str, dict[str, float]]:
    [first, *_] = columns.values()
    return {row: {name: each[row] for name, each in columns.items()} for row in first}
