"""`prunenas cache`: what is listed, what is removed, what is left alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from prunenas.cache import Cache
from prunenas.cli import main

DAY = 86_400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A dense network of today, a training of 40 days ago, a checkpoint of 3 hours ago."""
    monkeypatch.chdir(tmp_path)
    cache = Cache()
    cache.put("dense", "aa11", {"w": torch.ones(1000)}, {"about": "dense network lenet5"})
    cache.put("scratch", "bb22", {"w": torch.ones(10)}, {"about": "lenet5 at 9 FLOPs"})
    checkpoint = cache.unfinished("scratch", "cc33")
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"x" * 500)
    for item in cache.items():
        hours = {"aa11": 0, "bb22": 40 * 24, "cc33": 3}[item.key]
        then = time.time() - hours * 3600
        os.utime(item.path, (then, then))
    return cache


def keys(cache: Cache) -> set[str]:
    return {item.key for item in cache.items()}


def test_the_list_says_what_how_large_and_how_old(
    cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["dense", "unfinished", "scratch"]
    assert "dense network lenet5" in lines[2]
    assert "3 h 00 min ago" in lines[3]
    assert "40 d 00 h ago" in lines[4]
    assert "3 results" in lines[-1]


def test_json_has_every_byte(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    files = [path for path in cache.folder.rglob("*") if path.suffix in (".safetensors", ".pt")]
    assert found["bytes"] == sum(path.stat().st_size for path in files)
    assert {(item["kind"], item["of"], item["key"]) for item in found["items"]} == {
        ("dense", "dense", "aa11"),
        ("scratch", "scratch", "bb22"),
        ("unfinished", "scratch", "cc33"),
    }


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--older-than", "30d"], {"aa11", "cc33"}),
        (["--older-than", "2h"], {"aa11"}),
        (["--older-than", "8w"], {"aa11", "bb22", "cc33"}),
        (["--kind", "scratch"], {"aa11", "cc33"}),
        (["--kind", "unfinished"], {"aa11", "bb22"}),
        (["--kind", "dense", "--older-than", "1d"], {"aa11", "bb22", "cc33"}),
        (["--all"], set()),
    ],
)
def test_pruning_removes_what_would_be_listed(
    cache: Cache, options: list[str], left: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "--json", *options]) == 0
    listed = {item["key"] for item in json.loads(capsys.readouterr().out)["items"]}
    assert listed == {"aa11", "bb22", "cc33"} - left
    assert keys(cache) == {"aa11", "bb22", "cc33"}
    assert main(["cache", "--prune", *options]) == 0
    assert keys(cache) == left


def test_reading_a_result_keeps_it_young(cache: Cache) -> None:
    assert cache.get("scratch", "bb22") is not None
    assert main(["cache", "--prune", "--older-than", "1d"]) == 0
    assert "bb22" in keys(cache)


def test_what_a_process_works_on_is_left_alone(
    cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "from prunenas.cache import Cache\n"
        "with Cache().lock('scratch', 'cc33'):\n"
        "    print('held', flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert main(["cache", "--prune", "--all"]) == 0
        assert keys(cache) == {"cc33"}
        assert "left 1 result that a process is working on" in capsys.readouterr().err
        holder.kill()
    assert main(["cache", "--prune", "--all"]) == 0
    assert keys(cache) == set()


def test_its_own_lock_is_no_exception(cache: Cache) -> None:
    with cache.lock("dense", "aa11"):
        assert main(["cache", "--prune", "--all"]) == 0
    assert keys(cache) == {"aa11"}


def test_damage_is_shown_and_litter_goes(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = (item.path for item in cache.items() if item.key == "aa11")
    path.write_bytes(b"no tensors")
    litter = path.with_name(".aa11.123.partial")
    litter.write_bytes(b"half")
    young = path.with_name(".aa11.124.partial")
    young.write_bytes(b"half")
    os.utime(litter, (time.time() - DAY,) * 2)
    assert main(["cache"]) == 0
    assert "damaged" in capsys.readouterr().out
    assert main(["cache", "--prune", "--all"]) == 0
    assert not litter.exists()
    assert young.exists()  # somebody may be writing it


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prune"], "must come with --older-than, --kind or --all"),
        (["--older-than", "soon"], "must be a number and a unit (s, min, h, d, w) such as 30d"),
    ],
)
def test_mistakes_are_told_and_nothing_is_removed(
    cache: Cache, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", *options]) == 2
    assert said in capsys.readouterr().err
    assert len(keys(cache)) == 3


def test_an_empty_folder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cache", "--cache", "nowhere"]) == 0
    assert "nothing in nowhere" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
