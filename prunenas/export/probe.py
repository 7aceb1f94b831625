"""The fresh process that looks at an export: it has only what the export's reader would have.

:class:`prunenas.export.verification.Verifier` runs this file. It takes a JSON object a line on
stdin and answers one a line on stdout. prunenas can't be imported here: networks come from the
export's own ``modeling.py``, and fvcore counts them with ``architecture/flops.py`` alone.
"""

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO


class Blocked(MetaPathFinder):
    """Refuses to import a package, as if it were not installed."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.active = True

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        """Nothing is found here; the package is not to be found elsewhere either."""
        if self.active and name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def serve(requests: TextIO, answers: TextIO, blocked: Blocked) -> None:
    """Answer each request; what goes wrong with one is its answer."""
    for line in requests:
        request = json.loads(line)
        sys.path[:] = request["path"]
        # A module of the user's own may build on prunenas; everything else must do without.
        blocked.active = ":" not in request["source"]
        before = set(sys.modules)
        try:
            answer = examine(request)
        except BaseException as error:  # the export's code may raise anything
            text = " ".join(str(error).split())[:300]
            answer = {"error": f"{type(error).__name__}: {text}" if text else type(error).__name__}
        # The next export may bring other modules of the same names.
        mine = {request["source"].partition(":")[0].partition(".")[0], blocked.package}
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in mine:
                del sys.modules[name]
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def examine(request: dict[str, Any]) -> dict[str, Any]:
    """Load an export with its own loader, run it, and measure how far it is from the writer's."""
    import torch

    torch.set_num_threads(request["threads"])
    folder = Path(request["folder"])
    modeling = _module("modeling", folder / "modeling.py")
    network = modeling.from_pretrained(folder, trust=True).eval()
    check = modeling.read_tensors(request["check"])
    if request["random"]:  # the writer's random weights, so that there is something to compare
        state = {name[6:]: value for name, value in check.items() if name.startswith("state.")}
        modeling.fill(network, state)
    inputs = check["input"]
    expected = [check[f"output.{i}"] for i in range(len(check)) if f"output.{i}" in check]
    with torch.no_grad():
        differences = {"modeling.py": difference(list(tensors(network(inputs))), expected)}
    for name in request["formats"]:
        answered = [_answers(name, folder / f"model.{name}", inputs[:n]) for n in (1, len(inputs))]
        differences[f"model.{name}"] = max(
            difference(answered[1], expected),
            difference(answered[0], [each[:1] for each in expected]),
        )
    counter = _module("flops", Path(request["counter"]))
    return {
        "shapes": {name: list(value.shape) for name, value in network.state_dict().items()},
        "params": sum(each.numel() for each in network.parameters() if each.requires_grad),
        "flops": counter.count_flops(network, request["input_shape"]),
        "differences": differences,
    }


def tensors(output: Any) -> Iterator[Any]:
    """The tensors of a network's output, whatever holds them."""
    if isinstance(output, (list, tuple)):
        for each in output:
            yield from tensors(each)
    elif isinstance(output, dict):
        for each in output.values():
            yield from tensors(each)
    elif output is not None:
        yield output


def difference(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference of an output, as a share of the largest one."""
    import torch

    if [each.shape for each in found] != [each.shape for each in expected]:
        raise ValueError(f"outputs have shapes {[tuple(each.shape) for each in found]}")
    worst = 0.0
    for mine, other in zip(found, expected, strict=True):
        mine, other = mine.detach().double(), other.double()
        finite = torch.isfinite(other)
        if not torch.equal(torch.isfinite(mine), finite):
            return float("inf")
        mine, other = mine[finite], other[finite]
        gap = float((mine - other).abs().max()) if other.numel() else 0.0
        worst = max(worst, gap / max(float(other.abs().max()) if other.numel() else 0.0, 1e-30))
    return worst


def _answers(name: str, path: Path, inputs: Any) -> list[Any]:
    import torch

    if name == "onnx":
        onnxruntime: Any = importlib.import_module("onnxruntime")

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        given = {session.get_inputs()[0].name: inputs.numpy()}
        return [torch.from_numpy(each) for each in session.run(None, given)]
    with torch.no_grad():
        return list(tensors(torch.export.load(path).module()(inputs)))


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_export_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    # Answers alone go to stdout, whatever the export's modules print.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.dont_write_bytecode = True  # no __pycache__ in the export
    finder = Blocked("prunenas")
    sys.meta_path.insert(0, finder)
    serve(sys.stdin, channel, finder)
