"""A short run of what `make chaos` does for ten minutes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.acceptance.markdown_pages import ROOT

SECONDS = 60
SEED = 7


# Starting, calming down and looking at the result take as long again, or longer on a busy machine.
@pytest.mark.timeout(600)
def test_whatever_breaks_facebook_has_who_should_be_a_member() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--seconds", str(SECONDS), "--seed", str(SEED)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "lost 0, wrong 0" in done.stderr
    assert "audiences that differ 0" in done.stderr
