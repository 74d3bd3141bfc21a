"""Errors become one sentence and an exit code: 1 a check failed, 2 bad input, 3 this machine does not allow it."""

import json as json_module
import sys

from rich.console import Console

from labkit.errors import LabkitError

EXIT_FAILED, EXIT_BAD_INPUT = 1, 2


def refuse(bad: LabkitError, *, json: bool = False) -> int:
    """Say why not on standard error, with `json` as an object on standard output too; return the exit code."""
    if json:
        sys.stdout.write(json_module.dumps({"result": bad.errno_name, "verified": False, "error": str(bad)}) + "\n")
    say(str(bad))
    return bad.exit_code


def say(sentence: str) -> None:
    """Print `sentence` on standard error as it is."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(sentence)
