"""Takes out of an installed environment what nothing imports at run time, and compiles the rest.

    python slim.py /opt/rayonnage

Runs while an image is built. A container's file system is read-only: what is not compiled here would be compiled anew
by every process that starts. Only the standard library.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

LEFT_OUT = {
    "**/tests": "the packages' own tests; no package imports them but to run them",
    "ecdsa/test_*.py": "the same, with private keys",
    "onnx/backend/test": "the same, with 15 MB of models",
    "*/include": "headers for compilers; 290 MB of them are TensorFlow's",
    "numpy/_core/include": "the same",
    "**/*.a": "libraries to link with",
    "clang": "TensorFlow asks for it and never imports it; 61 MB",
    "pyarrow/*flight*": "Arrow's network protocol",
    "examples": "tf2onnx's, and its scripts for developers",
    "tools": "the same",
}
"""Patterns below `site-packages`, and what they are."""

KEPT = ("evidently",)
"""Packages that stay whole: what is called `tests` in Evidently is part of it."""

OF_NO_USE = (".gitignore", ".lock", "CACHEDIR.TAG", "bin/activate*", "bin/*.bat", "evidently", "*/jupyter")
"""Patterns below the environment: what the installer keeps for itself, for shells, for notebooks and other servers."""


def main(arguments: list[str]) -> int:
    """Work on the environment that is named; return the exit status."""
    environment = Path(arguments[0])
    remove(environment, OF_NO_USE)
    for packages in environment.glob("lib/python3*/site-packages"):
        freed = remove(packages, LEFT_OUT, {packages / name for name in KEPT})
        print(f"{packages}: {freed / 1e6:.0f} MB left out")
        compile_all(packages)
    return 0


def remove(folder: Path, patterns: Iterable[str], kept: Collection[Path] = ()) -> int:
    """Remove what matches one of the patterns and is not in a folder of `kept`; return how many bytes that freed."""
    freed = 0
    for pattern in patterns:
        for path in [one for one in folder.glob(pattern) if not any(parent in kept for parent in one.parents)]:
            if path.is_dir():
                freed += sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
                shutil.rmtree(path)
            elif path.exists():
                freed += path.lstat().st_size
                path.unlink()
    return freed


def compile_all(packages: Path) -> None:
    """Compile every module; what is not valid Python of this version, as templates are, is left as it is."""
    # By hash and unchecked: nothing looks at a source again, and the same sources give the same files.
    compileall.compile_dir(
        packages, quiet=2, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
