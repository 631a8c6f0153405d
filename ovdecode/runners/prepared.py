"""Paged graphs kept on disk as the device has optimised them, so that the next process starts sooner.

OpenVINO's own cache can't bring a paged model back: what its attention must know about heads is not written to it.
But the graph in it is whole. It is taken out and kept as a model that OpenVINO can read, with the heads beside it;
compiled once more it skips most of the optimisation, and gives the same bits.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ovdecode.models.atomic import exclusive, publish_folder, scratch_beside
from ovdecode.runners.anatomy import ATTENTION_TYPES
from ovdecode.runners.graph import WANTED_ROWS
from ovdecode.runners.page_memory import CacheTooSmall, PageMemory
from ovdecode.runners.rows import MOST, USUAL

if TYPE_CHECKING:
    import openvino as ov

log = logging.getLogger(__name__)

_GRAPH, _WEIGHTS, _HEADS, _PROBE = "graph.xml", "graph.bin", "heads.json", "probe"
_EVEN, _TESTED, _UNUSABLE = "even-rows", "self-tested", "unusable"
_HEAD_INFO = ("num_k_heads", "k_head_size", "num_v_heads", "v_head_size")
_CONSTANT = re.compile(rb'(<data [^>]*?\boffset=")(\d+)("[^>]*?\bsize=")(\d+)"')
_ALIGNMENT = 64  # in bytes, for a constant to be used where it is


class PreparedGraph:
    """One paged graph as a device has optimised it, in a folder of its own.

    It must live as long as what is compiled reads the weights, which it holds.

    Args:
        cache: the folder of all.
        identity: of the model that the graph is made from.
        device, options: how it is compiled.
        form: which graph is made from the model.
    """

    def __init__(
        self, core: ov.Core, cache: Path, identity: str, device: str, options: Mapping[str, Any], form: str
    ) -> None:
        self._compile = partial(core.compile_model, device_name=device, config=dict(options))
        self._core, self._device, self._options = core, device, options
        machine = [core.get_property(device, name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
        machine.append(os.environ.get("ONEDNN_MAX_CPU_ISA"))  # which holds the device to older instructions
        version = core.get_versions(device)[device].build_number  # asking loads the device's own operations, too
        settings = sorted((name, str(value)) for name, value in options.items())
        told = [identity, version, *map(str, machine), str(_processors()), device, str(settings), form, _code()]
        self.folder = cache / f"paged-{sha256(json.dumps(told).encode()).hexdigest()[:32]}"
        self._weights: mmap.mmap | None = None

    def compile(self, build: Callable[[], ov.Model], cache_bytes: int) -> tuple[ov.CompiledModel, PageMemory]:
        """The compiled graph: the one that is kept, or else what is built here, which is kept from now on.

        Args:
            build: makes the graph.
            cache_bytes: bound on the memory of its cache, which comes with it.

        Raises:
            CacheTooSmall: see `PageMemory`.
        """
        new = not (self.folder / _GRAPH).exists()
        if (found := self._kept(cache_bytes)) is not None:
            return found
        if not (self.folder / _UNUSABLE).exists() and _writable(self.folder.parent):
            try:
                with exclusive(self.folder), scratch_beside(self.folder) as scratch:
                    if new and (found := self._kept(cache_bytes)) is not None:  # another process was first
                        return found
                    return self._make(build(), cache_bytes, scratch)
            except OSError as error:  # such as a full disk, which may have room another time
                log.warning("the optimised graph can't be kept in `%s` this time: %s", self.folder.parent, error)
        compiled = self._compile(build())
        return compiled, PageMemory(compiled, cache_bytes)

    @property
    def tested(self) -> bool:
        """Whether the self-test held with this graph."""
        return (self.folder / _TESTED).exists()

    def note_tested(self) -> None:
        """Remember that the self-test held with this graph."""
        if (self.folder / _GRAPH).exists():
            with suppress(OSError):
                (self.folder / _TESTED).touch()

    def even_rows(self, find: Callable[[], range]) -> range:
        """Among how many rows a row keeps its bits: as was found out before with this graph, or is found out now."""
        note = self.folder / _EVEN
        with suppress(OSError, ValueError):
            least, most = map(int, note.read_text(encoding="utf-8").split())
            if 1 < least <= USUAL <= most <= MOST:
                return range(least, most + 1)
        rows = find()
        if (self.folder / _GRAPH).exists():
            with suppress(OSError):
                note.write_text(f"{rows[0]} {rows[-1]}", encoding="utf-8")
        return rows

    def _kept(self, cache_bytes: int) -> tuple[ov.CompiledModel, PageMemory] | None:
        """What is kept, if it still says what it did when it was."""
        if not (self.folder / _GRAPH).exists():
            return None
        try:
            compiled, memory = self._read(self.folder, cache_bytes)
            same = _probe(compiled, memory, [45]) == (self.folder / _PROBE).read_text(encoding="utf-8")
        except CacheTooSmall:
            raise
        except Exception as error:  # damaged files raise anything
            log.warning("`%s` can't be used, so the graph is compiled again: %s", self.folder, error)
            return None
        if not same:
            log.warning("`%s` has other logits now, so the graph is compiled again", self.folder)
            return None
        self._let_go()
        return compiled, memory

    def _make(self, graph: ov.Model, cache_bytes: int, scratch: Path) -> tuple[ov.CompiledModel, PageMemory]:
        """Compile a graph and keep it, or else the note that it can't be."""
        heads = _heads(graph)
        compiled, xml = self._compile_and_export(graph, scratch)
        memory = PageMemory(compiled, cache_bytes)
        kept = scratch / "kept"
        kept.mkdir()
        try:
            self._keep(xml, heads, scratch, kept)
            compiled, memory = self._prepare(compiled, memory, kept)
        except (RuntimeError, ValueError, KeyError) as error:
            log.warning("the optimised graph can't be kept, so that every start will take as long: %s", error)
            shutil.rmtree(kept)
            kept.mkdir()
            (kept / _UNUSABLE).write_text(str(error), encoding="utf-8")
        publish_folder(kept, self.folder)
        return compiled, memory

    def _compile_and_export(self, graph: ov.Model, scratch: Path) -> tuple[ov.CompiledModel, bytes]:
        """Compile into a cache in `scratch`; also what OpenVINO writes there about the graph, in XML."""
        seen: list[bytes] = []

        def plain(text: bytes) -> bytes:
            seen.append(text)
            return text

        cached = {"CACHE_DIR": str(scratch / "blob"), "CACHE_ENCRYPTION_CALLBACKS": [plain, plain]}
        compiled = self._core.compile_model(graph, self._device, {**self._options, **cached})
        return compiled, seen[-1] if seen else b""

    def _keep(self, xml: bytes, heads: dict[str, dict[str, int]], scratch: Path, kept: Path) -> None:
        """Fill the folder `kept` from the cache in `scratch`."""
        blob = next((scratch / "blob").glob("*.blob"), None)
        if blob is None:
            raise FileNotFoundError("OpenVINO has written nothing; perhaps the disk is full")
        with blob.open("rb") as source, (kept / _WEIGHTS).open("wb") as target:
            (kept / _GRAPH).write_bytes(_repack(source, xml, target))
        (kept / _HEADS).write_text(json.dumps(heads), encoding="utf-8")

    def _prepare(self, direct: ov.CompiledModel, memory: PageMemory, kept: Path) -> tuple[ov.CompiledModel, PageMemory]:
        """Compile what is kept, and make sure that it does what `direct` does."""
        compiled, own = self._read(kept, memory.pages * memory.page_bytes)
        if own.layouts != memory.layouts or any(
            _probe(compiled, own, pieces) != _probe(direct, memory, pieces) for pieces in ([44, 1], [45])
        ):
            raise ValueError("compiled once more, it has other logits")
        (kept / _PROBE).write_text(_probe(compiled, own, [45]), encoding="utf-8")
        self._let_go()
        return compiled, own

    def _read(self, folder: Path, cache_bytes: int) -> tuple[ov.CompiledModel, PageMemory]:
        import openvino as ov

        with (folder / _WEIGHTS).open("rb") as file:
            self._weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        weights = ov.Tensor(np.frombuffer(self._weights, np.uint8), shared_memory=True)
        graph = self._core.read_model((folder / _GRAPH).read_bytes(), weights)
        heads = json.loads((folder / _HEADS).read_text(encoding="utf-8"))
        for node in _attentions(graph):
            info = node.get_rt_info()
            for name, value in heads[node.get_friendly_name()].items():
                info[name] = value
        memory = PageMemory(graph, cache_bytes)
        with memory.part_of(graph):
            return self._compile(graph), memory

    def _let_go(self) -> None:
        """Give back the memory of the weights, once an inference has packed those of the products as it needs them.

        What is read once more, such as embeddings, comes from the file again.
        """
        if self._weights is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._weights.madvise(mmap.MADV_DONTNEED)


def _repack(blob: BinaryIO, graph: bytes, weights: BinaryIO) -> bytes:
    """Write each constant of a graph once: tied embeddings are twice in `blob`, which constants and graph end."""
    size = max((int(offset) + int(length) for _, offset, _, length in _CONSTANT.findall(graph)), default=0)
    begin = blob.seek(0, os.SEEK_END) - len(graph) - size
    places: dict[bytes, int] = {}

    def move(found: re.Match[bytes]) -> bytes:
        blob.seek(begin + int(found[2]))
        content = blob.read(int(found[4]))
        digest = sha256(content).digest()
        if digest not in places:
            weights.write(bytes(-weights.tell() % _ALIGNMENT))
            places[digest] = weights.tell()
            weights.write(content)
        return b'%b%d%b%b"' % (found[1], places[digest], found[3], found[4])

    return _CONSTANT.sub(move, graph)


def _attentions(graph: ov.Model) -> list[ov.Node]:
    return [node for node in graph.get_ops() if node.get_type_name() == ATTENTION_TYPES[1]]


def _heads(graph: ov.Model) -> dict[str, dict[str, int]]:
    """What the device must know about each attention, and OpenVINO does not write: name of the operation to that."""
    info = {node.get_friendly_name(): node.get_rt_info() for node in _attentions(graph)}
    return {name: {key: int(about[key].astype(int)) for key in _HEAD_INFO} for name, about in info.items()}


def _probe(compiled: ov.CompiledModel, memory: PageMemory, pieces: list[int]) -> str:
    """A digest of what the graph says after a few tokens, fed in pieces of these lengths, and of what that leaves in
    the memory, which is empty before."""
    request = compiled.create_infer_request()
    memory.bind(request)
    pages = [array[:, :2] for array in memory.arrays]
    for page in pages:
        page[:] = 0
    past, digest = 0, sha256()
    for length in pieces:
        ends = np.array([0, length], np.int32)
        feed = {
            "input_ids": np.arange(past, past + length, dtype=np.int64) % 32,
            "position_ids": np.arange(past, past + length, dtype=np.int64),
            "past_lens": np.array([past], np.int32),
            "subsequence_begins": ends,
            "block_indices": np.arange(2, dtype=np.int32),
            "block_indices_begins": np.array([0, 2], np.int32),
            "max_context_len": np.array(past + length, np.int32),
            WANTED_ROWS: np.array([length - 1] * 2, np.int64),
        }
        found = request.infer(feed)
        for port in compiled.outputs:
            digest.update(found[port].tobytes())
        past += length
    for page in pages:
        digest.update(page.tobytes())
    return digest.hexdigest()


def _processors() -> int:
    """How many processors this process may use: the device divides its work among them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _code() -> str:
    """Another one if what is done to a graph, or fed to it, is another thing."""
    sources = (path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return sha256(b"".join(sources)).hexdigest()
