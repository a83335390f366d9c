"""What `make run` installs is enough for everything but the optional parts, which name their make word."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("rayonnage_shared", *(f"rayonnage_{name}" for name in ("auth", "gateway", "ingest", "predict", "train")))
OF_EXTRAS = {
    *("botocore", "dvc", "evidently", "huggingface_hub", "keras", "matplotlib", "mlflow", "pandas", "pandera"),
    *("tensorflow", "tf2onnx", "torch", "transformers"),
}
"""Modules that only optional parts bring."""
OPTIONAL_PARTS = (
    "drift/evidently/",
    "ml/evaluation/plots.py",
    "ml/networks/camembert/",
    "ml/networks/keras/",
    "pipelines/data/download.py",
    "sync/dvc/",
    "sync/mlflow/",
)
"""The code that imports them, when it is used."""
IMPORT_ALL = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is not installed by default")

BLOCKED = set(sys.argv[1].split())
sys.meta_path.insert(0, Blocked())
for name in sys.argv[2:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not module.name.endswith(("__main__", ".migrations.env")):
            importlib.import_module(module.name)
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_imported_without_the_optional_parts(package: str) -> None:
    command = [sys.executable, "-c", IMPORT_ALL, " ".join(sorted(OF_EXTRAS)), package]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_only_the_optional_parts_import_their_modules_later() -> None:
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for package in PACKAGES
        for path in next(ROOT.glob(f"*/{package}"), next(ROOT.glob(f"services/*/{package}"), ROOT)).rglob("*.py")
        if not any(part in str(path) for part in OPTIONAL_PARTS)
        for name in imports_of(path)
        if name in OF_EXTRAS
    ]
    assert found == []


def test_the_default_dependencies_bring_no_optional_part() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    installed = closure({package["name"]: package for package in lock["package"]})
    assert {"fastapi", "scikit-learn"} <= installed
    assert not installed & {name.replace("_", "-") for name in OF_EXTRAS} | installed & {"mlflow-skinny"}


def imports_of(path: Path) -> Iterator[str]:
    """Yield the first part of each module that a file imports, except for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in typing:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def closure(packages: dict[str, dict[str, Any]]) -> set[str]:
    """Return the names of the packages that the project needs without an extra or a group."""
    seen: set[tuple[str, str]] = set()
    todo = [("rayonnage", "")]
    while todo:
        if (one := todo.pop()) in seen:
            continue
        seen.add(one)
        name, extra = one
        package = packages[name]
        extras = package.get("optional-dependencies", {})
        for dependency in extras.get(extra, []) if extra else package.get("dependencies", []):
            if "sys_platform == 'never'" not in dependency.get("marker", ""):
                todo += [(dependency["name"], found) for found in ["", *dependency.get("extra", [])]]
    return {name for name, _ in seen}
