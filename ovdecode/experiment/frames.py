"""Data frames, where pandas is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from typing import TYPE_CHECKING, Any

from ovdecode.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas


def data_frame(rows: Iterable[Mapping[str, Any]], columns: Items[str]) -> pandas.DataFrame:
    """Rows as a data frame.

    Raises:
        ConfigurationError: if pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ConfigurationError(
            "`pandas` must be installed for a data frame, and is not; run pip install 'ovdecode[report]'"
        ) from error
    frame: pandas.DataFrame = pandas.DataFrame(list(rows), columns=list(columns))
    return frame
