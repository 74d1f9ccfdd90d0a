"""Isolate a local run from its user's environment: no AWS settings, no proxy for loopback."""

import os
from collections.abc import MutableMapping
from typing import Final

#: AWS settings would redirect calls; Python settings would change what our processes load and warn about.
_REMOVED: Final = ("AWS_", "PYTHON")
#: Keep botocore from reading the user's configuration files and from asking EC2's metadata service.
_NO_SETTINGS: Final = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
_LOOPBACK: Final = ("127.0.0.1", "localhost")


def isolate_from_user(environ: MutableMapping[str, str] = os.environ) -> None:
    """Remove AWS and Python settings from this process's environment, and so from its children's.

    Proxy settings stay, because packages may have to be downloaded through a proxy; loopback is exempt.
    """
    for name in [each for each in environ if each.upper().startswith(_REMOVED)]:
        del environ[name]
    environ.update(_NO_SETTINGS)
    given = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    # A single asterisk exempts every host; in a list it has no such meaning.
    exempt = given if given.strip() == "*" else ",".join([*filter(None, [given]), *_LOOPBACK])
    environ.update({"no_proxy": exempt, "NO_PROXY": exempt})
