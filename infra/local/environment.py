"""What an embedded run takes from its user's environment: nothing about AWS, and no proxy on loopback."""

import os
from collections.abc import MutableMapping
from typing import Final

#: AWS's settings point elsewhere than to the stand-in; Python's change what our own processes load and warn about.
_FOREIGN: Final = ("AWS_", "PYTHON")
#: Without these, botocore reads the files in the user's home and asks for the credentials of an EC2 instance.
_NO_SETTINGS: Final = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
_LOOPBACK: Final = ("127.0.0.1", "localhost")


def stand_alone(environ: MutableMapping[str, str] = os.environ) -> None:
    """Take out of this process's environment, and so of its children's, what does not concern an embedded run.

    Proxies stay, since packages may have to be fetched through them; loopback is exempt.
    """
    for name in [each for each in environ if each.upper().startswith(_FOREIGN)]:
        del environ[name]
    environ.update(_NO_SETTINGS)
    told = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    # A lone asterisk exempts every host; it loses that meaning in a list.
    exempt = told if told.strip() == "*" else ",".join([*filter(None, [told]), *_LOOPBACK])
    environ.update({"no_proxy": exempt, "NO_PROXY": exempt})
