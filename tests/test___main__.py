"""The package as a program."""

import subprocess
import sys


def test_python_m_labkit_is_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "labkit", "run", "--size", "0"], capture_output=True, text=True, timeout=60, check=False
    )
    sentence = "scenario: size='0': input should be greater than or equal to 1 (-EINVAL)"
    assert (done.returncode, done.stderr) == (2, sentence + "\n")
