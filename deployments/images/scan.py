"""Search images for what must not be in them: secrets, leftover files, compilers, the user root.

    python deployments/images/scan.py rayonnage/auth:latest rayonnage/predict:latest …

Reads every layer above the base image, since files that a later layer deletes are still in the image. In the layers of
the base, only the names of programs are checked. Exits with 1 if something is found. Needs only the standard library
and the command `docker`.
"""

from __future__ import annotations

import io
import json
import posixpath
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from engine import inspect_base, saved
from sizes import short_name

PACKAGES = "/site-packages/"
SAMPLE = "srv/data/sample/"  # generated, and in git
MOST_BYTES_READ = 4_000_000  # secrets are in text files, which are smaller

ONLY_IN: dict[str, set[str]] = {
    "torch": set(),
    "tensorflow": {"train"},
    "keras": {"train"},
    "dvc": {"train"},
    "mlflow": {"train", "mlflow"},
    "sklearn": {"train", "mlflow"},
    "pandas": {"train", "mlflow"},
    "pyarrow": {"train", "ingest", "mlflow"},
    "evidently": {"train"},
    "pip": set(),
    "clang": set(),
}
"""Python packages that only these images may contain."""

SECRET_NAMES = re.compile(
    r"\.env(\..+)?|\.netrc|\.pgpass|\.pypirc|\.npmrc|\.git-credentials|id_(rsa|ecdsa|ed25519)|.+\.(p12|pfx|jks|key)"
)
SECRET_FOLDERS = {".git", ".secrets", ".certs", ".ssh", ".aws", ".docker"}
LEFTOVER_FOLDERS = {"tests", ".cache", ".pytest_cache", ".mypy_cache", ".ruff_cache", "node_modules"}
WHOLE_PACKAGES = re.compile(r"/site-packages/evidently/")  # its folder `tests` is needed at run time
LEFTOVERS = ("tmp/", "root/", "var/cache/apt/archives/", "var/lib/apt/lists/", "src/", "slim.py")
DATA = re.compile(r".+\.(csv|tsv|parquet|zip|tar|gz|tgz|xz|db|sqlite3?|pkl|joblib|dvc|jpe?g)")
COMPILERS = re.compile(
    r"(.+-)?(gcc|g\+\+|cc|c\+\+|cpp|ld|as|clang|clang\+\+|tcc|nvcc|rustc)(-[\d.]+)?|make|cmake|cargo|uv|uvx"
)
PROGRAM_FOLDERS = {"bin", "sbin", "libexec"}

SECRET_TEXTS = {
    "a private key": ([b"PRIVATE KEY-----"], rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+(?:[A-Za-z0-9+/=]+\s+){2}"),
    "an AWS access key": ([b"AKIA", b"ASIA"], rb"\bA[KS]IA(?![A-Z0-9]{9}EXAMPLE)[A-Z0-9]{16}\b"),
    "a GitHub token": (
        [b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"],
        rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60})",
    ),
    "a PyPI token": ([b"pypi-AgE"], rb"\bpypi-AgE[A-Za-z0-9_-]{60}"),
    "a Hugging Face token": ([b"hf_"], rb"\bhf_[A-Za-z]{34}\b"),
    "a Slack token": ([b"xox"], rb"\bxox[abeprs]-[A-Za-z0-9-]{20}"),
    "a Slack webhook": (
        [b"hooks.slack.com"],
        rb"hooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{20}",
    ),
}
"""Per kind of secret: strings that must occur, which is quick to check, and the pattern."""

OWN_SECRET_TEXTS = {
    "an address with a password": ([b"://"], rb"\b[a-z][a-z0-9+]*://[^\s/:@'\"{]*:[^\s/:@'\"{}<>$]{4,}@[\w.-]"),
}
"""Searched only in our own files and the image's configuration, since the documentation of packages has many."""

SECRET_VARIABLE = re.compile(r"(?i)\w*(PASSWORD|SECRET|TOKEN|CREDENTIAL|API_KEY|ACCESS_KEY|PRIVATE_KEY)\w*=.+")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be in an image, and where it is."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class LayerFindings:
    """What was found in a layer: by checks of any layer, and by checks of layers above the base."""

    of_any: list[Finding]
    of_own: list[Finding]


def main(images: list[str]) -> int:
    """Print what is found in each image; return the exit status."""
    base = inspect_base()["RootFS"]["Layers"]
    status = 0
    for image in images:
        with saved(image) as archive:
            found = list(findings(archive, short_name(image), base))
        for finding in found:
            print(f"{image}: {finding.where}: {finding.what}")
        print(f"{image}: {f'{len(found)} findings' if found else 'nothing found'}")
        status = 1 if found else status
    return status


def findings(archive: IO[bytes], name: str, base: list[str]) -> Iterator[Finding]:
    """Yield what must not be in the image `name`, from the stream of `docker save` and the layers of the base.

    The stream is read once and not stored, since images have gigabytes. The manifest comes last, so each layer is
    checked before it is known whether it belongs to the base.
    """
    documents: dict[str, Any] = {}
    layers: dict[str, LayerFindings] = {}
    same: dict[str, str] = {}  # older engines save a layer once, and links to it
    with tarfile.open(fileobj=archive, mode="r|") as image:
        for member in image:
            if member.issym():
                same[member.name] = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
            elif member.isfile():
                content = _opened(image, member)
                if content.peek(1)[:1] in (b"{", b"["):
                    documents[member.name] = json.load(content)
                elif (
                    member.size >= tarfile.BLOCKSIZE
                ):  # smaller files, such as VERSION of older engines, are not layers
                    is_base = f"sha256:{posixpath.basename(member.name)}" in base  # the name of a layer since engine 25
                    layers[member.name] = _of_layer(content, None if is_base else name)
    (manifest,) = documents["manifest.json"]
    configuration = documents[manifest["Config"]]
    yield from _of_configuration(configuration)
    digests = configuration["rootfs"]["diff_ids"]
    own = len(base) if digests[: len(base)] == base else 0
    if not own:
        yield Finding("layers", "are not based on the base image, so all of them are checked")
    for number, layer in enumerate(manifest["Layers"]):
        found = layers[same.get(layer, layer)]
        yield from found.of_any
        if number >= own:
            yield from found.of_own


def _of_layer(content: IO[bytes], name: str | None) -> LayerFindings:
    """Return what is found in a layer. Without the name of an image it is a layer of the base, with fewer checks."""
    found = LayerFindings([], [])
    with tarfile.open(fileobj=content, mode="r|*") as files:
        for member in files:
            found.of_any.extend(_of_any_file(member))
            if name is not None:
                found.of_own.extend(_of_own_file(member, _content(files, member), name))
    return found


def _of_configuration(configuration: dict[str, Any]) -> Iterator[Finding]:
    config = configuration["config"]
    user = (config.get("User") or "root").partition(":")[0]
    if not user.isdecimal() or int(user) == 0:
        yield Finding("USER", f"is {user}; it must be a number other than 0, which an orchestrator can check")
    for variable in config.get("Env") or []:
        if SECRET_VARIABLE.fullmatch(variable):
            yield Finding("ENV", f"{variable.partition('=')[0]} contains a secret")
    steps = [step.get("created_by", "") for step in configuration.get("history", [])]
    for text in [*(config.get("Env") or []), *steps]:
        yield from secrets_in("configuration", text.encode(), SECRET_TEXTS | OWN_SECRET_TEXTS)


def _of_any_file(member: tarfile.TarInfo) -> Iterator[Finding]:
    path = PurePosixPath(member.name)
    is_program = not member.isdir() and path.parent.name in PROGRAM_FOLDERS
    if is_program and COMPILERS.fullmatch(path.name):
        yield Finding(str(path), "is a build tool, which no image needs")


def _of_own_file(member: tarfile.TarInfo, content: bytes, name: str) -> Iterator[Finding]:
    path = PurePosixPath(member.name)
    text = str(path)
    if member.isfile() and member.mode & 0o6000:
        yield Finding(text, "runs as another user (setuid or setgid)")
    if member.isfile() and member.mode & 0o002:
        yield Finding(text, "is world-writable")
    if member.isdir():
        yield from _of_folder(path, name)
        return
    if not member.isfile():
        return
    if SECRET_NAMES.fullmatch(path.name):
        yield Finding(text, "has the name of a secret file")
    if text.startswith(LEFTOVERS):
        yield Finding(text, "was left over from the build")
    ours = PACKAGES not in f"/{text}" or "/rayonnage_" in text
    if ours and DATA.fullmatch(path.name) and not text.startswith(SAMPLE):
        yield Finding(text, "is data")
    yield from secrets_in(text, content, SECRET_TEXTS | (OWN_SECRET_TEXTS if ours else {}))


def _of_folder(path: PurePosixPath, name: str) -> Iterator[Finding]:
    if path.name in SECRET_FOLDERS:
        yield Finding(str(path), "contains secrets or history")
    if path.name in LEFTOVER_FOLDERS and not WHOLE_PACKAGES.search(str(path)):
        yield Finding(str(path), "is not needed at run time")
    if path.parent.name == "site-packages" and name not in ONLY_IN.get(path.name, {name}):
        yield Finding(str(path), f"is only for {', '.join(sorted(ONLY_IN[path.name])) or 'no image'}")


def secrets_in(where: str, content: bytes, patterns: dict[str, tuple[list[bytes], bytes]]) -> Iterator[Finding]:
    """Yield the kinds of secret in a text, by tables such as SECRET_TEXTS."""
    for what, (words, pattern) in patterns.items():
        if any(word in content for word in words) and re.search(pattern, content):
            yield Finding(where, f"contains {what}")


def _content(files: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if not member.isfile() or member.size > MOST_BYTES_READ:
        return b""
    return _opened(files, member).read()


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> io.BufferedReader:
    found = archive.extractfile(member)
    assert isinstance(found, io.BufferedReader), f"{member.name} is no file"
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
