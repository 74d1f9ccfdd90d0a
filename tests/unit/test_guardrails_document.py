"""Reading guardrails documents: every mistake at once, each with its line and the next step."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import jsonschema
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from handlers.operate.errors import OperateError
from handlers.operate.guardrails_document import GuardrailsError, Mistake, load, read
from infra.deploy.build import ROOT
from schemas.contracts import json_schemas

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
[EXAMPLE] = re.findall(
    r"^```yaml\n(version: 1\n.*?)^```", (ROOT / "schemas" / "README.md").read_text(), re.MULTILINE | re.DOTALL
)
VALID = """\
version: 1
policies:
  - deny-leave
  - region-lock
rules:
  - id: everyone
    attach: [deny-leave]
    match: all
  - id: prod
    attach: [region-lock]
    match:
      - ou: /Workloads/Prod/**
        joined: [INVITED]
      - tags: {environment: [prod]}
    exclude:
      - account: "111122223333"
    when_no_longer: remove
exceptions:
  - id: EXC-1
    accounts: ["111122223333"]
    policies: [region-lock]
    owner: payments@example.com
    approved_by: ciso@example.com
    reason: CHG-4711
    expires: 2027-01-31
limits:
  removals: 25
  policies_per_account: {TAG_POLICY: 3}
examples:
  - account: {ou: /Workloads/Prod/Web, tags: {environment: prod}}
    carries: [deny-leave, region-lock]
"""


def mistakes(text: str | bytes) -> list[str]:
    with pytest.raises(GuardrailsError) as caught:
        read(text if isinstance(text, bytes) else text.encode(), "x.yaml", NOON)
    return str(caught.value).splitlines()


def test_a_valid_document_has_no_mistake() -> None:
    loaded = read(VALID.encode(), "x.yaml", NOON)

    assert [each.id for each in loaded.document.rules] == ["everyone", "prod"]
    assert loaded.notes == ()


def test_the_example_in_the_readme_is_valid_and_matches_the_json_schema() -> None:
    assert read(EXAMPLE.encode(), "README", NOON).document.examples
    plain = yaml.load(EXAMPLE, Loader=yaml.BaseLoader)  # noqa: S506 - a loader of texts only, as editors read days
    plain["version"], plain["limits"] = 1, {"removals": 25}

    jsonschema.validate(plain, json_schemas()["guardrails"])


#: What is replaced in VALID, by what, the line of the mistake, and a part of it.
MISTAKES = [
    ("version: 1\n", "version: 2\n", 1, "version must be 1, not 2"),
    ("version: 1\n", "version: true\n", 1, "version must be 1"),
    ("version: 1\n", "", 1, "version is missing; add version: 1"),
    ("rules:\n", "rulez:\n", 5, "unknown key rulez; did you mean rules?"),
    (
        "    attach: [deny-leave]",
        "    atach: [deny-leave]",
        7,
        "rule everyone: unknown key atach; did you mean attach?",
    ),
    ("    attach: [deny-leave]", "    attach: deny-leave", 7, "rule everyone: attach must be a list of policies"),
    (
        "    attach: [deny-leave]",
        "    attach: []",
        7,
        "attach must be a list of policies, with at least one, not empty",
    ),
    ("[deny-leave]\n    match", "[deny-laeve]\n    match", 7, "unknown policy deny-laeve; did you mean deny-leave?"),
    ("[deny-leave]\n    match", "[deny-leave, deny-leave]\n    match", 7, "attach names deny-leave more than once"),
    ("match: all", "match: everything", 8, "match must be all, or a list of selectors"),
    ("match: all", "match: []", 8, "match must be all, or a list of selectors"),
    ("match: all", "match: [{}]", 8, "has no key, so it would select every account; write match: all"),
    ("match: all", "match: {ou: /A}", 8, "match must be all, or a list of selectors"),
    ("    match: all\n", "", 6, "rule everyone: match is missing; add match: all, or a list of selectors"),
    ("  - id: prod", "  - id: everyone", 9, "has the same id as rule 1 of the list; give it another one"),
    ("  - id: prod", "  - id: -prod", 9, "id must be letters, digits"),
    ("ou: /Workloads", "oo: /Workloads", 12, "rule prod: unknown key oo; known are account, ou,"),
    ("ou: /Workloads/Prod/**", "ou: Workloads/Prod/**", 12, "ou must be a path from the root"),
    ("ou: /Workloads/Prod/**", "ou: /Workloads/Prod*/x", 12, "ou has * within a name, but * stands for a whole level"),
    ("ou: /Workloads/Prod/**", "ou: /Workloads/Prod/", 12, "ou must be a path from the root"),
    ("ou: /Workloads/Prod/**", "ou: ou-ab12-abcdefgh/Prod", 12, "ou must be a path from the root"),
    (
        "joined: [INVITED]",
        "joined: [invited]",
        13,
        "joined must be INVITED or CREATED, not invited; did you mean INVITED?",
    ),
    ("tags: {environment: [prod]}", "tags: [environment]", 14, "tags must map a tag's key to its values"),
    ("tags: {environment: [prod]}", "tags: {environment: []}", 14, "environment must be text or a list of texts"),
    (
        "tags: {environment: [prod]}",
        "tags: {environment: [no]}",
        14,
        "no without quotes is a yes or no to some readers",
    ),
    ("tags: {environment: [prod]}", "tags: {on: [prod]}", 14, "on without quotes is a yes or no to some readers"),
    ("tags: {environment: [prod]}", "tags: {5: [prod]}", 14, "the key 5 without quotes is not text in YAML"),
    ("tags: {environment: [prod]}", "tags: {environment: [2027-01-31]}", 14, "without quotes is a date in YAML"),
    ("tags: {environment: [prod]}", "tags: {environment: [1e3]}", 14, "is text to some readers of YAML and a number"),
    ("tags: {environment: [prod]}", "tags: {environment: [1:30]}", 14, "is a number to some readers of YAML and text"),
    ("tags: {environment: [prod]}", "tags: {environment: [true]}", 14, "true without quotes is not text in YAML"),
    (
        'account: "111122223333"',
        "account: 011122223333",
        16,
        "rule prod: 011122223333 without quotes is an octal number",
    ),
    ('account: "111122223333"', "account: 099922223333", 16, "is text to some readers of YAML and a number to others"),
    ('account: "111122223333"', "account: 111122223333", 16, "111122223333 without quotes is not text in YAML; put it"),
    (
        'account: "111122223333"',
        'account: ["1111"]',
        16,
        "account must be an account id: 12 digits in quotes, not 1111",
    ),
    ("when_no_longer: remove", "when_no_longer: delete", 17, "when_no_longer must be keep or remove, not delete"),
    ("when_no_longer: remove", "allow_empty: yes", 17, "put it in quotes, or write true"),
    ("when_no_longer: remove", 'allow_empty: "true"', 17, "allow_empty must be true or false"),
    ("    owner: payments@example.com\n", "", 19, "exception EXC-1: owner is missing; add owner: the e-mail address"),
    ("    expires: 2027-01-31\n", "", 19, "exception EXC-1: expires is missing; add expires: its last day"),
    ("2027-01-31", "2027-02-30", 25, "exception EXC-1: 2027-02-30 is not a day of the calendar"),
    ("2027-01-31", "never", 25, "expires must be a day, such as 2027-01-31"),
    ("2027-01-31", "2027-01-31T12:00:00Z", 25, "expires must be a day, such as 2027-01-31"),
    ("2027-01-31", "2027-01-31\n    starts: 2027-02-01", 19, "starts after it expires; correct starts or expires"),
    ("owner: payments@example.com", "owner: payments", 22, "owner must be an e-mail address: of who answers for it"),
    ("policies: [region-lock]", "policies: [region-look]", 21, "unknown policy region-look; did you mean region-lock?"),
    ("removals: 25", "removals: -1", 27, "removals must be a whole number from 0 to 5000, without quotes, not -1"),
    ("removals: 25", 'removals: "25"', 27, "removals must be a whole number from 0 to 5000, without quotes"),
    ("TAG_POLICY: 3", "TAGS: 3", 28, "must be a policy type of AWS Organizations"),
    ("  - region-lock\n", "  - region-lock\n  - deny-leave\n", 5, "deny-leave is in the list more than once"),
    ("  - region-lock\n", "  - region-lock\n  - pilot\n", 5, "policy pilot: no rule attaches it; attach it in a rule"),
    ("  - region-lock\n", "  - {name: region-lock, type: SCP}\n", 4, "type must be a policy type of AWS Organizations"),
    ("  - region-lock\n", "  - {name: region-lock, id: p-regionlock1}\n", 4, "must have either name or id"),
    (
        "carries: [deny-leave, region-lock]",
        "carries: [deny-leave]",
        30,
        "example 1: carries region-lock too (rule prod)",
    ),
    (
        "environment: prod}",
        "environment: test}, joined: CREATED",
        30,
        "does not carry region-lock (no rule selects the",
    ),
    (", tags: {environment: prod}", "", 30, "whether it carries region-lock depends on joined; add joined to account"),
    ("TAG_POLICY: 3", "SERVICE_CONTROL_POLICY: 2", 31, "but an account has room for 1 beside that of AWS"),
    ("match: all", "match: &a all", 8, "has the anchor a; write the values where they are used"),
    ("  - id: prod\n", "  - <<: {a: b}\n    id: prod\n", 9, "has the merge key <<"),
    ("match: all", "match: *x", 8, "has the alias x"),
    ("    match: all\n", "    match: all\n    match: all\n", 9, "has the key match again (first on line 8); keep one"),
    ("match: all", "match: !!python/object:os.system all", 8, "has the YAML tag"),
    ("    match: all\n", "    match: all\n   bad: x\n", 9, "is not valid YAML"),
    ("    match: all\n", "    match: all\n\tid: x\n", 9, "is not valid YAML"),
    ("limits:\n", "---\nlimits:\n", 26, "is not valid YAML"),
    ("match: all", "match: " + "[" * 30 + "]" * 30, 8, "is nested deeper than 20 levels"),
]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"), MISTAKES, ids=[f"{n}: {each[3]}" for n, each in enumerate(MISTAKES)]
)
def test_a_mistake_is_reported_once_with_its_line_and_what_to_do(old: str, new: str, line: int, message: str) -> None:
    assert old in VALID
    found = mistakes(VALID.replace(old, new, 1))

    assert [each for each in found if each.startswith(f"x.yaml:{line}: ") and message in each], found
    assert len([each for each in found if each.startswith(f"x.yaml:{line}: ")]) == 1, found


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", 1, "must be a mapping; begin with version: 1"),
        (b"- a\n", 1, "must be a mapping"),
        (b"version: 1\n# \xff\n", 2, "is not UTF-8"),
        (b"version: 1\n\x07\n", 2, "has the control character 0x07"),
        (b"version: 1\n\n# \x00\n", 3, "has the control character 0x00"),
        (b"version: !!timestamp one\n", 1, "has the YAML tag tag:yaml.org,2002:timestamp; write the value without it"),
        (b'version: !!int ""\n', 1, "has the YAML tag tag:yaml.org,2002:int"),
        (
            b"version: 1\npolicies: [a]\nrules:\n  all:\n    attach: [a]\n    match: [{account: 012345678901}]\n",
            3,
            "rules must be a list",
        ),
        (b"version: 1\nexceptions:\n  EXC-1: {accounts: [012345670123]}\n", 1, "policies is missing"),
        (b"a: 1\n" * 300_000, 1, "is larger than"),
        (b"? [a]\n: b\n", 1, "has a key that is not text"),
    ],
)
def test_what_is_no_document_is_refused(content: bytes, line: int, message: str) -> None:
    [first, *_] = mistakes(content)

    assert first.startswith(f"x.yaml:{line}: ")
    assert message in first


def test_all_mistakes_are_reported_at_once_in_the_order_of_their_lines() -> None:
    text = VALID
    for old, new in (
        ("match: all", "match: al"),
        ("ou: /W", "oo: /W"),
        ('account: "111122223333"', "account: 011122223333"),
        ("    owner: payments@example.com\n", ""),
        ("removals: 25", "removals: x"),
        ("carries: [deny-leave", "carries: [deny-laeve"),
    ):
        assert old in text
        text = text.replace(old, new, 1)

    lines = [int(each.split(":")[1]) for each in mistakes(text)]
    assert lines == [8, 12, 16, 19, 26, 30]


def test_an_exception_that_has_ended_is_no_mistake_but_named() -> None:
    text = VALID.replace("2027-01-31", "2026-11-24")

    [note] = read(text.encode(), "x.yaml", NOON).notes
    assert (
        str(note)
        == "x.yaml:19: exception EXC-1: ended on 2026-11-24; run `joinguard enforce` for its accounts, then take it out"
    )
    assert read(text.replace("24", "25").encode(), "x.yaml", NOON).notes == ()


def test_an_example_takes_exceptions_into_account_only_on_the_day_that_it_names() -> None:
    account = 'account: {id: "111122223333", ou: /Workloads/Prod/Web, tags: {environment: prod}}'
    text = VALID.replace('      - account: "111122223333"\n', "      - joined: CREATED\n").replace(
        "account: {ou: /Workloads/Prod/Web, tags: {environment: prod}}",
        account.replace("tags", "joined: INVITED, tags"),
    )

    assert read(text.encode(), "x.yaml", NOON)
    assert "EXC-1 takes it away" in mistakes(text + "    day: 2027-01-31\n")[0]
    assert read((text + "    day: 2027-02-01\n").encode(), "x.yaml", NOON)


def test_an_example_that_needs_the_organization_waits_for_the_plan() -> None:
    text = VALID.replace("ou: /Workloads/Prod/**", "ou: ou-ab12-abcdefgh/**").replace(
        "region-lock]\n", "region-lock]\n"
    )

    assert read(text.encode(), "x.yaml", NOON)


def test_a_file_is_named_by_its_path_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "prod.yaml"
    path.write_text(VALID.replace("match: all", "match: al"))

    with pytest.raises(GuardrailsError, match=f"^{re.escape(str(path))}:8: rule everyone: "):
        load(path, NOON)
    with pytest.raises(OperateError, match="cannot read the guardrails document"):
        load(tmp_path / "none.yaml", NOON)


pieces = st.sampled_from(
    [
        "a",
        "- ",
        ": ",
        "\n",
        "  ",
        "[",
        "]",
        "{",
        "}",
        "&x",
        "*x",
        "!t ",
        '"',
        "'",
        "|",
        ">",
        "#",
        "0123",
        "no",
        "? ",
        "---",
        "%",
    ]
)


@given(st.lists(pieces, max_size=12).map("".join), st.integers(0, len(VALID)))
@example("%", 0)
def test_whatever_is_inserted_is_read_or_reported(text: str, at: int) -> None:
    found: tuple[Mistake, ...] = ()
    try:
        read((VALID[:at] + text + VALID[at:]).encode(), "x.yaml", NOON)
    except GuardrailsError as error:
        found = error.mistakes or (Mistake("", 0, "", "no mistake"),)

    assert all(re.fullmatch(r"x\.yaml:[1-9]\d*: .+", str(each)) for each in found)


def test_the_example_that_people_copy_has_no_mistakes() -> None:
    loaded = load(ROOT / "infra" / "guardrails" / "example.yaml", NOON)

    assert loaded.notes == ()
    assert len(loaded.document.rules) == 3
