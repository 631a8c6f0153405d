"""Data frames, where pandas is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from typing import TYPE_CHECKING, Any

from ovdecode.extras import from_extra

if TYPE_CHECKING:
    import pandas


def data_frame(rows: Iterable[Mapping[str, Any]], columns: Items[str]) -> pandas.DataFrame:
    """Rows as a data frame.

    Raises:
        ConfigurationError: if pandas can't be imported.
    """
    library = from_extra("report", "pandas", "a data frame")
    frame: pandas.DataFrame = library.DataFrame(list(rows), columns=list(columns))
    return frame
