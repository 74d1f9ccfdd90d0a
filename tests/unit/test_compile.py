"""Compiling a guardrails document: names become ids, and the lock file keeps them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from handlers.core.guardrails.compile import (
    Organization,
    OrganizationPolicy,
    StaleLockError,
    compiled,
    resolve,
)
from handlers.core.guardrails.evaluate import Guardrails
from handlers.core.guardrails.examples import check_examples
from handlers.core.guardrails.facts import Facts
from schemas.compiled_guardrails import SCP, CompiledGuardrails, PolicyType
from schemas.guardrails import Document, Lock

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
RCP: PolicyType = "RESOURCE_CONTROL_POLICY"
SHA = "a" * 64
TREE = {
    "/": "r-root",
    "/Prod": "ou-root-prod0000",
    "/Prod/Web": "ou-root-web00000",
    "/Prod/Web/EU": "ou-root-eu000000",
    "/Test": "ou-root-test0000",
    "/Test/Web": "ou-root-testweb0",
}
#: An OU that was made after the document was compiled.
LATER = "ou-root-later000"
ORGANIZATION = Organization(
    (
        OrganizationPolicy("p-denyleave1", "deny-leave", SCP, SHA),
        OrganizationPolicy("p-perimeter1", "perimeter", RCP, SHA),
    ),
    TREE,
)


def document(**changes: Any) -> Document:
    return Document.model_validate(
        {
            "version": 1,
            "policies": ["deny-leave"],
            "rules": [{"id": "one", "attach": ["deny-leave"], "match": "all"}],
        }
        | changes
    )


def rule(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": "one", "attach": ["deny-leave"], "match": "all"} | changes]


def locked(written: Document) -> Lock:
    lock, problems = resolve(written, ORGANIZATION)
    assert lock, problems
    return lock


@pytest.mark.parametrize(
    ("pattern", "selected"),
    [
        ("/", {"/"}),
        ("/**", {*TREE, LATER}),
        ("/*", {"/Prod", "/Test"}),
        ("/Prod", {"/Prod"}),
        ("/Prod/*", {"/Prod/Web", LATER}),
        ("/Prod/**", {"/Prod", "/Prod/Web", "/Prod/Web/EU", LATER}),
        ("/Prod/*/**", {"/Prod/Web", "/Prod/Web/EU", LATER}),
        ("/Prod/**/*", {"/Prod/Web", "/Prod/Web/EU", LATER}),
        ("/*/*", {"/Prod/Web", "/Test/Web", LATER}),
        ("/*/Web", {"/Prod/Web", "/Test/Web"}),
        ("/**/Web/**", {"/Prod/Web", "/Prod/Web/EU", "/Test/Web"}),
        # As many as a pattern can hold; without care, the time doubles with each.
        (f"/{'**/' * 330}Web", {"/Prod/Web", "/Test/Web"}),
        (f"/{'**/' * 330}*/Web", {"/Prod/Web", "/Test/Web"}),
        ("ou-root-prod0000", {"/Prod"}),
        ("ou-root-prod0000/**", {"/Prod", "/Prod/Web", "/Prod/Web/EU", LATER}),
        ("r-root/*", {"/Prod", "/Test"}),
    ],
)
def test_an_ou_pattern_selects_accounts_by_where_they_are(pattern: str, selected: set[str]) -> None:
    written = document(rules=rule(match=[{"ou": pattern}]))
    guardrails = Guardrails(compiled(written, locked(written)))
    paths = {path: tuple(TREE[each] for each in above(path)) for path in TREE}
    paths[LATER] = ("r-root", TREE["/Prod"], LATER)

    assert {
        path for path, ous in paths.items() if guardrails.evaluate(Facts("1" * 12, ous=ous), NOON).required
    } == selected


def above(path: str) -> list[str]:
    parts = path.rstrip("/").split("/")
    return ["/".join(parts[: end + 1]) or "/" for end in range(len(parts))]


def test_a_renamed_ou_stays_selected() -> None:
    written = document(rules=rule(match=[{"ou": "/Prod/**"}]))
    result = compiled(written, locked(written))

    assert "Prod" not in result.canonical().decode()
    assert Guardrails(result).evaluate(Facts("1" * 12, ous=("r-root", TREE["/Prod"])), NOON).required


def test_what_the_order_of_means_nothing_changes_no_hash() -> None:
    rules: list[dict[str, Any]] = [
        {
            "id": name,
            "attach": ["perimeter", "deny-leave"],
            "match": [{"ou": ["/Prod", "/Test"], "tags": {"b": ["2", "1"], "a": "x"}, "account": ["2" * 12, "1" * 12]}],
        }
        for name in "abc"
    ]
    policies = ["deny-leave", {"name": "perimeter", "type": RCP}]
    first = document(policies=policies, rules=rules)
    for each in rules:
        each["attach"].reverse()
        for values in (each["match"][0]["ou"], each["match"][0]["tags"]["b"], each["match"][0]["account"]):
            values.reverse()
    rules.reverse()
    second = document(policies=policies, rules=rules)

    assert first != second
    assert locked(first) == locked(second)
    assert locked(first).compiled == compiled(second, locked(second)).sha256()
    other = document(policies=policies[::-1], rules=rules)
    assert locked(other).compiled != locked(first).compiled


def test_the_compiled_guardrails_hold_no_name_of_a_policy_and_no_address() -> None:
    exception = {
        "id": "EXC-1",
        "accounts": ["1" * 12],
        "policies": ["deny-leave"],
        "owner": "a@example.com",
        "approved_by": "b@example.com",
        "reason": "CHG-1",
        "expires": "2027-01-31",
    }
    written = document(exceptions=[exception])
    text = compiled(written, locked(written)).canonical().decode()

    assert CompiledGuardrails.model_validate_json(text).sha256() == locked(written).compiled
    assert "p-denyleave1" in text
    assert SHA in text
    assert not [each for each in ("deny-leave", "@", "CHG-1") if each in text]


def test_a_document_that_was_written_out_and_read_again_compiles_to_the_same_bytes() -> None:
    written = document(rules=rule(match=[{"ou": "/Prod/**", "joined": "INVITED"}], when_no_longer="remove"))
    again = Document.model_validate_json(written.model_dump_json(exclude_defaults=True))
    lock = Lock.model_validate_json(locked(written).model_dump_json())

    assert compiled(again, lock).canonical() == compiled(written, locked(written)).canonical()


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"policies": ["deny-laeve"]}, ("policies", 0), "deny-laeve; did you mean deny-leave?"),
        ({"policies": ["p-denyleave2"]}, ("policies", 0), "no SERVICE_CONTROL_POLICY p-denyleave2"),
        ({"policies": ["perimeter"]}, ("policies", 0), f"is a {RCP}, not a {SCP}"),
        (
            {"rules": rule(match=[{"ou": "/Prod/Wep/**"}])},
            ("rules", 0, "match", 0, "ou", 0),
            "no OU /Prod/Wep; did you mean /Prod/Web?",
        ),
        (
            {"rules": rule(exclude=[{"ou": ["/Prod", "ou-root-gone0000/**"]}], allow_empty=True)},
            ("rules", 0, "exclude", 0, "ou", 1),
            "no OU ou-root-gone0000",
        ),
    ],
)
def test_a_name_that_the_organization_does_not_have_is_a_problem(
    changes: dict[str, Any], path: tuple[Any, ...], message: str
) -> None:
    lock, [problem] = resolve(document(**changes), ORGANIZATION)

    assert lock is None
    assert problem.path == path
    assert message in problem.message


def test_a_rule_that_may_be_empty_may_not_misspell_whom_it_excludes() -> None:
    lock, [problem] = resolve(document(rules=rule(exclude=[{"ou": "/Tset/**"}], allow_empty=True)), ORGANIZATION)

    assert lock is None
    assert "the organization has no OU /Tset; did you mean /Test?" in problem.message


@pytest.mark.parametrize("twice", [["deny-leave", "p-denyleave1"], ["p-denyleave1", "deny-leave"]])
def test_a_policy_by_name_and_by_id_is_the_same_policy(twice: list[str]) -> None:
    """It would take two places, and be attached twice."""
    lock, [problem] = resolve(document(policies=twice, rules=rule(attach=twice)), ORGANIZATION)

    assert lock is None
    assert problem.path == ("policies", 1)
    assert problem.message == f"{twice[1]} is {twice[0]} again; keep one of them"


@pytest.mark.parametrize("key", ["match", "exclude"])
def test_the_order_of_selectors_does_not_change_the_hash(key: str) -> None:
    selectors = [{"name": ["a"]}, {"ou": ["/Prod/**"]}, {"tags": {"b": ["c"]}}]
    hashes = {
        locked(document(rules=rule(**{key: order}))).compiled
        for order in (selectors, selectors[::-1], [*selectors[1:], selectors[0]])
    }

    assert len(hashes) == 1


def test_a_rule_that_may_be_empty_may_name_an_ou_that_does_not_exist_and_selects_nothing() -> None:
    written = document(rules=rule(match=[{"ou": "/Sandbox/**"}], allow_empty=True))
    result = compiled(written, locked(written))

    assert Guardrails(result).evaluate(Facts("1" * 12), NOON).undecided == ()


@pytest.mark.parametrize("changes", [{"policies": ["perimeter"]}, {"rules": rule(match=[{"ou": "/Test/**"}])}])
def test_a_lock_of_another_document_is_refused(changes: dict[str, Any]) -> None:
    lock = locked(document(rules=rule(match=[{"ou": "/Prod/**"}])))

    with pytest.raises(StaleLockError, match="make it again"):
        compiled(document(**changes), lock)


def test_an_example_below_a_path_that_names_two_ous_is_unknown() -> None:
    """`B` in `A`, and another OU `A/B`: the path of `C` in `B` is its own."""
    tree = {"/": "r-root", "/A": "ou-root-aaaaaaaa", "/A/B/C": "ou-root-cccccccc"}
    organization = Organization(ORGANIZATION.policies, tree, {"ou-root-bbbbbbb1": "/A/B", "ou-root-bbbbbbb2": "/A/B"})
    written = document(examples=[{"account": {"ou": "/A/B/C"}, "carries": ["deny-leave"]}])

    [problem] = check_examples(written, locked(written), organization)

    assert "/A/B/C" in problem.message


def test_examples_are_checked_in_the_organization_by_name_and_by_id() -> None:
    examples = [
        {"account": {"ou": "ou-root-eu000000"}, "carries": ["deny-leave"]},
        {"account": {"ou": "/Test"}, "carries": ["deny-leave"]},
        {"account": {"ou": "/Tset"}, "carries": []},
        {"account": {}, "carries": []},
    ]
    written = document(rules=rule(match=[{"ou": "ou-root-prod0000/**"}]), examples=examples)

    found = {each.path: each.message for each in check_examples(written, locked(written), ORGANIZATION)}
    assert set(found) == {("examples", 1), ("examples", 2, "account", "ou"), ("examples", 3)}
    assert "no rule selects the account" in found[("examples", 1)]
    assert "depends on ou" in found[("examples", 3)]
