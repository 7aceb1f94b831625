"""architecture.yaml from any hand: it reads as an architecture or is refused in one line."""

import exporting
import pytest

from prunenas.errors import ExportError
from prunenas.export import read_architecture
from prunenas.export.document import architecture_yaml

BILLION_LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.fixture(scope="module")
def text():
    return architecture_yaml(exporting.space("resnet20", 3, 8, 8).fit(flops_ratio=0.5))


def test_a_layer_stands_on_a_line_of_its_own(text, tmp_path):
    lines = text.splitlines()
    assert ["- [conv1", " conv", " 3", " 16", " 1]"][0] in text
    assert len([line for line in lines if ", conv, " in line]) == 19
    (tmp_path / "a.yaml").write_text(text)
    assert read_architecture(tmp_path / "a.yaml").input_shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BILLION_LAUGHS, ":1: anchors and aliases are not allowed"),
        ("a: !!python/object/apply:os.system [touch x]\n", "not plain YAML"),
        ("a: [1, 2\n", "not plain YAML"),
        ("[" * 5000, "not plain YAML"),
        ("- 1\n- " + "[" * 100 + "]" * 100, "nested at most 64 deep"),
        ("when: 2026-01-01\n", "values must be JSON's, but got date"),
        ("when: 2026-99-99\n", "not plain YAML"),
        ("1: 2\n", "keys must be text"),
        ("size: 0x" + "f" * 5000, "must fit 64 bits"),
        ("size: .nan\n", "numbers must be finite"),
        ("", "an architecture must be a mapping, but got None"),
        ("source: vgg_mini\n", "missing: arguments"),
        ("\x00", "not plain YAML"),
    ],
)
def test_what_is_no_architecture_is_refused(tmp_path, content, message):
    path = tmp_path / "architecture.yaml"
    path.write_text(content)
    with pytest.raises(ExportError, match=message) as caught:
        read_architecture(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_refused_by_its_size_before_it_is_parsed(tmp_path):
    path = tmp_path / "architecture.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ExportError, match="must be at most 4 MiB"):
        read_architecture(path)
    with pytest.raises(ExportError, match="no such file"):
        read_architecture(tmp_path / "none.yaml")
