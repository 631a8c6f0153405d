"""Fixtures that many tests share."""

from __future__ import annotations

import pytest

from ovdecode.models import ModelFolder, locate


@pytest.fixture(scope="session")
def smollm2_folder() -> ModelFolder:
    """The default model, fetched and converted once for this machine."""
    return locate("smollm2", progress=False)
