"""The committed files, and their documentation."""

import inspect
import json
import re
import shutil
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from prunenas.architecture import fill_arguments, trace
from prunenas.data import load
from prunenas.search import SAMPLERS
from prunenas.spec import (
    Comparison,
    DataSection,
    Domain,
    SearchSection,
    SearchSpace,
    Study,
    check,
    check_densities,
    check_widths,
    is_federated_file,
    load_comparison,
    load_space,
    load_study,
)
from prunenas.spec.mistakes import validate

ROOT = Path(__file__).parent.parent
COMPARISONS = sorted((ROOT / "studies").glob("compare_*.yaml"))
FEDERATED = [path for path in (ROOT / "studies").glob("*.yaml") if is_federated_file(path)]
STUDIES = sorted({*(ROOT / "studies").glob("*.yaml")} - {*COMPARISONS, *FEDERATED})
SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))
SHAPES = {
    "mnist5k": (1, 28, 28),
    "digits": (1, 8, 8),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
}


def stem(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", STUDIES, ids=stem)
def test_every_committed_study_is_sound_and_says_what_its_yaml_says(path: Path) -> None:
    check(path)
    study = load_study(path)
    assert study.name == path.stem
    assert study.path == path
    assert study.text == path.read_text()
    written = yaml.safe_load(study.text)
    assert study.model.name == written["model"]["name"]
    assert study.search.trials == written["search"]["trials"]
    assert [entry.name for entry in study.methods] == [m["name"] for m in written["methods"]]


@pytest.mark.parametrize("path", STUDIES, ids=stem)
def test_settings_are_json_and_make_the_same_study(path: Path) -> None:
    settings = load_study(path).settings()
    again = Study.model_validate(json.loads(json.dumps(settings)))
    assert again.settings() == settings
    strictly, findings = validate(Study, settings, "study")
    assert findings == ()
    assert strictly.settings() == settings


@pytest.mark.parametrize("path", STUDIES, ids=stem)
def test_every_committed_study_fits_its_model(path: Path) -> None:
    study = load_study(path)
    shape = SHAPES[study.data.name]
    arguments = fill_arguments(
        study.model.name, study.model.arguments, classes=10, input_shape=shape
    )
    model = trace(study.model.name, arguments=arguments, input_shape=shape)
    for entry in study.methods:
        assert check_widths(entry.space, model) == ()
        assert check_densities(entry, model) == ()


@pytest.mark.parametrize("path", COMPARISONS, ids=stem)
def test_every_committed_comparison_is_sound_and_fits_its_models(path: Path) -> None:
    check(path)
    comparison = load_comparison(path)
    assert comparison.name == path.stem
    written = yaml.safe_load(comparison.text)
    assert [model.name for model in comparison.models] == [m["name"] for m in written["models"]]
    assert [each.name for each in comparison.methods] == [m["name"] for m in written["methods"]]
    shape = SHAPES[comparison.data.name]
    for model in comparison.models:
        arguments = fill_arguments(model.name, model.arguments, classes=10, input_shape=shape)
        space = trace(model.name, arguments=arguments, input_shape=shape)
        for budget in comparison.budgets:
            ratios = {group.name: 1.0 for group in space.groups}
            assert space.fit(ratios, flops=int(budget * space.dense_flops)).flops > 0


@pytest.mark.parametrize("path", SPACES, ids=stem)
def test_every_committed_search_space_is_sound(path: Path) -> None:
    check(path)
    space = load_space(path)
    assert space.widths is not None or space.densities is not None or space.method


@pytest.mark.parametrize("path", [*STUDIES, *COMPARISONS, *FEDERATED, *SPACES], ids=stem)
def test_every_committed_file_begins_with_what_it_is_for(path: Path) -> None:
    assert re.match(r"# \S.{10,}", path.read_text())


def test_the_data_section_is_what_load_takes() -> None:
    parameters = dict(inspect.signature(load).parameters)
    del parameters["device"]  # where, not what: an option of the command line
    assert list(DataSection.model_fields) == list(parameters)
    for name, field in DataSection.model_fields.items():
        if not field.is_required():
            assert field.default == parameters[name].default, name


def test_a_study_may_name_every_sampler_there_is() -> None:
    annotation = SearchSection.model_fields["sampler"].annotation
    assert set(get_args(annotation)) == {*SAMPLERS, "auto"}


SECTIONS = {"Study": Study, "Search space": SearchSpace, "Comparison": Comparison}
ELSEWHERE = {"Comparison": ("data", "train", "patterns.data")}
"""Keys of a section that are documented as the study's."""


def keys(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """All keys that a file of this model may have, by dotted name."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        parts = {field.annotation, *get_args(field.annotation)}
        inner = next((p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)), None)
        if inner is None or inner is SearchSpace:
            found[key] = field
        elif inner is Domain:
            found |= {key: field, **keys(inner, f"{key}.*.")}
        elif get_origin(field.annotation) is tuple:
            found |= {key: field, **keys(inner, f"{key}[].")}
        else:
            if field.default is None or isinstance(field.default, str):  # it need not be there
                found[key] = field
            found |= keys(inner, f"{key}.")
    return found


def own_keys(section: str) -> dict[str, FieldInfo]:
    """Keys that a section of the documentation has to tell of."""
    elsewhere = tuple(f"{each}." for each in ELSEWHERE.get(section, ()))
    found = keys(SECTIONS[section]).items()
    return {key: field for key, field in found if not key.startswith(elsewhere)}


def documented(section: str) -> dict[str, str]:
    """Keys and defaults of one section's table in the documentation."""
    text = (ROOT / "docs" / "study_files.md").read_text().split(f"## {section}\n")[1]
    rows = re.findall(r"^\| `([^`]+)` \|([^|]*)\|", text.split("\n## ")[0], re.MULTILINE)
    assert len(dict(rows)) == len(rows), "a key is documented twice"
    return {key: default.strip() for key, default in rows}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_documented_and_every_documented_key_exists(section: str) -> None:
    assert sorted(documented(section)) == sorted(own_keys(section))


@pytest.mark.parametrize("section", SECTIONS)
def test_documented_defaults_hold(section: str) -> None:
    told = documented(section)
    for key, field in own_keys(section).items():
        assert told[key] == shown(field), key


def shown(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value: Any = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, SearchSpace):
        return "nothing searched"
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{json.dumps(value)}`"


def test_documented_examples_are_sound(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "study_files.md").read_text()
    blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    for path in SPACES:
        (tmp_path / "search_spaces").mkdir(exist_ok=True)
        (tmp_path / "search_spaces" / path.name).write_text(path.read_text())
    for name, block in blocks:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(block)
        check(tmp_path / name)


STUDIES_IN_DOCS = [
    (page, block)
    for page in sorted((ROOT / "docs").glob("*.md"))
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    if block.lstrip("# ").partition("\n")[2].startswith("name:") or block.startswith("name:")
]


@pytest.mark.parametrize(
    "block", [b for _, b in STUDIES_IN_DOCS], ids=[page.stem for page, _ in STUDIES_IN_DOCS]
)
def test_every_study_in_the_documents_is_sound(block: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "search_spaces", tmp_path / "search_spaces")
    path = tmp_path / "study.yaml"
    path.write_text(block)
    check(path)


def test_the_documents_have_studies() -> None:
    assert {"methods", "sparsity", "study_files"} <= {page.stem for page, _ in STUDIES_IN_DOCS}
