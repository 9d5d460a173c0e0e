"""Programs and modules that a test drives: missing ones skip on a desk and fail in CI."""

from __future__ import annotations

import importlib
import os
import shutil
from types import ModuleType

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


def require_module(name: str) -> ModuleType:
    """Import a module that needs what only an extra installs; else as `require_program`.

    May stand at the top of a file of tests.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        text = f"needs {name}: {error}"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text, allow_module_level=True)
