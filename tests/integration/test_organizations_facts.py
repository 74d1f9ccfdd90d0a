"""The facts of an account, as Organizations answers. moto has no `Paths`, so the answers are stubbed."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from handlers.aws.clients import client
from handlers.aws.organizations_facts import described, tagged
from handlers.core.errors import AccountNotFoundError, JoinguardError, RetryableError
from handlers.core.guardrails.facts import Facts, Unknown
from tests.fakes import ACCOUNT

ROOT, OUTER, INNER = "r-abcd", "ou-abcd-11111111", "ou-abcd-22222222"
PATH = f"o-exampleorgid/{ROOT}/{OUTER}/{INNER}/{ACCOUNT}/"
ABOUT: dict[str, Any] = {"Name": "web", "Email": "it@example.com", "JoinedMethod": "INVITED", "Paths": [PATH]}


@pytest.fixture
def organizations(credentials: None) -> Any:  # noqa: ARG001 - used for its effect
    return client("organizations")


def test_one_call_describes_an_account(organizations: Any) -> None:
    with Stubber(organizations) as stub:
        stub.add_response("describe_account", {"Account": ABOUT}, {"AccountId": ACCOUNT})

        facts = described(organizations, Facts(ACCOUNT))

    assert facts == Facts(ACCOUNT, "web", "it@example.com", "INVITED", (ROOT, OUTER, INNER), Unknown.NOT_READ)


@pytest.mark.parametrize(
    "paths", [{}, {"Paths": []}, {"Paths": [PATH, PATH]}], ids=["an older SDK", "no path", "two paths"]
)
def test_without_paths_the_parents_are_read_level_by_level(organizations: Any, paths: dict[str, Any]) -> None:
    account = {name: value for name, value in ABOUT.items() if name != "Paths"} | paths
    with Stubber(organizations) as stub:
        stub.add_response("describe_account", {"Account": account})
        # An empty page can come before the others.
        stub.add_response("list_parents", {"Parents": [], "NextToken": "x"}, {"ChildId": ACCOUNT})
        stub.add_response("list_parents", {"Parents": [{"Id": INNER}]}, {"ChildId": ACCOUNT, "NextToken": "x"})
        stub.add_response("list_parents", {"Parents": [{"Id": OUTER}]}, {"ChildId": INNER})
        stub.add_response("list_parents", {"Parents": [{"Id": ROOT}]}, {"ChildId": OUTER})

        assert described(organizations, Facts(ACCOUNT)).ous == (ROOT, OUTER, INNER)
        stub.assert_no_pending_responses()


def test_what_aws_leaves_out_is_unreadable_and_what_it_invents_too(organizations: Any) -> None:
    with Stubber(organizations) as stub:
        stub.add_response("describe_account", {"Account": {"Paths": [PATH], "JoinedMethod": "BY_MAGIC"}})

        facts = described(organizations, Facts(ACCOUNT))

    assert (facts.name, facts.email, facts.joined) == (Unknown.UNREADABLE,) * 3


def test_an_answer_without_a_parent_is_retried_and_is_not_the_root(organizations: Any) -> None:
    with Stubber(organizations) as stub:
        stub.add_response("describe_account", {"Account": {}})
        stub.add_response("list_parents", {"Parents": []})

        with pytest.raises(RetryableError):
            described(organizations, Facts(ACCOUNT))


def test_tags_come_from_all_pages_and_no_tag_is_not_unreadable(organizations: Any) -> None:
    with Stubber(organizations) as stub:
        stub.add_response("list_tags_for_resource", {"Tags": [], "NextToken": "x"}, {"ResourceId": ACCOUNT})
        stub.add_response("list_tags_for_resource", {"Tags": [{"Key": "environment", "Value": "prod"}]})
        stub.add_response("list_tags_for_resource", {"Tags": []})

        assert tagged(organizations, Facts(ACCOUNT)).tags == {"environment": "prod"}
        assert tagged(organizations, Facts(ACCOUNT)).tags == {}


@pytest.mark.parametrize("code", ["AccountNotFoundException", "ChildNotFoundException", "TargetNotFoundException"])
def test_an_account_that_has_left_is_not_found_whatever_the_call(organizations: Any, code: str) -> None:
    with Stubber(organizations) as stub:
        stub.add_client_error("describe_account", code)

        with pytest.raises(AccountNotFoundError):
            described(organizations, Facts(ACCOUNT))


@pytest.mark.parametrize("code", ["AccessDeniedException", "TooManyRequestsException"])
def test_errors_are_translated_as_those_of_other_calls(organizations: Any, code: str) -> None:
    with Stubber(organizations) as stub:
        stub.add_client_error("list_tags_for_resource", code)

        with pytest.raises(JoinguardError, match=code):
            tagged(organizations, Facts(ACCOUNT))
