"""`ovdecode run`: an experiment in a file, into a store that loses nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ovdecode.cli.options import Plugins, load_plugins
from ovdecode.errors import ConfigurationError

if TYPE_CHECKING:
    from ovdecode.experiment import Store
    from ovdecode.experiment.executors import Executor


def run(
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT.yaml", help="What to decode.")],
    override: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="In place of what the file says: samples=3 prompts.lines=0:10"),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="FOLDER", help="Where results go; EXPERIMENT.store beside the file."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Only show how far it is, while another process runs it.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Decode cells that failed once more.")] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, metavar="N", help="Decode in N processes, which share the cores."),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option("--dask", metavar="ADDRESS", help="Decode on a Dask cluster: its scheduler, tcp://host:8786."),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Decode an experiment's models, methods and prompts in one batch stream, and keep every result at once.

    Whatever ends it, running it again does the rest; several processes may run it at once and share the work.
    Exit code: 0; 1 if a method failed on a prompt; 2 for bad input; 130 after Ctrl-C.
    """
    from ovdecode.cli.console import console, fail, note
    from ovdecode.cli.failures import FAILED, INTERRUPTED
    from ovdecode.cli.progress import Display
    from ovdecode.experiment import Experiment, Store
    from ovdecode.experiment import run as run_experiment

    folder = store or experiment.with_suffix(".store")
    if watch:
        _watch(Store.open(folder))
        return
    load_plugins(plugin)
    executor = _executor(workers, dask, plugin or [])
    plan = Experiment.read(experiment, override or ())
    note(f"results go to {folder}")
    try:
        with Display(console(stderr=True)) as display:
            done = run_experiment(plan, folder, executor=executor, progress=display.show, retry=retry)
    except KeyboardInterrupt:
        kept = Store.open(folder)
        _print(kept)
        fail(f"interrupted; {len(kept)} of {len(kept.cells)} cells are finished and kept; the same command goes on")
        raise typer.Exit(INTERRUPTED) from None
    if done.damaged:
        note(f"{done.damaged} lines of the store were torn or changed, and are left out")
    _print(done)
    note(f"`ovdecode report {folder}` compares the methods; with --html FILE it writes a page")
    if done.failed.any():
        raise typer.Exit(FAILED)


def _print(store: Store) -> None:
    """What the methods did, with intervals: the first tables of `ovdecode report`."""
    from ovdecode.cli.console import console
    from ovdecode.cli.sheets import print_sheets
    from ovdecode.experiment.table import summary

    print_sheets(console(), summary(store).sheets())


def _executor(workers: int | None, dask: str | None, plugins: list[Path]) -> Executor | None:
    from ovdecode.experiment import Dask, LocalProcesses

    if workers is not None and dask is not None:
        raise ConfigurationError("`--workers` and `--dask` can't both be given; leave one out")
    if workers is not None:
        return LocalProcesses(workers, plugins)
    return None if dask is None else Dask(dask, plugins)


def _watch(store: Store) -> None:
    from ovdecode.cli.console import console, note
    from ovdecode.cli.progress import Display
    from ovdecode.experiment.progress import read_progress

    with Display(console(stderr=True)) as display:
        while (progress := read_progress(store)) is not None:
            display.show(progress)
            time.sleep(0.5)
    store.refresh()
    note(f"nobody is at work on {store.folder}; {len(store)} of {len(store.cells)} cells are finished")
