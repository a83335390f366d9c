"""Create `.venv` from the lock and run a command in it; needs only Python 3.11 to 3.13.

    python3 deployments/local/bootstrap.py [--dev | --no-sync | --extra NAME] [COMMAND [ARGUMENT ...]]

Finds uv, or installs it with pip into `.uv`, and lets it bring `.venv` up to date: `--dev` adds the development tools,
`--extra` an optional part such as `mlflow`, and nothing is removed. Parts that a setting asks for are added too. Then
this process is replaced by `.venv/bin/COMMAND`. `--no-sync` uses `.venv` as it is.
Uses only the standard library and no syntax newer than Python 3.7, so that an older interpreter prints a clear message.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST, NEWEST = (3, 11), (3, 13)
OLDEST_UV = (0, 8)  # can read this revision of the lock, and supports dependency groups
UV_REQUIREMENT = "uv>=0.9,<1"
DONE = re.compile(rb"(?:Installed|Uninstalled|Audited|Checked) ")  # begins what uv says before it lists all packages
INTERPRETERS = ("python3.13", "python3.12", "python3.11", "python3", "python")
SYSTEM_PYTHON = "/usr/bin/python3"  # the one for which a distribution packages pip
ASKED_FOR_BY = {"DVC_REMOTE_URL": "dvc", "MLFLOW_TRACKING_URI": "mlflow-client"}
"""Settings, in the environment or `.env`, and the extra that a value of theirs needs."""
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
            extras = sorted({extra, *asked_for()} - {""})
            synchronise(venv, development=option == "--dev", extras=extras)
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


def asked_for() -> list[str]:
    """Return the extras that settings need, and DVC where git has pointers to models or datasets."""
    settings = dict(os.environ)
    with contextlib.suppress(OSError):
        for line in (ROOT / ".env").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            settings.setdefault(name.strip(), value.strip(" '\""))
    pointers = [*ROOT.glob("models/*.dvc"), *ROOT.glob("data/datasets/*.dvc")]
    return [extra for name, extra in ASKED_FOR_BY.items() if settings.get(name)] + (["dvc"] if pointers else [])


def synchronise(venv: Path, *, development: bool, extras: Sequence[str] = ()) -> None:
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
            print("Installing the libraries into .venv …", flush=True)
            call([*uv, "venv", "--quiet", "--python", python, str(venv)], environment)
        half_made.touch()
        chosen = ["--group", "dev"] if development else []
        for extra in extras:
            chosen += ["--extra", extra]
        # Python compiles what is imported; compiling all packages here took both cores half a minute.
        try:
            install([*uv, "sync", "--frozen", "--inexact", *chosen], environment)
        except Unusable:
            half_made.unlink()  # uv changes nothing where it cannot get everything; only a killed one leaves a mess
            raise
        half_made.unlink()


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
    """Install uv into a folder with pip, or, if this Python has no pip, into an environment, or with another pip."""
    folder = ROOT / ".uv"
    shutil.rmtree(folder, ignore_errors=True)
    target = ["install", "-q", "--target", str(folder / "target"), UV_REQUIREMENT]
    if quietly([python, "-m", "pip", *target]):  # takes half as long as an environment
        return
    shutil.rmtree(folder, ignore_errors=True)
    if quietly([python, "-m", "venv", str(folder)]) and quietly([f"{folder}/bin/pip", "install", "-q", UV_REQUIREMENT]):
        return
    shutil.rmtree(folder, ignore_errors=True)
    pythons = [*filter(None, map(shutil.which, INTERPRETERS)), SYSTEM_PYTHON]
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


def install(command: list[str], environment: dict[str, str]) -> None:
    """Run `uv sync` with its progress bars, if this is a terminal, and say what was installed. Raises Unusable."""
    started = time.monotonic()
    terminal = sys.stderr.isatty()
    reading, writing = os.openpty() if terminal else os.pipe()
    with subprocess.Popen(command, env=environment, stdout=writing, stderr=writing) as process:
        os.close(writing)
        output = b""
        while chunk := read(reading):
            if terminal and not DONE.search(output):
                os.write(2, DONE.split(chunk)[0])
            output += chunk
        os.close(reading)
    if terminal:
        os.write(2, b"\x1b[0m\r\x1b[2K")
    if process.returncode != 0:
        if not terminal:
            sys.stderr.write(output.decode(errors="replace"))
        raise failed(command, process.returncode)
    found = re.search(rb"Installed (?:\x1b\[\d*m)*(\d+) package", output)
    if found:
        count, seconds = int(found.group(1)), time.monotonic() - started
        print(f"Installed {count} package{'s' if count > 1 else ''} in {seconds:.0f} s.", flush=True)


def read(descriptor: int) -> bytes:
    """Return the next bytes; none at the end, which a terminal of a process that has ended reports as an error."""
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:
        return b""


def call(command: list[str], environment: dict[str, str]) -> None:
    """Run a step that must succeed, and show its output. Raises Unusable."""
    status = subprocess.run(command, check=False, env=environment).returncode
    if status != 0:
        raise failed(command, status)


def failed(command: list[str], status: int) -> Unusable:
    """Return what to raise for a command that failed after it had said why."""
    return Unusable(
        f"`{' '.join(command)}` failed with status {status}, as said above. "
        "A network that came back is enough for the next try to work."
    )


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
