"""Packages of an extra: there, absent, or not working."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ovdecode.errors import ConfigurationError
from ovdecode.extras import from_extra


def test_what_is_there_is_imported() -> None:
    assert from_extra("any", "ovdecode.errors", "a test").ConfigurationError is ConfigurationError


def test_what_is_absent_is_to_be_installed() -> None:
    with pytest.raises(ConfigurationError) as raised:
        from_extra("metrics", "no_such.part", "`mauve`")
    expected = "`mauve` needs `no_such`, which is not installed. Run: pip install 'ovdecode[metrics]'"
    assert str(raised.value) == expected


@pytest.mark.parametrize(
    ("code", "reason"),
    [("import quite_absent", "No module named 'quite_absent'"), ("1 / 0", "division by zero")],
)
def test_what_does_not_work_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    """It was said to be missing where what it needs itself was."""
    (tmp_path / "half_there.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError) as raised:
        from_extra("metrics", "half_there", "`mauve`")
    assert str(raised.value) == (
        f"`mauve` needs `half_there`, which can't be imported: {reason}. Run: pip install "
        "--upgrade --upgrade-strategy eager 'ovdecode[metrics]'"
    )
    assert "half_there" not in sys.modules
