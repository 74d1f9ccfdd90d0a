"""The zip's bucket is ours, private and versioned, and a stack uses one version of one object.

Another account can own a bucket of our name only on AWS, so S3's answers are stubbed.
"""

from __future__ import annotations

import ast
import base64
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from botocore import xform_name
from botocore.session import get_session

from infra.deploy.build import ROOT
from infra.deploy.code import Uploaded, ensure_bucket, upload, upload_template
from infra.deploy.stack import DeployError
from tests.prepared import ACCOUNT_ID, stub

if TYPE_CHECKING:
    from tests.prepared import Stub

BUCKET = "joinguard-code-111111111111-us-east-1"
OURS = {"Bucket": BUCKET, "ExpectedBucketOwner": ACCOUNT_ID}
PRIVATE = dict.fromkeys(("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True)


def ensure(s3: Stub, region: str = "us-east-1") -> None:
    ensure_bucket(s3.client, BUCKET, owner=ACCOUNT_ID, region=region)
    s3.assert_no_pending_responses()


def test_another_accounts_bucket_of_our_name_is_refused_before_anything_is_sent() -> None:
    with stub("s3") as s3:
        s3.add_client_error("head_bucket", "403", expected_params=OURS)
        with pytest.raises(DeployError, match="Set CodeBucket in the stage"):
            ensure(s3)


@pytest.mark.parametrize(
    "present", [None, PRIVATE | {"BlockPublicPolicy": False}], ids=["no block", "an incomplete block"]
)
def test_an_existing_bucket_is_made_private_and_versioned(present: dict[str, bool] | None) -> None:
    with stub("s3") as s3:
        s3.add_response("head_bucket", {}, OURS)
        if present is None:
            code = "NoSuchPublicAccessBlockConfiguration"
            s3.add_client_error("get_public_access_block", code, expected_params=OURS)
        else:
            s3.add_response("get_public_access_block", {"PublicAccessBlockConfiguration": present}, OURS)
        s3.add_response("put_public_access_block", {}, OURS | {"PublicAccessBlockConfiguration": PRIVATE})
        s3.add_response("get_bucket_versioning", {"Status": "Suspended"}, OURS)
        s3.add_response("put_bucket_versioning", {}, OURS | {"VersioningConfiguration": {"Status": "Enabled"}})
        ensure(s3)


def test_a_private_versioned_bucket_is_left_alone() -> None:
    with stub("s3") as s3:
        s3.add_response("head_bucket", {}, OURS)
        s3.add_response("get_public_access_block", {"PublicAccessBlockConfiguration": PRIVATE}, OURS)
        s3.add_response("get_bucket_versioning", {"Status": "Enabled"}, OURS)
        ensure(s3)


@pytest.mark.parametrize(
    ("region", "where"),
    [("us-east-1", {}), ("eu-central-1", {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}})],
)
def test_a_missing_bucket_is_created_private_and_versioned(region: str, where: dict[str, Any]) -> None:
    with stub("s3") as s3:
        s3.add_client_error("head_bucket", "404", expected_params=OURS)
        s3.add_response("create_bucket", {}, {"Bucket": BUCKET} | where)
        # Since 2023, a new bucket blocks public access by default.
        s3.add_response("get_public_access_block", {"PublicAccessBlockConfiguration": PRIVATE}, OURS)
        s3.add_response("get_bucket_versioning", {}, OURS)
        s3.add_response("put_bucket_versioning", {}, OURS | {"VersioningConfiguration": {"Status": "Enabled"}})
        ensure(s3, region)


@pytest.mark.parametrize(
    ("there", "version"), [("same", "v-1"), ("other", "v-2"), (None, "v-2")], ids=["there", "replaced", "missing"]
)
def test_the_version_with_our_bytes_is_used(there: str | None, version: str) -> None:
    digest = hashlib.sha256(b"zip")
    checksum = base64.b64encode(digest.digest()).decode()
    key = f"joinguard/{digest.hexdigest()}.zip"
    with stub("s3") as s3:
        looked_up = OURS | {"Key": key, "ChecksumMode": "ENABLED"}
        if there is None:
            s3.add_client_error("head_object", "404", expected_params=looked_up)
        else:
            found = checksum if there == "same" else base64.b64encode(b"x" * 32).decode()
            s3.add_response("head_object", {"ChecksumSHA256": found, "VersionId": "v-1"}, looked_up)
        if version == "v-2":
            sent = OURS | {"Key": key, "Body": b"zip", "ChecksumSHA256": checksum}
            s3.add_response("put_object", {"VersionId": "v-2"}, sent)

        assert upload(s3.client, BUCKET, b"zip", "joinguard/{}.zip", owner=ACCOUNT_ID) == Uploaded(BUCKET, key, version)
        s3.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("us-east-1", "https://s3.amazonaws.com"),
        ("eu-central-1", "https://s3.eu-central-1.amazonaws.com"),
        ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "https://s3.us-gov-west-1.amazonaws.com"),
    ],
)
def test_cloudformation_is_given_the_version_of_the_template_that_was_uploaded(region: str, endpoint: str) -> None:
    key = f"joinguard/{hashlib.sha256(b'Resources: {}').hexdigest()}.template"
    with stub("s3", region) as s3:
        s3.add_client_error("head_object", "404")
        s3.add_response("put_object", {"VersionId": "v-2"})

        url = upload_template(s3.client, BUCKET, "Resources: {}", owner=ACCOUNT_ID)

    assert url == f"{endpoint}/{BUCKET}/{key}?versionId=v-2"


def test_the_tooling_names_the_owner_in_every_call_of_s3_that_accepts_it() -> None:
    """Reads the calls in the source, so that a new call cannot be forgotten."""
    model = get_session().get_service_model("s3")
    accepting = {
        xform_name(name)
        for name in model.operation_names
        if "ExpectedBucketOwner" in getattr(model.operation_model(name).input_shape, "members", ())
    }
    calls = [
        node
        for path in (ROOT / "infra" / "deploy").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in accepting
    ]

    assert len(calls) >= 8
    assert not [
        ast.unparse(call) for call in calls if "ExpectedBucketOwner" not in [keyword.arg for keyword in call.keywords]
    ]
