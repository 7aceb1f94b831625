"""An export is verified as it is written: loaded in a fresh process that lacks prunenas."""

import inspect
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from prunenas.architecture import Architecture, count_flops
from prunenas.errors import ExportError
from prunenas.export import probe
from prunenas.export.config import TOLERANCE_UNIT, TOLERANCES

_BATCH = 3
_SHOWN = 300


class Verifier:
    """A process in which exports are loaded with torch alone; it starts with the first of them.

    It is kept while the context lasts, so that a front of ten pays torch's import once::

        with Verifier() as verifier:
            for folder, architecture in chosen:
                write_export(folder, architecture, ..., verifier=verifier)
    """

    def __init__(self, *, timeout: float = 600.0) -> None:
        """Args: seconds that one export may take to load, count and run."""
        self.timeout = timeout
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._errors: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; a later check starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, self._errors):
            if pipe is not None:
                pipe.close()

    def check(
        self, folder: Path, architecture: Architecture, network: nn.Module, examination: "Request"
    ) -> dict[str, float]:
        """Load an export in the fresh process and compare it with the writer's network.

        Args:
            folder: The export.
            architecture: What its figures must be.
            network: The writer's own build, with the weights that were written.
            examination: What else is in the folder.

        Returns:
            How far each file's outputs lie from the writer's, in ``TOLERANCE_UNIT``.

        Raises:
            ExportError: It does not load, or not as the same network; the message says why.
        """
        with tempfile.TemporaryDirectory(prefix="prunenas-") as scratch:
            path = Path(scratch) / "check.safetensors"
            network = network.eval()
            _write_check(path, network, architecture, random=examination.random)
            answer = self._ask(
                {
                    "folder": str(folder.absolute()),
                    "check": str(path),
                    "source": architecture.source,
                    "input_shape": list(architecture.input_shape),
                    "formats": list(examination.formats),
                    "random": examination.random,
                    "threads": torch.get_num_threads(),
                    "counter": inspect.getfile(count_flops),
                    "path": [str(Path(entry).absolute()) for entry in sys.path],
                }
            )
        if "error" in answer:
            raise ExportError(f"it does not load in a fresh process: {answer['error']}")
        shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
        _same("shapes", answer["shapes"], shapes)
        if answer["flops"] != architecture.whole_flops:
            raise ExportError(
                f"an architecture's flops must be what fvcore counts, {answer['flops']}, "
                f"but are {architecture.whole_flops}"
            )
        _same("params", answer["params"], architecture.whole_params)
        found: dict[str, float] = answer["differences"]
        for file, difference in found.items():
            if not difference <= TOLERANCES[file]:
                raise ExportError(
                    f"outputs of {file} must lie within {TOLERANCES[file]:g} of the network's, "
                    f"but differ by {difference:.2g} ({TOLERANCE_UNIT})"
                )
        return found

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = self._answers.get(timeout=self.timeout)
        except queue.Empty:
            self.close()
            raise ExportError(
                f"a fresh process must load it within {self.timeout:g} s, but did not"
            ) from None
        except OSError:
            line = None
        if line is None:
            reason = self._last_words(process)
            self.close()
            raise ExportError(f"the fresh process that loads it died: {reason}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
            self._answers = queue.Queue()
            self._process = subprocess.Popen(
                # Isolated: neither the current folder nor the environment adds modules.
                [sys.executable, "-I", "-W", "ignore", inspect.getfile(probe)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
            )
            assert self._process.stdout is not None
            threading.Thread(
                target=_listen, args=(self._process.stdout, self._answers), daemon=True
            ).start()
        return self._process

    def _last_words(self, process: subprocess.Popen[str]) -> str:
        code = process.wait()
        assert self._errors is not None
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"exit status {code}" + (f", {last[:_SHOWN]}" if last else "")


@dataclass(frozen=True)
class Request:
    """What is looked at beside ``modeling.py``.

    Attributes:
        random: Whether the export has no weights of its own, so that the writer lends it some.
        formats: Files in other formats: ``onnx``, ``pt2``.
    """

    random: bool
    formats: Iterable[str] = field(default=())


def _write_check(path: Path, network: nn.Module, architecture: Architecture, random: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(_BATCH, *architecture.input_shape, generator=generator)
    with torch.no_grad():
        outputs = list(probe.tensors(network(inputs)))
    kept: dict[str, Tensor] = {"input": inputs}
    kept |= {f"output.{index}": each for index, each in enumerate(outputs)}
    if random:
        kept |= {f"state.{name}": value for name, value in network.state_dict().items()}
    save_file({name: each.detach().clone().contiguous() for name, each in kept.items()}, path)


def _same(what: str, found: Any, expected: Any) -> None:
    if found == expected:
        return
    if isinstance(expected, dict):
        names = sorted(found.keys() | expected.keys())
        name = next(name for name in names if found.get(name) != expected.get(name))
        what, found, expected = f"{what} of {name}", found.get(name), expected.get(name)
    raise ExportError(f"{what} in a fresh process must be {expected}, but are {found}")


def _listen(stream: IO[str], answers: "queue.Queue[str | None]") -> None:
    try:
        for line in stream:
            answers.put(line)
    except ValueError:  # closed while it was read
        pass
    answers.put(None)
