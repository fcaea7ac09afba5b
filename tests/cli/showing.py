"""What `nextn show` says, for programs."""

import json
from typing import Any

from tests.cli.conftest import RunCli


def record(cli: RunCli, *arguments: object) -> dict[str, Any]:
    result = cli("show", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found
