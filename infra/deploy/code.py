"""Keep zips and templates in a bucket of our own account, and pin the versions that a stack uses."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import ClientError

from infra.deploy.stack import DeployError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PublicAccessBlockConfigurationTypeDef

_PRIVATE: Final[PublicAccessBlockConfigurationTypeDef] = {
    "BlockPublicAcls": True,
    "BlockPublicPolicy": True,
    "IgnorePublicAcls": True,
    "RestrictPublicBuckets": True,
}
_MISSING: Final = frozenset({"404", "NoSuchBucket", "NoSuchKey", "NotFound"})


class Uploaded(NamedTuple):
    """An uploaded object; the version is empty if the bucket has no versions."""

    bucket: str
    key: str
    version: str


def bucket_name(account_id: str, region: str) -> str:
    """Return the name of the bucket for the zips and templates of all stages in an account and Region."""
    return f"joinguard-code-{account_id}-{region}"


def ensure_bucket(s3: S3Client, bucket: str, *, owner: str, region: str) -> None:
    """Make sure that the bucket exists in the owner's account, is private, and keeps versions.

    Everybody can compute the bucket's name and create it first, so raises DeployError if it is another account's.
    """
    try:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=owner)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in {"403", "AccessDenied", "Forbidden"}:
            raise DeployError(
                f"bucket {bucket} is another account's, or its policy denies access. Set CodeBucket in the stage to "
                f"a bucket of account {owner}, or correct the bucket's policy"
            ) from error
        if code not in _MISSING:
            raise DeployError(
                f"cannot use bucket {bucket} for zip and template: {error}. Check its permissions"
            ) from error
        where: Any = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=bucket, **where)
    if _public_access_block(s3, bucket, owner) != _PRIVATE:
        s3.put_public_access_block(Bucket=bucket, ExpectedBucketOwner=owner, PublicAccessBlockConfiguration=_PRIVATE)
    if s3.get_bucket_versioning(Bucket=bucket, ExpectedBucketOwner=owner).get("Status") != "Enabled":
        s3.put_bucket_versioning(
            Bucket=bucket, ExpectedBucketOwner=owner, VersioningConfiguration={"Status": "Enabled"}
        )


def _public_access_block(s3: S3Client, bucket: str, owner: str) -> PublicAccessBlockConfigurationTypeDef | None:
    try:
        found = s3.get_public_access_block(Bucket=bucket, ExpectedBucketOwner=owner)
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchPublicAccessBlockConfiguration":
            return None
        raise
    return found["PublicAccessBlockConfiguration"]


def upload_template(s3: S3Client, bucket: str, text: str, *, owner: str) -> str:
    """Upload a template and return its URL, which names the version, for CloudFormation.

    A template in a request has at most 51,200 bytes, and one in S3 at most 1,000,000.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
    """
    there = upload(s3, bucket, text.encode(), "joinguard/{}.template", owner=owner)
    version = f"?versionId={there.version}" if there.version else ""
    return f"{s3.meta.endpoint_url}/{bucket}/{there.key}{version}"


def upload(s3: S3Client, bucket: str, content: bytes, form: str, *, owner: str) -> Uploaded:
    """Upload content under a key of a form such as joinguard/{}.zip, with its SHA-256, unless it is there.

    Returns where it is.
    """
    digest = hashlib.sha256(content)
    key = form.format(digest.hexdigest())
    checksum = base64.b64encode(digest.digest()).decode()
    try:
        there = s3.head_object(Bucket=bucket, Key=key, ExpectedBucketOwner=owner, ChecksumMode="ENABLED")
    except ClientError as error:
        if error.response["Error"]["Code"] not in _MISSING:
            raise
    else:
        # S3 computed this checksum from the object's bytes, so a replaced object has another one.
        if there.get("ChecksumSHA256") == checksum:
            return Uploaded(bucket, key, there.get("VersionId", ""))
    put = s3.put_object(Bucket=bucket, Key=key, Body=content, ExpectedBucketOwner=owner, ChecksumSHA256=checksum)
    return Uploaded(bucket, key, put.get("VersionId", ""))
