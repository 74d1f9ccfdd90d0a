"""The contracts as others see them."""

from __future__ import annotations

import json
from contextlib import suppress

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.deploy.write_schemas import FOLDER, rendered
from infra.local.events import account_created, account_joined, handshake_accepted
from schemas.contracts import json_schemas
from schemas.intake import InvalidEventError
from tests.fakes import ACCOUNT, MANAGEMENT, ORGANIZATION, World, joined
from tests.messages import Event, announced, changed, created, invited, json_values, paths, read

SCHEMAS = json_schemas()


def test_the_files_are_what_the_models_say() -> None:
    files = {path.name: path.read_text() for path in FOLDER.glob("*.json")}

    assert files == rendered(), "schemas/json is stale: run `make schemas`"


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_each_is_a_valid_schema(schema: dict[str, object]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


def test_join_events_fit_their_schema() -> None:
    for event in (
        handshake_accepted(ACCOUNT, ORGANIZATION, MANAGEMENT),
        account_created(ACCOUNT, MANAGEMENT),
        account_joined(ACCOUNT, ORGANIZATION, MANAGEMENT),
    ):
        jsonschema.validate(event, SCHEMAS["organizations-event"])


@settings(max_examples=200)
@given(st.sampled_from([invited(), created(), announced()]), st.data())
def test_whatever_event_is_read_fits_the_schema(event: Event, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in paths(event) if path and path != ("detail",)]))
    spoilt = changed(event, path, data.draw(json_values))

    with suppress(InvalidEventError):
        read(spoilt)
        jsonschema.validate(spoilt, SCHEMAS["organizations-event"])


def test_what_is_written_fits_its_schema() -> None:
    world = World()
    world.handle(joined())
    [evidence] = world.evidence()
    outcome = world.ledger.outcome("event-1")

    jsonschema.validate(json.loads(evidence.model_dump_json(exclude_none=True)), SCHEMAS["evidence"])
    jsonschema.validate(json.loads(outcome.model_dump_json(exclude_none=True)), SCHEMAS["outcome"])


def test_a_clear_account_id_is_no_pseudonym() -> None:
    world = World()
    world.handle(joined())
    evidence = json.loads(world.evidence()[0].model_dump_json(exclude_none=True))
    evidence["account"]["value"] = ACCOUNT

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(evidence, SCHEMAS["evidence"])
