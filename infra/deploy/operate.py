"""Run the operators' tool on a stage: `python -m infra.deploy.operate STAGE COMMAND …`.

The stage file names the stack and its Region, so that one word chooses the installation for all Make targets.
"""

import sys

from handlers.operate.__main__ import main
from handlers.operate.hints import run_by_make
from infra.deploy.stack import DeployError
from infra.deploy.stages import load_stage


def operate(stage_name: str, *arguments: str) -> None:
    """Run a command of the operators' tool on a stage; exit with status 1 if there is no such stage."""
    try:
        stage = load_stage(stage_name)
    except DeployError as error:
        sys.exit(f"Error: {error}")
    run_by_make(stage_name)
    main(["--stack", stage.stack, "--region", stage.region, *arguments])


if __name__ == "__main__":
    operate(*sys.argv[1:])
