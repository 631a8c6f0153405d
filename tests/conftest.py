"""Fixtures that many tests share."""

from __future__ import annotations

import pytest

from ovdecode import Model, load
from ovdecode.models import ModelFolder, locate


@pytest.fixture(scope="session")
def smollm2_folder() -> ModelFolder:
    """The default model, fetched and converted once for this machine."""
    return locate("smollm2", progress=False)


@pytest.fixture(scope="session")
def model(smollm2_folder: ModelFolder) -> Model:
    """The default model in the precision that promises the same bits in any batch."""
    return load("smollm2", precision="invariant", threads=2, progress=False)


@pytest.fixture(scope="session")
def fast_model(smollm2_folder: ModelFolder) -> Model:
    """The default model with the device's defaults."""
    return load("smollm2", precision="fast", threads=2, progress=False)
