"""Remove from an installed environment what nothing imports at run time, and compile the rest.

    python slim.py /opt/rayonnage

Runs while an image is built. The file system of a container is read-only, so modules that are not compiled here would
be compiled again by every process. Uses only the standard library.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

LEFT_OUT = {
    "**/tests": "the packages' own tests",
    "ecdsa/test_*.py": "the same, with private keys",
    "onnx/backend/test": "the same, with models of 15 MB",
    "*/include": "headers for compilers; those of TensorFlow take 290 MB",
    "numpy/_core/include": "the same",
    "**/*.a": "static libraries",
    "clang": "a dependency that TensorFlow never imports; 61 MB",
    "pyarrow/*flight*": "Arrow's network protocol",
    "examples": "examples and developer scripts of tf2onnx",
    "tools": "the same",
}
"""Patterns below `site-packages`, and what they match."""

KEPT = ("evidently",)
"""Packages that stay complete: Evidently needs its folder `tests` at run time."""

OF_NO_USE = (".gitignore", ".lock", "CACHEDIR.TAG", "bin/activate*", "bin/*.bat", "evidently", "*/jupyter")
"""Patterns below the environment: files for the installer, for shells, for notebooks and for other servers."""


def main(arguments: list[str]) -> int:
    """Slim the environment that is given; return the exit status."""
    environment = Path(arguments[0])
    remove(environment, OF_NO_USE)
    for packages in environment.glob("lib/python3*/site-packages"):
        freed = remove(packages, LEFT_OUT, {packages / name for name in KEPT})
        print(f"{packages}: {freed / 1e6:.0f} MB removed")
        compile_all(packages)
    return 0


def remove(folder: Path, patterns: Iterable[str], kept: Collection[Path] = ()) -> int:
    """Remove what matches one of the patterns and is not in a folder of `kept`; return the number of bytes freed."""
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
    """Compile every module; files that are not valid Python of this version, such as templates, are skipped."""
    # With unchecked hashes, sources are not read again at run time, and the same sources give the same files.
    compileall.compile_dir(
        packages, quiet=2, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
