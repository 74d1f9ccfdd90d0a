"""The contracts as others see them."""

from __future__ import annotations

import json

import jsonschema
import pytest

from infra.deploy.write_schemas import FOLDER, rendered
from infra.local.events import account_created, account_joined, handshake_accepted
from schemas.contracts import json_schemas
from tests.fakes import ACCOUNT, MANAGEMENT, ORGANIZATION, World, joined

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


def test_what_is_written_fits_its_schema() -> None:
    world = World()
    world.handle(joined())
    [evidence] = world.proven()
    outcome = world.ledger.outcome("event-1")

    jsonschema.validate(json.loads(evidence.model_dump_json(exclude_none=True)), SCHEMAS["evidence"])
    jsonschema.validate(json.loads(outcome.model_dump_json(exclude_none=True)), SCHEMAS["outcome"])


def test_a_clear_account_id_is_no_pseudonym() -> None:
    world = World()
    world.handle(joined())
    evidence = json.loads(world.proven()[0].model_dump_json(exclude_none=True))
    evidence["account"]["value"] = ACCOUNT

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(evidence, SCHEMAS["evidence"])
