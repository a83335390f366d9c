"""What is taken out of images, what they may weigh, and what the scan finds in them."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[3] / "deployments" / "images"
BASE = "sha256:base"
SITE = "opt/rayonnage/lib/python3.13/site-packages"
KEY = b"-----BEGIN PRIVATE KEY-----\n" + b"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n" * 3


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


Files = Mapping[str, bytes | tuple[bytes, int] | None]
"""Content by path, with a mode where it matters; None is a folder."""


def layer(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, what in files.items():
            member = tarfile.TarInfo(path)
            content, member.mode = what if isinstance(what, tuple) else (what or b"", 0o644)
            member.type = tarfile.DIRTYPE if what is None else tarfile.REGTYPE
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def saved_image(path: Path, *own: Files, base: Files | None = None, **config: Any) -> Path:
    """Write what `docker save` writes of an image with these layers above the base."""
    layers = {f"{number}/layer.tar": layer(files) for number, files in enumerate([base or {}, *own])}
    configuration = {
        "config": {"User": "10001:10001", "Env": ["PATH=/bin"]} | config,
        "history": [{"created_by": "RUN true"}],
        "rootfs": {"diff_ids": [BASE, *(f"sha256:{number}" for number, _ in enumerate(own))]},
    }
    contents = {
        **layers,
        "config.json": json.dumps(configuration).encode(),
        "manifest.json": json.dumps([{"Config": "config.json", "Layers": list(layers)}]).encode(),
    }
    path.write_bytes(layer(contents))
    return path


@pytest.fixture
def found(script: Callable[[str], ModuleType], tmp_path: Path) -> Callable[..., list[str]]:
    def look(*own: Files, name: str = "auth", base: Files | None = None, **config: Any) -> list[str]:
        with saved_image(tmp_path / "image.tar", *own, base=base, **config).open("rb") as archive:
            return [f"{one.where}: {one.what}" for one in script("scan").findings(archive, name, [BASE])]

    return look


def test_an_image_as_it_should_be_passes(found: Callable[..., list[str]]) -> None:
    files: Files = {
        SITE: None,
        f"{SITE}/sklearn": None,
        f"{SITE}/sklearn/datasets/iris.csv": b"1,2\n",
        f"{SITE}/rayonnage_shared/settings.py": b"password = settings.password\n",
        "opt/rayonnage/bin/rayonnage": (b"#!/opt/rayonnage/bin/python\n", 0o755),
        "srv/data/sample/features.csv": b",designation\n",
    }
    assert found(files, name="train") == []


@pytest.mark.parametrize(
    ("path", "content", "what"),
    [
        ("srv/.env", b"A=b", "has the name of a secret file"),
        ("srv/.env.production", b"A=b", "has the name of a secret file"),
        ("srv/keys/signing.key", b"", "has the name of a secret file"),
        ("etc/ssl/server.pem", KEY, "contains a private key"),
        (f"{SITE}/package/notes.txt", b"see AKIA" + b"Q3EGRTZ7UVWXY2AB", "contains an AWS access key"),
        (f"{SITE}/rayonnage_shared/x.py", b"redis://:hunter22@redis:6379", "contains an address with a password"),
        ("etc/pip.conf", b"index-url = https://me:s3cr3t@example.org/simple", "contains an address with a password"),
        ("srv/products.csv", b"a,b", "is data"),
        (f"{SITE}/rayonnage_train/model.zip", b"", "is data"),
        ("tmp/wheel/setup.py", b"", "was left over from the build"),
        ("root/.cache/uv/x", b"", "was left over from the build"),
        ("usr/bin/gcc-14", b"", "is a build tool, which no image needs"),
        ("usr/bin/x86_64-linux-gnu-ld", b"", "is a build tool, which no image needs"),
        ("usr/local/bin/uv", b"", "is a build tool, which no image needs"),
        ("usr/bin/tool", (b"", 0o4755), "runs as another user (setuid or setgid)"),
        ("opt/rayonnage/x", (b"", 0o666), "is world-writable"),
        (f"{SITE}/pandas/tests", None, "is not needed at run time"),
        ("srv/.git", None, "contains secrets or history"),
        (f"{SITE}/tensorflow", None, "is only for train"),
        (f"{SITE}/torch", None, "is only for no image"),
        (f"{SITE}/pandas", None, "is only for mlflow, train"),
    ],
)
def test_what_must_not_be_in_an_image_is_found(
    found: Callable[..., list[str]], path: str, content: bytes | tuple[bytes, int] | None, what: str
) -> None:
    assert found({path: content}) == [f"{path}: {what}"]


def test_what_a_later_layer_deletes_ships_all_the_same(found: Callable[..., list[str]]) -> None:
    assert found({"srv/.env": b"A=b"}, {"srv/.wh..env": b""}) == ["srv/.env: has the name of a secret file"]


def test_the_base_is_not_ours_to_judge_but_for_compilers(found: Callable[..., list[str]]) -> None:
    base: Files = {"usr/bin/su": (b"", 0o4755), "tmp/x": b"", "usr/bin/cc": b""}
    assert found({}, base=base) == ["usr/bin/cc: is a build tool, which no image needs"]


def test_an_image_on_another_base_is_looked_into_from_the_ground(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    with saved_image(tmp_path / "image.tar", base={"usr/bin/su": (b"", 0o4755)}).open("rb") as archive:
        found = [one.where for one in script("scan").findings(archive, "auth", ["sha256:other"])]
    assert found == ["layers", "usr/bin/su"]


@pytest.mark.parametrize("user", ["", "root", "0:0", "rayonnage"])
def test_a_user_who_may_be_root_is_found(found: Callable[..., list[str]], user: str) -> None:
    (finding,) = found({}, User=user)
    assert finding.startswith("USER: is ")


@pytest.mark.parametrize("variable", ["ADMIN_PASSWORD=x", "SECRET_KEY=abc", "GITHUB_TOKEN=1"])
def test_a_secret_among_the_variables_is_found_and_not_shown(found: Callable[..., list[str]], variable: str) -> None:
    assert found({}, Env=[variable]) == [f"ENV: {variable.partition('=')[0]} contains a secret"]


def test_an_environment_is_left_with_what_runs(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    kept = [
        "package/module.py",
        "package/testing/tool.py",
        "package-1.0.dist-info/METADATA",
        "evidently/tests/part_of_it.txt",
    ]
    dropped = [
        "package/tests/test_module.py",
        "package/include/package.h",
        "package/inner/tests/data.bin",
        "clang/c.so",
    ]
    for path in [*(packages / one for one in kept + dropped), tmp_path / ".lock", tmp_path / "bin" / "activate.fish"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    assert script("slim").main([str(tmp_path)]) == 0

    left = {str(path.relative_to(packages)) for path in packages.rglob("*") if path.is_file()}
    assert {one for one in left if "__pycache__" not in one} == set(kept)
    assert {one.partition(".")[0] for one in left if "__pycache__" in one} == {
        "package/__pycache__/module",
        "package/testing/__pycache__/tool",
    }
    assert not (tmp_path / ".lock").exists() and not (tmp_path / "bin" / "activate.fish").exists()


def test_compiled_code_does_not_depend_on_when_it_was_compiled(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    (tmp_path / "module.py").write_text("VALUE = 1\n")
    script("slim").compile_all(tmp_path)
    (compiled,) = tmp_path.rglob("*.pyc")
    assert int.from_bytes(compiled.read_bytes()[4:8], "little") == 0b01  # by hash, unchecked: PEP 552


def test_too_large_an_image_is_reported(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = script("sizes")
    monkeypatch.setattr(sizes, "inspect_base", lambda: {"Size": 100_000_000})
    weights = {"rayonnage/auth:1": 200_000_000, "rayonnage/predict:1": 700_000_000, "rayonnage/train:1": 9_000_000_000}
    monkeypatch.setattr(sizes, "inspect", lambda image: {"Size": weights[image]})

    assert sizes.main(["rayonnage/auth:1", "rayonnage/train:1"]) == 0
    assert sizes.main(list(weights)) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "TOO LARGE" in line)
    assert "predict" in line and "600 above the base" in line


@pytest.mark.parametrize("name", ["engine", "scan", "sizes", "slim"])
def test_the_scripts_need_nothing_but_the_standard_library(name: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import {name}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_the_source_code_that_goes_into_images_passes_the_scan(script: Callable[[str], ModuleType]) -> None:
    scan = script("scan")
    project = SCRIPTS.parents[1]
    files = [file for name in ("shared", "services") for file in (project / name).rglob("*.py")]
    patterns = scan.SECRET_TEXTS | scan.OWN_SECRET_TEXTS
    found = [finding for file in files for finding in scan.secrets_in(str(file), file.read_bytes(), patterns)]
    assert len(files) > 300
    assert found == []
