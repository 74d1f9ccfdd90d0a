"""The tables for queries: their columns are those of the contracts, and their partitions the days of the keys.

The embedded AWS creates them, and cannot query them. What Athena does is taken from its documentation.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.deploy.build import ROOT
from infra.deploy.template import load
from schemas.contracts import CONTRACTS, json_schemas
from schemas.evidence import Evidence, RehearsalEvidence
from schemas.keys import SEALED_PREFIXES, audit_prefix, evidence_key, rehearsal_key
from tests.generated import instances
from tests.infra.test_template import resolved
from tests.tables import hive_type

TEMPLATE = load((ROOT / "infra" / "template.yaml").read_text())
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]
TABLES: Final = {
    each["Properties"]["TableInput"]["Name"]: each["Properties"]["TableInput"]
    for each in RESOURCES.values()
    if each["Type"] == "AWS::Glue::Table"
}
#: The contract of each table's objects.
CONTRACT_OF: Final = {"evidence": "evidence", "acts": "act", "configuration": "configuration", "sweeps": "sweep"}
SCHEMAS = json_schemas()


def test_tables_are_off_by_default_and_all_have_the_same_condition() -> None:
    assert TEMPLATE["Parameters"]["CreateGlueTables"]["Default"] == "false"
    glue = {name: each for name, each in RESOURCES.items() if each["Type"].startswith("AWS::Glue::")}

    assert {each["Condition"] for each in glue.values()} == {"CreatesGlueTables"}
    assert len(glue) == len(CONTRACT_OF) + 1
    # They hold no data, so they are deleted with the stack, and the objects stay.
    assert not [name for name, each in glue.items() if "DeletionPolicy" in each]


def test_each_kind_of_record_has_a_table_and_no_backup_has() -> None:
    assert {f"{name}/" for name in TABLES} == set(SEALED_PREFIXES)


@pytest.mark.parametrize("name", CONTRACT_OF)
def test_the_columns_of_a_table_are_the_fields_of_its_contract(name: str) -> None:
    schema = SCHEMAS[CONTRACT_OF[name]]
    fields = {field: hive_type(each, schema.get("$defs", {})) for field, each in schema["properties"].items()}

    columns = {each["Name"]: each["Type"] for each in TABLES[name]["StorageDescriptor"]["Columns"]}

    assert columns == fields, f"make the columns of table {name} in infra/template.yaml these"
    assert list(columns) == list(fields)


@pytest.mark.parametrize("name", CONTRACT_OF)
def test_the_partitions_of_a_table_are_the_days_of_its_keys(name: str) -> None:
    """https://docs.aws.amazon.com/athena/latest/ug/partition-projection-supported-types.html."""
    parameters = resolved(TABLES[name]["Parameters"], TEMPLATE, {})

    assert TABLES[name]["PartitionKeys"] == [{"Name": "day", "Type": "string"}]
    assert parameters["projection.enabled"] == "true"
    assert (parameters["projection.day.type"], parameters["projection.day.format"]) == ("date", "yyyy/MM/dd")
    assert (parameters["projection.day.interval"], parameters["projection.day.interval.unit"]) == ("1", "DAYS")
    assert re.fullmatch("[0-9]{4}/[0-9]{2}/[0-9]{2},NOW", parameters["projection.day.range"])
    assert parameters["storage.location.template"] == f"s3://Evidence-1/{name}/${{day}}/"
    assert resolved(TABLES[name]["StorageDescriptor"]["Location"], TEMPLATE, {}) == f"s3://Evidence-1/{name}/"


def location(name: str, day: datetime) -> str:
    template = str(resolved(TABLES[name]["Parameters"]["storage.location.template"], TEMPLATE, {}))
    return template.replace("${day}", f"{day:%Y/%m/%d}").removeprefix("s3://Evidence-1/")


NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_a_partition_holds_the_evidence_of_its_day_and_no_rehearsal() -> None:
    common = {"event_time": NOON, "event_id": "e", "organization_id": "o-exampleorgid", "recorded_at": NOON}
    evidence = Evidence(**common, event_name="x", source="x", attempt=1, status="ENFORCED")  # type: ignore[arg-type]
    times = {"queued_at": NOON, "received_at": NOON}
    rehearsal = RehearsalEvidence(**common, **times, body_digest="0" * 64, receives=1)  # type: ignore[arg-type]

    assert evidence_key(evidence).startswith(location("evidence", NOON))
    assert audit_prefix(NOON) == location("acts", NOON)
    assert not rehearsal_key(rehearsal, "0" * 64).startswith(location("evidence", NOON))


@pytest.mark.parametrize("name", CONTRACT_OF)
@settings(max_examples=30)
@given(data=st.data())
def test_a_record_is_one_line_as_the_serde_needs_it(name: str, data: st.DataObject) -> None:
    """https://docs.aws.amazon.com/athena/latest/ug/hive-json-serde.html."""
    record = CONTRACTS[CONTRACT_OF[name]].model_validate(data.draw(instances(SCHEMAS[CONTRACT_OF[name]])))

    # As all records are written.
    assert len(record.model_dump_json(exclude_none=True).encode().splitlines()) == 1


def test_keys_of_maps_keep_their_case_and_archived_objects_are_read_once_they_are_restored() -> None:
    """The OpenX SerDe changes the case of keys, and AWS says that it can return more or fewer rows than there are.

    https://docs.aws.amazon.com/athena/latest/ug/openx-json-serde.html
    https://docs.aws.amazon.com/athena/latest/ug/querying-glacier.html
    """
    for table in TABLES.values():
        serde = table["StorageDescriptor"]["SerdeInfo"]
        assert serde == {"SerializationLibrary": "org.apache.hive.hcatalog.data.JsonSerDe"}
        assert table["Parameters"]["read_restored_glacier_objects"] == "true"
