"""Programs that a test drives: missing ones skip on a desk and fail in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(*names: str) -> str:
    """Full path of the first of `names` that is installed.

    With none of them, the calling test is skipped with a line that says what is
    missing; where the environment variable `CI` is set it fails instead, so that a
    test can never be lost unseen.
    """
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    text = f"needs {' or '.join(names)}, which is not installed"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)
