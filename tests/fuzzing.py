"""Damages exports in every way one can think of, and loads them; run as a program of its own.

``python fuzzing.py FOLDER EXAMPLES`` prints one JSON object: how many examples were tried, how many
loaded, how much memory they took, and what was neither a network that fits its figures nor a
PrunenasError. Hypothesis draws the damage, the same on each run.
"""

import contextlib
import copy
import json
import os
import random
import resource
import shutil
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from prunenas.architecture import Architecture, count_flops
from prunenas.errors import PrunenasError
from prunenas.export import load, load_architecture, read_architecture, read_config

DEEP: list[Any] = []
for _ in range(500):
    DEEP = [DEEP]

ODD: list[Any] = [
    *(-1, 0, 1, 2, 3, 7, 1 << 20, (1 << 20) + 1, 10**9, 10**12, 1 << 62, 1 << 63, 1 << 70),
    *(0.5, -0.5, 1.5, 1e308, float("inf"), float("nan"), True, False, None),
    *("", "conv", "linear", "norm", "select", "x" * 10_000, "../../x", "/etc/passwd", "\ud800"),
    *("vgg_mini", "resnet56", "torchvision/resnet50", "torchvision/vit_b_16", "timm/resnet10t"),
    *(
        "torchvision/../x",
        "timm/hf_hub:a/b",
        "os:system",
        "os.path:join",
        "a:b",
        "ünï ✓",
        "\n",
        "😀",
    ),
    *([], {}, [1], [1, 2, 3], ["a", "conv", 1, 1, 1], {"a": 1}, {"weights": "DEFAULT"}, DEEP),
    *({"num_classes": 10**9}, {"num_classes": -3}, {"width_per_group": 1 << 19}, {"depth": 9}),
    *({"classifier.weight": [10, 2]}, {"fc": ["fc"]}, {"a": ["conv1", "bn1"]}, {"bn1.bias": [1]}),
    *({"groups": 64}, {"zero_init_residual": "x"}, {"norm_layer": "torch.nn.Identity"}),
    *({"weights": "DEFAULT"}, {"gamma": 1e300}, {"input_size": 1 << 20}, {"in_channels": 1 << 20}),
]

ADDED = (
    *("x", "weights", "num_classes", "image_size", "../x", "é"),
    *("tensors", "removed", "selections", "conv1", "features.0", "classifier.weight"),
)

calls: list[str] = []


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of a tree is."""
    found = [at] if at else []
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        found += paths(inner, (*at, key))
    return found


def damage(plain: dict[str, Any], draw: random.Random) -> None:
    """One change somewhere; figures and sizes are hit as often as all the rest."""
    places = paths(plain)
    short = [path for path in places if len(path) <= 2]
    *above, key = draw.choice(short if draw.random() < 0.5 else places)
    owner: Any = plain
    for step in above:
        owner = owner[step]
    how = draw.randrange(8)
    value = owner[key]
    if how == 0:
        del owner[key]
    elif how == 1 and isinstance(value, list) and value:
        value.insert(draw.randrange(len(value)), copy.deepcopy(draw.choice(value)))
    elif how == 2 and isinstance(value, list):
        draw.shuffle(value)
    elif how == 3 and isinstance(value, int):
        owner[key] = value + draw.choice((-1, 1, 8, value, -value))
    elif how == 4 and isinstance(value, dict):
        value[draw.choice(ADDED)] = copy.deepcopy(draw.choice(ODD))
    elif how == 5 and isinstance(owner, dict):
        owner[str(draw.choice(ODD))[:50]] = owner.pop(key)
    else:
        owner[key] = copy.deepcopy(draw.choice(ODD))


def signed(plain: dict[str, Any]) -> None:
    """Let the file agree with itself again, as whoever means harm would."""
    with contextlib.suppress(Exception):
        inner = plain["architecture"]
        for name in ("flops", "params", "input_shape"):
            plain[name] = copy.deepcopy(inner[name])
        plain["digest"] = Architecture.from_dict(inner).digest


def bytes_damaged(content: bytes, draw: random.Random) -> bytes:
    """Flipped, cut, doubled or overwritten somewhere."""
    at = draw.randrange(len(content) + 1)
    noise = bytes(draw.randrange(256) for _ in range(draw.randrange(1, 9)))
    return draw.choice(
        (
            content[:at],
            content[:at] + noise + content[at + len(noise) :],
            content[:at] + noise + content[at:],
            content[:at] + content[at // 2 :],
            content.replace(b"1", b"9" * draw.randrange(1, 6000), 1),
        )
    )


class Trial:
    """Damaged copies of exports, loaded one after the other."""

    def __init__(self, root: Path) -> None:
        self.bases = sorted(path for path in (root / "bases").iterdir())
        self.place = root / "place"
        self.tried = self.loaded = 0
        self.counts: dict[tuple[str, str], int] = {}
        self.failures: list[str] = []

    def config(self, draw: random.Random) -> None:
        """Damage a ``config.json``."""
        folder = self.fresh(draw)
        path = folder / "config.json"
        if draw.random() < 0.15:
            path.write_bytes(bytes_damaged(path.read_bytes(), draw))
        else:
            plain = json.loads(path.read_text())
            for _ in range(draw.randrange(1, 4)):
                damage(plain, draw)
            if draw.random() < 0.6:
                signed(plain)
            path.write_text(json.dumps(plain))
        self.judge(path, lambda: load(folder), lambda: read_config(folder).architecture)

    def document(self, draw: random.Random) -> None:
        """Damage an ``architecture.yaml``."""
        path = self.fresh(draw) / "architecture.yaml"
        if draw.random() < 0.15:
            path.write_bytes(bytes_damaged(path.read_bytes(), draw))
        else:
            plain = yaml.safe_load(path.read_text())
            for _ in range(draw.randrange(1, 4)):
                damage(plain, draw)
            with contextlib.suppress(RecursionError):
                text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
                path.write_bytes(text.encode(errors="surrogatepass"))
        self.judge(path, lambda: load_architecture(path), lambda: read_architecture(path))

    def fresh(self, draw: random.Random) -> Path:
        shutil.rmtree(self.place, ignore_errors=True)
        return shutil.copytree(draw.choice(self.bases), self.place / "export")

    def judge(self, path: Path, make: Any, read: Any) -> None:
        """Load; what comes of it must be a network as claimed, or one line."""
        self.tried += 1
        before = sorted(path.parent.parent.rglob("*"))
        try:
            network, architecture = make(), read()
            params = sum(each.numel() for each in network.parameters())
            assert params == architecture.params, "other parameters than claimed"
            key = (architecture.digest, str(architecture.input_shape))
            if key not in self.counts:
                self.counts[key] = count_flops(network, architecture.input_shape)
            assert self.counts[key] == architecture.flops, "other FLOPs than claimed"
            self.loaded += 1
        except PrunenasError as error:
            if "\n" in str(error) or len(str(error)) > 3000:
                self.fail(path, f"not one line: {str(error)[:300]!r}")
        except BaseException:
            self.fail(path, traceback.format_exc(limit=-4))
        if sorted(path.parent.parent.rglob("*")) != before:
            self.fail(path, "a file appeared or vanished")

    def fail(self, path: Path, why: str) -> None:
        kept = self.place.parent / f"failure_{len(self.failures)}"
        if len(self.failures) < 10:
            shutil.copy(path, kept)
        self.failures.append(f"{kept}: {why}")


def seeded(do: Callable[[random.Random], None]) -> Callable[[int], None]:
    """Damage by number."""

    def once(seed: int) -> None:
        do(random.Random(seed))

    return once


def main() -> None:
    root, examples = Path(sys.argv[1]), int(sys.argv[2])
    trial = Trial(root)
    # Whoever connects or runs a command is caught; the stand-ins take anything.
    socket.socket.connect = lambda *_: calls.append("connect")
    os.system = lambda *_: calls.append("system")
    for base in trial.bases:  # whatever is imported is imported now
        count_flops(load(base), read_config(base).architecture.input_shape)
        load_architecture(base / "architecture.yaml")
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Only so that a failure does not take the machine with it: the growth itself is measured.
    resource.setrlimit(resource.RLIMIT_AS, (24 << 30, resource.RLIM_INFINITY))
    for which in (trial.config, trial.document):
        often = settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        often(given(st.integers(0, 1 << 64))(seeded(which)))()
    print(
        json.dumps(
            {
                "tried": trial.tried,
                "loaded": trial.loaded,
                "grown_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin) >> 10,
                "failures": trial.failures,
                "calls": calls,
            }
        )
    )


if __name__ == "__main__":
    main()
