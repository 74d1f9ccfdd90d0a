"""The published JSON Schemas of the contracts."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.deploy.write_schemas import FOLDER, rendered, write
from infra.local.events import account_created, account_joined, handshake_accepted
from schemas.contracts import json_schemas
from schemas.intake import InvalidEventError
from tests.fakes import ACCOUNT, MANAGEMENT, ORGANIZATION, World, joined
from tests.messages import Event, announced, changed, created, invited, json_values, paths, read

SCHEMAS = json_schemas()


def test_the_files_match_the_models() -> None:
    files = {path.name: path.read_text() for path in FOLDER.glob("*.json")}

    assert files == rendered(), "schemas/json is stale: run `make schemas`"


def test_writing_the_schemas_deletes_files_that_no_model_generates_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "json"
    assert write(folder) == len(SCHEMAS)
    (folder / "stale.json").write_text("{}")
    (folder / "outcome.json").write_text("{}")
    (folder / "README.md").write_text("x")

    write(folder)

    assert {path.name: path.read_text() for path in folder.iterdir()} == rendered() | {"README.md": "x"}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_schema_is_valid(schema: dict[str, object]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


def test_join_events_match_their_schema() -> None:
    for event in (
        handshake_accepted(ACCOUNT, ORGANIZATION, MANAGEMENT),
        account_created(ACCOUNT, MANAGEMENT),
        account_joined(ACCOUNT, ORGANIZATION, MANAGEMENT),
    ):
        jsonschema.validate(event, SCHEMAS["organizations-event"])


@settings(max_examples=200)
@given(st.sampled_from([invited(), created(), announced()]), st.data())
def test_every_event_that_can_be_read_matches_the_schema(event: Event, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in paths(event) if path and path != ("detail",)]))
    changed_event = changed(event, path, data.draw(json_values))

    with suppress(InvalidEventError):
        read(changed_event)
        jsonschema.validate(changed_event, SCHEMAS["organizations-event"])


def test_written_evidence_and_outcomes_match_their_schemas() -> None:
    world = World()
    world.handle(joined())
    [evidence] = world.evidence()
    outcome = world.ledger.outcome("event-1")

    jsonschema.validate(json.loads(evidence.model_dump_json(exclude_none=True)), SCHEMAS["evidence"])
    jsonschema.validate(json.loads(outcome.model_dump_json(exclude_none=True)), SCHEMAS["outcome"])


def test_an_account_id_is_not_a_valid_pseudonym() -> None:
    world = World()
    world.handle(joined())
    evidence = json.loads(world.evidence()[0].model_dump_json(exclude_none=True))
    evidence["account"]["value"] = ACCOUNT

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(evidence, SCHEMAS["evidence"])
