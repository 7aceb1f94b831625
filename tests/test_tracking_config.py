"""``mlflow.yml`` and tracking URIs: what comes first, and what is told of mistakes."""

from pathlib import Path

import pytest

from prunenas.errors import TrackingError
from prunenas.tracking import TrackingConfig, read_config, server_command, server_environment


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_without_a_file_tracking_is_embedded_in_the_current_folder(tmp_path: Path) -> None:
    assert read_config() == TrackingConfig(
        uri=f"sqlite:///{tmp_path}/mlflow.db",
        artifacts=tmp_path / "mlartifacts",
        host="127.0.0.1",
        port=5000,
    )


def test_the_committed_file_says_what_is_so_without_it() -> None:
    committed = Path(__file__).parent.parent / "mlflow.yml"
    assert read_config(path=committed) == read_config()


def test_the_option_comes_before_the_variable_and_the_variable_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mlflow.yml").write_text("tracking: http://file:1\nserver: {port: 7000}\n")
    assert read_config().uri == "http://file:1"
    assert read_config().port == 7000
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://variable:2/")
    assert read_config().uri == "http://variable:2"
    assert read_config("http://option:3").uri == "http://option:3"


def test_artifacts_lie_beside_their_database(tmp_path: Path) -> None:
    Path("mlflow.yml").write_text("artifacts: files\n")
    assert read_config(f"sqlite:///{tmp_path}/a/b.db").artifacts == tmp_path / "a" / "files"
    assert read_config("sqlite:///c/d.db").artifacts == tmp_path / "c" / "files"
    Path("mlflow.yml").write_text(f"artifacts: {tmp_path}/e\n")
    assert read_config(f"sqlite:///{tmp_path}/a/b.db").artifacts == tmp_path / "e"


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("tracking: [1]\n", 1, "tracking must be text, not [1]"),
        ("# a\ntraking: x\n", 2, "unknown key 'traking' (did you mean 'tracking'?). Known: art"),
        ("server:\n  host: a\n  port: 70000\n", 3, "0..65535, but server.port: 70000"),
        ("server:\n  prt: 1\n", 2, "unknown key 'server.prt'"),
        ("server: {port: yes}\n", 1, "server.port must be an integer, not True"),
        ("server: here\n", 1, "server must be a mapping, not 'here'"),
        ("- a\n", 1, "the file must be a mapping"),
        ("tracking: {\n", 2, "not YAML"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line(text: str, line: int, told: str) -> None:
    Path("mlflow.yml").write_text(text)
    with pytest.raises(TrackingError) as caught:
        read_config()
    assert str(caught.value).startswith(f"mlflow.yml:{line}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_was_named_must_exist() -> None:
    with pytest.raises(TrackingError, match=r"other\.yml: can't be read"):
        read_config(path=Path("other.yml"))


@pytest.mark.parametrize(
    "uri", ["./mlruns", "file:///tmp/mlruns", "ftp://x", "sqlite://", "sqlite:///:memory:"]
)
def test_uris_that_keep_nothing_or_that_mlflow_refuses_are_refused(uri: str) -> None:
    with pytest.raises(TrackingError, match=r"a (SQLite )?tracking URI"):
        read_config(uri)


@pytest.mark.parametrize("uri", ["http://", "http://host:port", "http://host:99999"])
def test_a_server_needs_an_address(uri: str) -> None:
    with pytest.raises(TrackingError, match="http://HOST:PORT"):
        read_config(uri)


def test_a_server_is_started_over_an_embedded_store_only(tmp_path: Path) -> None:
    command = server_command(read_config())
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert command[1:4] == ["-m", "mlflow", "server"]
    assert options["--backend-store-uri"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert options["--artifacts-destination"] == str(tmp_path / "mlartifacts")
    assert options["--host"] == "127.0.0.1"
    assert server_environment()["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    with pytest.raises(TrackingError, match="tracking goes to the server http://there:5000"):
        server_command(read_config("http://there:5000"))
