"""How far an experiment is, live on a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ovdecode.cli.console import one_line
from ovdecode.experiment.progress import Progress, Row


class Display:
    """A live table of strategies on a terminal; nothing elsewhere."""

    def __init__(self, screen: Console) -> None:
        self._live = Live(console=screen, auto_refresh=False, transient=True) if screen.is_terminal else None

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Show how far it is now."""
        if self._live is not None:
            self._live.update(_screen(progress), refresh=True)


def _screen(progress: Progress) -> Group:
    several = len({row.model for row in progress.rows}) > 1
    table = Table.grid(padding=(0, 2, 0, 0))
    for row in progress.rows:
        count = Text(f"{row.finished}/{row.total}")
        if row.failed:
            count.append(f"  {row.failed} failed", style="red")
        table.add_row(Text(_name(row, several), style="cyan"), ProgressBar(row.total, row.finished, width=24), count)
    running = len(progress.running)
    parts = [
        progress.state,
        f"{progress.finished}/{progress.total} cells",
        f"{running} running" if running else "",
        f"{progress.tokens_per_second:.0f} tokens/s" if progress.tokens_per_second else "",
        f"{duration(progress.seconds_left)} left" if progress.seconds_left else "",
    ]
    return Group(table, Text(" · ".join(filter(None, parts)), style="bold"))


def duration(seconds: float) -> str:
    """A time for the eye.

    Example:
        >>> duration(75), duration(7384)
        ('1:15', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _name(row: Row, several: bool) -> str:
    return one_line(f"{row.model}  {row.strategy}" if several else row.strategy)
