"""Committed federated comparisons: they are right, run when shortened, and are what docs show."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from quickstart import ROOT
from shell import prunenas

import prunenas as package
from prunenas.cli import main
from prunenas.errors import SpecError
from prunenas.evidence.federation import compare_strategies
from prunenas.federated.federation import Federation
from prunenas.spec import FederatedComparison, check, is_federated_file, load_federated

FILES = [path for path in sorted((ROOT / "studies").glob("*.yaml")) if is_federated_file(path)]
DIGITS = ROOT / "studies" / "federated_digits.yaml"


def shortened(comparison: FederatedComparison, rounds: int) -> FederatedComparison:
    """Fewer rounds, one seed, few images; initial pruning of two passes."""
    plain = comparison.model_dump(mode="json", by_alias=True)
    plain["federation"] |= {"rounds": rounds, "evaluate_every": 2}
    plain["federation"]["clients"] = min(5, plain["federation"]["clients"])
    plain["data"] |= {"train_limit": 400}
    plain["seeds"] = 1
    for entry in plain["strategies"]:
        entry["rounds"] = None
        if entry["name"] == "prunefl":
            entry["with"] |= {"interval": 2, "initial": {"passes": 2, "batches": 2, "interval": 1}}
    return FederatedComparison.model_validate(plain)


def run(path: Path, folder: Path, rounds: int = 4) -> None:
    comparison = shortened(load_federated(path), rounds)
    done = compare_strategies(comparison, device="cpu", folder=folder)
    rows = {row.title: row for row in done.rows()}
    assert set(rows) == {entry.title for entry in comparison.strategies}
    for row in rows.values():
        assert not row.reasons
        assert row.test is not None
        assert row.test.n == 1
        assert row.density is not None
    found = rows["prunefl"].density
    conventional = rows["conventional"]
    assert found is not None
    assert found.mean < 1
    assert conventional.density is not None
    assert conventional.density.mean == 1
    for follower in ("snip", "iterative_magnitude", "random"):
        density = rows[follower].density
        assert density is not None
        # To a weight of each layer, which keeps one at least, and the rounding of each.
        assert density.mean == pytest.approx(found.mean, abs=len(done.time.layers) / done.weights)
    assert conventional.ratio is not None
    assert conventional.ratio.mean == 1


def test_both_comparisons_are_found() -> None:
    assert {path.stem for path in FILES} == {"federated_digits", "federated_fashion"}
    check(*FILES)


def test_the_first_look_runs(tmp_path: Path) -> None:
    run(DIGITS, tmp_path)


@pytest.mark.slow
def test_the_comparison_of_the_docs_runs(tmp_path: Path) -> None:
    run(ROOT / "studies" / "federated_fashion.yaml", tmp_path, rounds=2)


def test_the_docs_show_the_committed_file() -> None:
    text = (ROOT / "docs" / "federated.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert yaml.safe_load(shown) == yaml.safe_load(DIGITS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with a comparison of few rounds."""
    folder = tmp_path_factory.mktemp("federated")
    plain = shortened(load_federated(DIGITS), 4).model_dump(mode="json", by_alias=True)
    (folder / "few.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_compare_writes_table_page_and_picture(folder: Path) -> None:
    outputs = ("--markdown", "t.md", "--out", "t.html", "--curves", "t.png")
    done = prunenas(folder, "compare", "few.yaml", "--json", *outputs)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [row["title"] for row in told["rows"]][:2] == ["prunefl", "conventional"]
    table = (folder / "t.md").read_text(encoding="utf-8")
    assert "| prunefl |" in table
    assert "5 clients, 3 shards each" in table
    page = (folder / "t.html").read_text(encoding="utf-8")
    assert "<h1>federated_digits</h1>" in page
    assert page.count("data:image/png;base64,") == 2
    assert (folder / "t.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_federate_exports_what_it_found(folder: Path) -> None:
    done = prunenas(folder, "federate", "few.yaml", "--out", "found", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    network = package.load(folder / "found")
    kept = sum(int((weight != 0).sum()) for weight in network.parameters() if weight.dim() > 1)
    total = sum(weight.numel() for weight in network.parameters() if weight.dim() > 1)
    assert kept / total == pytest.approx(told["points"][-1]["density"], abs=1e-3)
    again = prunenas(folder, "federate", "few.yaml", "--out", "found")
    assert again.returncode == 2
    assert again.stderr.startswith("error: Invalid value: found is there already; --replace")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("federate", "few.yaml", "--strategy", "snap"), "(did you mean 'snip'?). Known: "),
        (("federate", "few.yaml", "--on", "flower"), "must be here, simulation or HOST:PORT"),
        (
            ("federate", "few.yaml", "--on", "127.0.0.1:9", "--insecure"),  # nobody listens there
            "the SuperLink 127.0.0.1:9 must take the run, but `flwr run` said: ",
        ),
        (("federate", "few.yaml", "--seed", "-1"), "x>=0"),
        (("federate", "nowhere.yaml"), "nowhere.yaml"),
        (("compare", "few.yaml", "--plan"), "'--plan': is not for federated comparisons"),
        (("compare", "few.yaml", "--workers", "2"), "is not for federated comparisons"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path,
    arguments: tuple[str, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("error: ")
    assert told in line


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "strategy": (
        {"strategies": ["prunefl", "snap"]},
        ":6: unknown strategy 'snap' (did you mean 'snip'?). Known: conventional, ",
    ),
    "twice": (
        {"strategies": ["snip", "snip", "prunefl"]},
        "strategies must have different labels, but snip",
    ),
    "density": (
        {"strategies": ["conventional", "random"]},
        "random must be told a density (`with: {density: 0.1}`), or take over that of one prunefl",
    ),
    "hyperparameter": (
        {"strategies": [{"name": "prunefl", "with": {"interval": 0}}]},
        "prunefl: `interval >= 1` must hold, but it is 0",
    ),
    "participants": (
        {"federation": {"rounds": 3, "clients": 4, "participants": 5}},
        "`participants <= clients` must hold, but there are 5 of 4",
    ),
    "alpha": (
        {"federation": {"rounds": 3, "partition": {"kind": "iid", "alpha": 0.5}}},
        "alpha is for `kind: dirichlet`, but kind is iid",
    ),
    "no rounds": ({"federation": {"clients": 3}}, "federation.rounds must be given"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_a_file_are_told_with_their_lines(name: str, tmp_path: Path) -> None:
    changes, told = MISTAKES[name]
    plain = {
        "name": "few",
        "model": {"name": "lenet_300_100"},
        "data": {"name": "digits"},
        "federation": {"rounds": 3},
        "strategies": ["prunefl"],
        **changes,
    }
    path = tmp_path / "few.yaml"
    lines = [f"{key}: {json.dumps(value)}" for key, value in plain.items()]
    path.write_text("# first line\n" + "\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(SpecError) as error:
        load_federated(path)
    (mistake,) = error.value.mistakes
    assert re.match(rf"{re.escape(str(path))}:[2-6]: ", mistake)
    assert told in mistake
    with pytest.raises(SpecError):
        check(path)


def test_a_federation_counts_rounds_and_clients() -> None:
    federation = Federation(rounds=25, clients=10, participants=7, lr=0.4, lr_half_life=10)
    assert [n for n in range(1, 26) if federation.evaluates_after(n)] == [10, 20, 25]
    assert federation.evaluations == 3
    assert (federation.per_round, federation.needed) == (7, 4)
    assert [federation.lr_in(n) for n in (1, 11, 21)] == pytest.approx([0.4, 0.2, 0.1])
