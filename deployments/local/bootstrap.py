"""Create `.venv` from the lock and run a command in it; needs only Python 3.11 to 3.13.

    python3 deployments/local/bootstrap.py [--dev | --no-sync | --extra NAME] [COMMAND [ARGUMENT ...]]

Finds uv, or installs it with pip into `.uv`, and lets it bring `.venv` up to date: `--dev` adds the development tools,
`--extra` an optional part such as `mlflow`, and nothing is removed. Then this process is replaced by
`.venv/bin/COMMAND`. `--no-sync` uses `.venv` as it is.
Uses only the standard library and no syntax newer than Python 3.7, so that an older interpreter prints a clear message.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST, NEWEST = (3, 11), (3, 13)
OLDEST_UV = (0, 8)  # can read this revision of the lock, and supports dependency groups
UV_REQUIREMENT = "uv>=0.9,<1"
INTERPRETERS = ("python3.13", "python3.12", "python3.11", "python3", "python")
SYSTEM_PYTHON = "/usr/bin/python3"  # the one for which a distribution packages pip
OF_ANOTHER_PYTHON = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON")


class Unusable(Exception):
    """Something is missing on this machine; the message says what to do."""


def main(arguments: list[str]) -> int:
    """Prepare `.venv` and run the command instead of this process; return the exit status if that is not possible."""
    option = arguments.pop(0) if arguments[:1] in (["--dev"], ["--no-sync"], ["--extra"]) else ""
    extra = arguments.pop(0) if option == "--extra" and arguments else ""
    os.chdir(ROOT)
    for name in OF_ANOTHER_PYTHON:
        os.environ.pop(name, None)
    venv = ROOT / ".venv"
    try:
        if option != "--no-sync":
            synchronise(venv, development=option == "--dev", extra=extra)
        elif not works(venv / "bin" / "python"):
            raise Unusable("nothing is installed yet; `make run` installs and starts the platform.")
    except Unusable as err:
        print(f"Rayonnage: {err}", file=sys.stderr)
        return 1
    if not arguments:
        return 0
    os.environ["PATH"] = f"{venv / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    sys.stdout.flush()
    os.execv(  # noqa: S606 - becomes the command, so that make's signals reach it
        venv / "bin" / arguments[0], arguments
    )


def synchronise(venv: Path, *, development: bool, extra: str = "") -> None:
    """Install what `uv.lock` names into `.venv`; an incomplete `.venv` of an interrupted installation is replaced."""
    with only_one(ROOT / ".run" / "bootstrap.lock"):
        half_made = ROOT / ".run" / "installing"
        if venv.exists() and (half_made.exists() or not works(venv / "bin" / "python")):
            print("Removing .venv, which is incomplete or belongs to another Python.", flush=True)
            shutil.rmtree(venv)
        python = str(venv / "bin" / "python") if venv.exists() else suitable_python()
        uv = find_uv(python)
        environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
        if not venv.exists():
            print("Installing into .venv (the first time, most of a minute or two is downloads) …", flush=True)
            call([*uv, "venv", "--quiet", "--python", python, str(venv)], environment)
        half_made.touch()
        chosen = ["--group", "dev"] if development else ["--extra", extra] if extra else []
        command = [*uv, "sync", "--frozen", "--inexact", "--quiet", *chosen]
        # Six services start at once: compiling all packages first, in parallel, spares each of them doing it alone.
        compiled = venv / "-".join([".compiled", *chosen[1:]])  # what an extra brings comes later than the rest
        lock = hashlib.sha256((ROOT / "uv.lock").read_bytes()).hexdigest()
        if not compiled.exists() or compiled.read_text() != lock:
            command.append("--compile-bytecode")
        try:
            call(command, environment)
        except Unusable:
            half_made.unlink()  # uv changes nothing where it cannot get everything; only a killed one leaves a mess
            raise
        half_made.unlink()
        compiled.write_text(lock)


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Wait until no other bootstrap changes `.venv`."""
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def works(python: Path | str) -> bool:
    """Return whether this interpreter runs and has a version that the project supports."""
    found = version_of(python)
    return found is not None and OLDEST <= found <= NEWEST


def version_of(python: Path | str) -> tuple[int, int] | None:
    """Return an interpreter's version, or None if it does not start, such as a pyenv shim without a version."""
    try:
        answer = subprocess.run(
            [str(python), "-c", "import sys; print(*sys.version_info[:2])"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=True,
        )
        major, minor = answer.stdout.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def suitable_python() -> str:
    """Return the interpreter for `.venv`: this one, or else the newest on the PATH. Raises Unusable."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    for name in INTERPRETERS:
        path = shutil.which(name)
        if path and works(path):
            return path
    raise Unusable(
        f"Python {dotted(OLDEST)} to {dotted(NEWEST)} is needed, but it is not on the PATH "
        f"(this one is {dotted(sys.version_info[:2])}). Install one, for example `apt-get install python3`, "
        f"or name yours: make PYTHON=/path/to/python{dotted(NEWEST)} run"
    )


def dotted(version: tuple[int, ...]) -> str:
    """Return a version with dots, such as 3.13."""
    return ".".join(map(str, version))


def find_uv(python: str) -> list[str]:
    """Return the command of a uv that is new enough: from the PATH, or else from `.uv`, installed if necessary."""
    for candidate in (shutil.which("uv"), *own_uv()):
        if candidate and (uv_version(candidate) or (0,)) >= OLDEST_UV:
            return [candidate]
    print("Installing uv into .uv …", flush=True)
    install_uv(python)
    for candidate in own_uv():
        if uv_version(candidate):
            return [candidate]
    raise Unusable(
        "uv could not be installed with pip (see above). Install it by hand, https://docs.astral.sh/uv, "
        "or give this Python pip, for example `apt-get install python3-pip`."
    )


def own_uv() -> list[str]:
    """Return the two paths where `install_uv` may have put uv."""
    return [str(ROOT / ".uv" / "bin" / "uv"), str(ROOT / ".uv" / "target" / "bin" / "uv")]


def uv_version(uv: str) -> tuple[int, ...] | None:
    """Return the version of a uv, or None if it does not run."""
    try:
        answer = subprocess.run(
            [uv, "--version"], check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(rb"uv (\d+)\.(\d+)\.(\d+)", answer.stdout)
    return tuple(map(int, found.groups())) if answer.returncode == 0 and found else None


def install_uv(python: str) -> None:
    """Install uv into an environment of its own, or, if Python has no venv, into a folder with pip."""
    folder = ROOT / ".uv"
    shutil.rmtree(folder, ignore_errors=True)
    if quietly([python, "-m", "venv", str(folder)]) and quietly([f"{folder}/bin/pip", "install", "-q", UV_REQUIREMENT]):
        return
    shutil.rmtree(folder, ignore_errors=True)
    pythons = [python, *filter(None, map(shutil.which, INTERPRETERS)), SYSTEM_PYTHON]
    target = ["install", "-q", "--target", str(folder / "target"), UV_REQUIREMENT]
    for pip in [[one, "-m", "pip"] for one in dict.fromkeys(pythons)] + [["pip3"], ["pip"]]:
        if quietly([*pip, *target]):
            return


def quietly(command: list[str]) -> bool:
    """Run a step that has an alternative; return whether it worked, and print the reason if it did not."""
    try:
        answer = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as err:
        print(f"  {command[0]}: {err.strerror}", file=sys.stderr)
        return False
    if answer.returncode != 0:
        last = answer.stdout.decode(errors="replace").strip().splitlines()[-1:]
        print(f"  {' '.join(command[:4])} …: {''.join(last)[:300]}", file=sys.stderr)
    return answer.returncode == 0


def call(command: list[str], environment: dict[str, str]) -> None:
    """Run a step that must succeed, and show its output. Raises Unusable."""
    status = subprocess.run(command, check=False, env=environment).returncode
    if status != 0:
        raise Unusable(
            f"`{' '.join(command)}` failed with status {status}, as said above. "
            "A network that came back is enough for the next try to work."
        )


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
