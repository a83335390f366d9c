"""What `make run` does before there is anything but Python."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "deployments" / "local" / "bootstrap.py"


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with an empty folder in the project's place and an empty search path."""
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return module


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_needs_nothing_but_the_standard_library() -> None:
    subprocess.run([sys.executable, "-I", "-S", "-c", f"import runpy; runpy.run_path({str(SCRIPT)!r})"], check=True)


def test_this_interpreter_is_taken_when_it_fits(bootstrap: ModuleType) -> None:
    assert bootstrap.suitable_python() == sys.executable


def test_another_interpreter_is_looked_for_when_this_one_is_too_old(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 1))
    executable(
        tmp_path / "path" / "python3.13", "echo 'no such version' >&2; exit 127"
    )  # a shim with nothing behind it
    executable(tmp_path / "path" / "python3.12", "echo 3 12")
    assert bootstrap.suitable_python() == str(tmp_path / "path" / "python3.12")


def test_says_what_to_do_when_no_interpreter_fits(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 1))
    with pytest.raises(bootstrap.Unusable, match=r"Python 3\.11 to 3\.13 is needed.*make PYTHON="):
        bootstrap.suitable_python()


def test_a_uv_on_the_search_path_is_used(bootstrap: ModuleType, tmp_path: Path) -> None:
    uv = executable(tmp_path / "path" / "uv", "echo 'uv 0.13.8 (x86_64-unknown-linux-gnu)'")
    assert bootstrap.find_uv(sys.executable) == [str(uv)]


def test_a_uv_that_is_too_old_is_passed_over_for_our_own(bootstrap: ModuleType, tmp_path: Path) -> None:
    executable(tmp_path / "path" / "uv", "echo 'uv 0.1.0'")
    own = executable(tmp_path / ".uv" / "bin" / "uv", "echo 'uv 0.13.8'")
    assert bootstrap.find_uv(sys.executable) == [str(own)]


def test_uv_is_installed_by_pip_alone_where_python_has_no_venv(bootstrap: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / ".uv" / "target" / "bin" / "uv"
    python = executable(
        tmp_path / "python",
        f"""[ "$2" = venv ] && exit 1
case "$*" in *"pip install"*) /bin/mkdir -p {target.parent}; printf '#!/bin/sh\\necho uv 0.13.8' > {target};
/bin/chmod +x {target};; esac""",
    )
    assert bootstrap.find_uv(str(python)) == [str(target)]


def test_uv_gets_an_environment_where_python_has_no_pip(bootstrap: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / ".uv" / "bin"
    uv = executable(tmp_path / "made" / "uv", "echo 'uv 0.13.8'")
    pip = executable(tmp_path / "made" / "pip", f"/bin/cp {uv} {folder}/uv")
    python = executable(
        tmp_path / "python", f"""[ "$2" = venv ] && /bin/mkdir -p {folder} && /bin/cp {pip} {folder}/pip"""
    )
    assert bootstrap.find_uv(str(python)) == [str(folder / "uv")]


def test_says_what_to_do_when_uv_cannot_be_installed(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = executable(tmp_path / "python", "exit 1")
    monkeypatch.setattr(bootstrap, "SYSTEM_PYTHON", str(python))
    with pytest.raises(bootstrap.Unusable, match="python3-pip"):
        bootstrap.find_uv(str(python))


def test_commands_that_install_nothing_say_so_when_nothing_is_installed(
    bootstrap: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path.cwd())  # main leaves for the project; this brings the test back
    assert bootstrap.main(["--no-sync", "rayonnage", "stop"]) == 1
    assert "nothing is installed" in capsys.readouterr().err


@pytest.mark.parametrize("left", ["interrupted", "without an interpreter"])
def test_a_half_made_environment_is_made_anew(bootstrap: ModuleType, tmp_path: Path, left: str) -> None:
    venv = tmp_path / ".venv"
    (venv / "lib").mkdir(parents=True)
    (venv / "lib" / "torn").touch()
    if left == "interrupted":
        executable(venv / "bin" / "python", "echo 3 11")
        (tmp_path / ".run").mkdir()
        (tmp_path / ".run" / "installing").touch()
    (tmp_path / "uv.lock").touch()
    executable(
        tmp_path / "path" / "uv",
        f"""case "$1" in
--version) echo 'uv 0.13.8';;
venv) /bin/mkdir -p {venv}/bin; printf '#!/bin/sh\\necho 3 11' > {venv}/bin/python; /bin/chmod +x {venv}/bin/python;;
esac
echo "$@" >> {tmp_path}/calls""",
    )

    bootstrap.synchronise(venv, development=True)

    assert not (venv / "lib" / "torn").exists()
    calls = (tmp_path / "calls").read_text()
    assert "venv --quiet --python" in calls
    assert "sync --frozen --inexact --group dev" in calls
    assert not (tmp_path / ".run" / "installing").exists()


@pytest.fixture
def calls(bootstrap: ModuleType, tmp_path: Path) -> Path:
    """A file with a line for each call of a uv that does nothing, beside a `.venv` that works."""
    executable(tmp_path / ".venv" / "bin" / "python", "echo 3 11")
    (tmp_path / "uv.lock").touch()
    executable(
        tmp_path / "path" / "uv", f"""[ "$1" = --version ] && echo 'uv 0.13.8' || echo "$@" >> {tmp_path}/calls"""
    )
    return tmp_path / "calls"


def test_an_optional_part_is_installed_beside_what_is_there(
    bootstrap: ModuleType, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path.cwd())  # main leaves for the project; this brings the test back
    started: list[tuple[Path, list[str]]] = []
    monkeypatch.setattr(bootstrap.os, "execv", lambda program, arguments: started.append((program, arguments)))

    bootstrap.main(["--extra", "mlflow", "rayonnage", "mlflow"])

    assert "sync --frozen --inexact --extra mlflow" in calls.read_text()
    assert started == [(tmp_path / ".venv" / "bin" / "rayonnage", ["rayonnage", "mlflow"])]


@pytest.mark.parametrize(
    ("in_file", "environment", "extras"),
    [
        ("", {}, []),
        ("DVC_REMOTE_URL='s3://shop/rayonnage'\n", {}, ["dvc"]),
        ("MLFLOW_TRACKING_URI=\n", {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}, ["mlflow-client"]),
        ("MLFLOW_TRACKING_URI=http://mlflow:5000\n", {"MLFLOW_TRACKING_URI": ""}, []),
    ],
)
def test_a_setting_asks_for_the_part_that_it_needs(
    bootstrap: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    in_file: str,
    environment: dict[str, str],
    extras: list[str],
) -> None:
    (bootstrap.ROOT / ".env").write_text(in_file)
    for name in bootstrap.ASKED_FOR_BY:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert bootstrap.asked_for() == extras


def test_what_is_asked_for_is_installed(bootstrap: ModuleType, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path.cwd())
    monkeypatch.setenv("DVC_REMOTE_URL", "s3://shop")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    assert bootstrap.main([]) == 0

    assert calls.read_text() == "sync --frozen --inexact --extra dvc\n"


def test_a_checkout_with_pointers_needs_dvc(bootstrap: ModuleType, calls: Path) -> None:
    models = calls.parent / "models"
    models.mkdir()
    assert "dvc" not in bootstrap.asked_for()
    (models / "2026-11-01.dvc").touch()
    assert "dvc" in bootstrap.asked_for()


@pytest.mark.parametrize("terminal", [True, False])
def test_installing_says_how_many_packages_and_does_not_list_them(
    bootstrap: ModuleType,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    uv = executable(
        tmp_path / "uv", "echo 'Prepared 2 packages'; echo 'Installed 2 packages in 3ms'; echo ' + fastapi==1'"
    )
    monkeypatch.setattr(bootstrap.sys.stderr, "isatty", lambda: terminal)

    bootstrap.install([str(uv)], {})

    out, err = capfd.readouterr()
    assert out.startswith("Installed 2 packages in ")
    assert ("Prepared 2" in err) is terminal
    assert "fastapi" not in out + err


@pytest.mark.parametrize("terminal", [True, False])
def test_an_installation_that_fails_shows_the_reason(
    bootstrap: ModuleType,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    uv = executable(tmp_path / "uv", "echo 'error: no network'; exit 2")
    monkeypatch.setattr(bootstrap.sys.stderr, "isatty", lambda: terminal)

    with pytest.raises(bootstrap.Unusable, match="failed with status 2"):
        bootstrap.install([str(uv)], {})

    assert "error: no network" in capfd.readouterr().err
