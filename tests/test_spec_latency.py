"""Latency in study files: what may be wanted together, and what is told at its line."""

from dataclasses import fields
from pathlib import Path

import pytest
from spec_samples import STUDY, changed, mistakes, write_sound_files

from prunenas.latency import RUNTIMES, Protocol
from prunenas.spec import LatencySection, Study, load_study


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_sound_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(objective: str, *more: str) -> Study:
    Path("studies/s.yaml").write_text("\n".join([changed(6, f"objective: {objective}"), *more]))
    return load_study("studies/s.yaml")


def test_the_section_says_what_a_protocol_has() -> None:
    defaults = Protocol()
    assert set(LatencySection.model_fields) == {field.name for field in fields(Protocol)}
    for name, field in LatencySection.model_fields.items():
        assert field.default == getattr(defaults, name), name
    for runtime in RUNTIMES:
        assert LatencySection(runtime=runtime).runtime == runtime


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{rounds: 3}", "`latency.rounds >= 4` must hold, but it is 3"),
        ("{runtime: tensorrt}", "unknown runtime 'tensorrt'. Known: onnxruntime, torch"),
        ("{device: tpu}", "latency.device must be cpu, cuda or cuda:NUMBER, but is 'tpu'"),
        ("{thread: 2}", "unknown latency key 'thread' (did you mean 'threads'?). Known: batch, "
         "device, rounds, runtime, threads, warmup"),
        ("{runtime: onnxruntime, device: cuda}", "latency: onnxruntime measures on the cpu, but "
         "the device is 'cuda'"),
    ],
)  # fmt: skip
def test_a_protocol_that_can_not_be_is_told_at_its_line(folder: Path, text: str, told: str) -> None:
    assert mistakes(f"{STUDY}latency: {text}\n") == [f"studies/s.yaml:9: {told}"]


@pytest.mark.parametrize(
    ("objective", "costs", "measured"),
    [
        ("{maximize: accuracy, minimize: flops}", ("flops",), False),
        ("{maximize: accuracy, minimize: latency_ms}", ("latency_ms",), True),
        ("{maximize: accuracy, minimize: [flops]}", ("flops",), False),
        ("{maximize: accuracy, minimize: [latency_ms, flops]}", ("flops", "latency_ms"), True),
        ("{maximize: accuracy, minimize: flops, latency_ms: 2.5}", ("flops",), True),
        ("{maximize: accuracy, minimize: latency_ms, flops_ratio: 0.5}", ("latency_ms",), True),
        ("{maximize: accuracy, flops_ratio: 0.5, latency_ms: 3}", (), True),
        ("{maximize: accuracy, latency_ms: 3}", (), True),
    ],
)
def test_what_is_wanted_decides_whether_latency_is_measured(
    folder: Path, objective: str, costs: tuple[str, ...], measured: bool
) -> None:
    study = written(objective)
    assert study.objective.costs == costs
    assert (study.protocol == LatencySection()) is measured
    assert Study.model_validate(study.settings()).settings() == study.settings()
    told = written(objective, "latency: {batch: 8}")
    assert told.protocol == LatencySection(batch=8)


def test_latency_decides_nothing_where_weights_are_dropped(folder: Path) -> None:
    text = changed(5, "  - {name: magnitude, with: {density: 0.5}}")
    text = text.replace("minimize: flops", "minimize: [flops, latency_ms]")
    assert mistakes(text) == [
        "studies/s.yaml:6: objective.minimize is for methods whose networks differ in latency, but "
        "magnitude drops weights: all take as long as the dense network"
    ]
    assert mistakes(text.replace(", latency_ms]", "]") + "latency: {}\n") == []


@pytest.mark.parametrize("objective", ["minimize: latency_ms", "minimize: flops, latency_ms: 2"])
def test_budgeted_needs_costs_that_are_known(folder: Path, objective: str) -> None:
    text = changed(6, f"objective: {{maximize: accuracy, {objective}}}")
    assert mistakes(text.replace("sampler: random", "sampler: budgeted")) == [
        "studies/s.yaml:8: search.sampler: budgeted needs costs that are known before training, "
        "but latency is measured. Take tpe"
    ]
    assert mistakes(text.replace("sampler: random", "sampler: auto")) == []
