"""Results under the digest of their causes: whole or absent, and computed once."""

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from prunenas.cache import Cache


def only_file(cache: Cache) -> Path:
    (path,) = cache.folder.rglob("*.safetensors")
    return path


def test_what_is_put_is_got(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    shared = torch.arange(12.0)
    tensors = {
        "strided": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "view": shared[::2],
        "same memory": shared,
        "twice": shared,
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "mask": torch.tensor([True, False]),
        "half": torch.randn(5).bfloat16(),
        "gradient": torch.ones(2, requires_grad=True),
    }
    meta = {"accuracy": 0.1 + 0.2, "curve": [{"epoch": 1}], "none": None, "name": "größe"}
    cache.put("dense", cache.key(a=1), tensors, meta)
    entry = Cache(tmp_path / "cache").get("dense", Cache.key(a=1))
    assert entry is not None
    assert entry.meta == meta
    assert set(entry.tensors) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(entry.tensors[name], tensor)
        assert entry.tensors[name].dtype == tensor.dtype
        assert entry.tensors[name].is_contiguous()


def test_an_entry_without_tensors_is_one_too(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("derivation", "abc", {}, {"widths": [1, 2]})
    entry = cache.get("derivation", "abc")
    assert entry is not None
    assert entry.meta == {"widths": [1, 2]}


def test_what_was_never_put_is_absent_and_nothing_is_created(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert cache.get("dense", cache.key(a=1)) is None
    assert not cache.folder.exists()


def test_kinds_and_keys_are_apart_and_the_last_put_counts(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("one", "aa", {}, {"n": 1})
    cache.put("two", "aa", {}, {"n": 2})
    cache.put("one", "ab", {}, {"n": 3})
    cache.put("one", "aa", {}, {"n": 4})
    found = [cache.get(kind, key) for kind, key in (("one", "aa"), ("two", "aa"), ("one", "ab"))]
    assert [entry.meta["n"] for entry in found if entry] == [4, 2, 3]


def test_keys_name_their_parts() -> None:
    key = Cache.key(seed=0, recipe={"lr": 0.1, "epochs": 4}, widths=[1, 2])
    assert len(key) == 64
    assert key == Cache.key(widths=(1, 2), recipe={"epochs": 4, "lr": 0.1}, seed=0)
    others = [
        Cache.key(seed=1, recipe={"lr": 0.1, "epochs": 4}, widths=[1, 2]),
        Cache.key(seed="0", recipe={"lr": 0.1, "epochs": 4}, widths=[1, 2]),
        Cache.key(seed=0, recipe={"lr": 0.1, "epochs": 4}, widths=[2, 1]),
        Cache.key(seed=0, recipe={"lr": 0.1, "epochs": 4}, width=[1, 2]),
        Cache.key(seed=None, recipe={"lr": 0.1, "epochs": 4}, widths=[1, 2]),
    ]
    assert len({key, *others}) == 6


def test_a_key_is_the_same_in_every_process() -> None:
    code = "from prunenas.cache import Cache; print(Cache.key(a={'x': 1.5}, b=None))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == Cache.key(b=None, a={"x": 1.5})


def test_parts_that_have_no_one_spelling_are_refused() -> None:
    with pytest.raises(TypeError):
        Cache.key(path=Path("x"))
    with pytest.raises(ValueError, match="Out of range"):
        Cache.key(lr=float("nan"))


@pytest.mark.parametrize("word", ["..", "a/b", "", "a.b"])
def test_a_word_can_not_leave_the_folder(tmp_path: Path, word: str) -> None:
    with pytest.raises(ValueError, match="plain words"):
        Cache(tmp_path).get(word, "abc")
    with pytest.raises(ValueError, match="plain words"):
        Cache(tmp_path).get("dense", word)


def test_every_kind_of_damage_means_absent_and_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("dense", "ab", {"w": torch.arange(6.0), "n": torch.tensor(3)}, {"accuracy": 0.5})
    path = only_file(cache)
    whole = path.read_bytes()
    damaged = [whole[:cut] for cut in (0, 4, 50, len(whole) - 1)] + [b"x" * 200, whole + b"y"]
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 4
        damaged.append(bytes(flipped))
    survived = 0
    for content in damaged:
        path.write_bytes(content)
        entry = cache.get("dense", "ab")
        if entry is None:
            assert not path.exists()
        else:  # a flip in padding or in the order of the header changes nothing that is said
            survived += 1
            assert entry.meta == {"accuracy": 0.5}
            assert torch.equal(entry.tensors["w"], torch.arange(6.0))
            assert int(entry.tensors["n"]) == 3
    assert survived < 20
    path.write_bytes(whole)
    assert cache.get("dense", "ab") is not None


def test_a_put_that_fails_leaves_the_old_entry_and_no_litter(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("dense", "ab", {}, {"n": 1})
    with pytest.raises(ValueError, match="Out of range"):
        cache.put("dense", "ab", {}, {"n": float("inf")})
    entry = cache.get("dense", "ab")
    assert entry is not None
    assert entry.meta == {"n": 1}
    assert len(list(only_file(cache).parent.iterdir())) == 1


def compute_once(folder: str, journal: str) -> None:
    cache = Cache(Path(folder))
    with cache.lock("dense", "ab"):
        if cache.get("dense", "ab") is None:
            with Path(journal).open("a") as file:
                file.write("computed\n")
            time.sleep(0.3)
            cache.put("dense", "ab", {}, {"n": 1})


def test_two_processes_compute_it_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    journal = tmp_path / "journal"
    arguments = (str(tmp_path / "cache"), str(journal))
    workers = [spawn.Process(target=compute_once, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert journal.read_text() == "computed\n"


def test_a_lock_may_be_taken_again_by_its_holder(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.lock("dense", "ab"), cache.lock("dense", "ab"):
        cache.put("dense", "ab", {}, {})
    assert cache.get("dense", "ab") is not None
