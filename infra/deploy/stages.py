"""Read stage files, which hold what differs between installations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handlers.core.guardrails.scope import Scope
from infra.deploy.build import ROOT
from infra.deploy.stack import DeployError

if TYPE_CHECKING:
    import boto3

FOLDER: Final = ROOT / "infra" / "stages"
#: The stage whose resources have names without a suffix.
PLAIN: Final = "prod"


class Stage(BaseModel):
    """One installation's Region and parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,18}$")]
    region: Annotated[str, Field(pattern=r"^[a-z]{2,4}(-[a-z]+)+-[0-9]+$")]
    parameters: dict[str, str] = {}
    #: The role that CloudFormation assumes; without it, CloudFormation uses the caller's permissions.
    role_arn: Annotated[str, Field(pattern=r"^arn:[a-z-]+:iam::[0-9]{12}:role/.+$")] | None = None
    #: Tags of the stack, which CloudFormation copies to its resources.
    tags: dict[str, str] = {}
    #: The guardrails document, if the stage has one.
    document: Path | None = None
    #: The stage file.
    file: Path | None = None
    #: Whether CloudFormation refuses to delete the stack.
    termination_protection: bool = False

    @property
    def stack(self) -> str:
        """The stack's name."""
        return "joinguard" if self.name == PLAIN else f"joinguard-{self.name}"

    @property
    def forwarder(self) -> str:
        """The name of the forwarder's stack, which is in the Region of the events."""
        return f"{self.stack}-forwarder"

    @property
    def suffix(self) -> str:
        """The suffix of this stage's resource names."""
        return "" if self.name == PLAIN else f"-{self.name}"

    @property
    def policy_ids(self) -> list[str]:
        """The ids in PolicyIds."""
        return [each.strip() for each in self.parameters.get("PolicyIds", "").split(",") if each.strip()]

    @property
    def creates_policies(self) -> bool:
        """Whether the stack creates the two predefined policies."""
        return self.parameters.get("CreatePolicies") == "true"

    @property
    def attaches(self) -> bool:
        """Whether the stage attaches policies to any account; if not, it only observes."""
        return self.parameters.get("AttachTo") != "none"

    @property
    def scope(self) -> Scope:
        """The accounts that the stage attaches to; raises DeployError if AttachTo is not valid."""
        try:
            return Scope.parse(self.parameters.get("AttachTo", "all"))
        except ValueError as error:
            raise DeployError(f"AttachTo of stage {self.name}: {error}; correct the stage file") from error

    @property
    def removes(self) -> bool:
        """Whether the stage removes policies that accounts need no longer."""
        return self.parameters.get("RemovePolicies") == "true"

    @property
    def sweep_enforces(self) -> bool:
        """Whether the sweep requests the policies of accounts that lack some."""
        return self.parameters.get("Sweep") == "enforce"


@dataclass(frozen=True)
class Target:
    """A stage and the session to reach it with."""

    session: boto3.Session
    stage: Stage
    #: Seconds between two polls of CloudFormation.
    poll_seconds: int = 5

    def client(self, service: str, *, region: str | None = None, **settings: Any) -> Any:
        """Return a client in the stage's Region, or in another one, with boto3's settings."""
        return self.session.client(service, region_name=region or self.stage.region, **settings)  # type: ignore[call-overload]


def document_of(file: Path) -> Path:
    """Return where the guardrails document of a stage file is, or would be: in the folder beside the file's."""
    return file.parent.parent / "guardrails" / file.name


def load_stage(name: str) -> Stage:
    """Read infra/stages/NAME.yaml, or the file at that path; raise DeployError if it is missing or not valid."""
    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise DeployError(f"there is no stage {name!r}; use one of {known}, or the path of a file that ends in .yaml")
    try:
        document = document_of(path)
        found = {"name": path.stem, "file": path} | ({"document": document} if document.is_file() else {})
        return Stage.model_validate({**found, **yaml.safe_load(path.read_text())})
    except (yaml.YAMLError, TypeError) as error:
        raise DeployError(f"stage file {path.name} is not a YAML mapping: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise DeployError(
            f"stage file {path.name}: {problems} (parameter values are strings: put them in quotes)"
        ) from error
