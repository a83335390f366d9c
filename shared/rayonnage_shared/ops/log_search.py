"""Search the log files of all services, including rotated ones, for one request."""

from __future__ import annotations

import io
import json
import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_LOG_FILE = re.compile(r".+\.log(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Found:
    """One log event."""

    event: dict[str, Any]

    @property
    def timestamp(self) -> str:
        """ISO 8601 timestamp in UTC, which sorts by time."""
        return str(self.event.get("timestamp", ""))


def log_files(folder: Path) -> list[Path]:
    """Return the log files of a folder: `predict.log` and its rotated files `predict.log.1`, …"""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and _LOG_FILE.fullmatch(path.name))


def find_request(files: Iterable[Path], piped: Iterable[bytes], request_id: str) -> list[Found]:
    """Return a request's events from files and lines, ordered by time.

    Events of a job that the request queued are included; they carry the job's id. Searching 100 MB takes a second.
    """
    files = list(files)
    lines = [line for line in piped if request_id.encode() in line or b'"job_id"' in line]
    found = _with(files, lines, "request_id", request_id)
    jobs = {str(one.event["job_id"]) for one in found if one.event.get("event") == "job.queued"}
    seen = {json.dumps(one.event, sort_keys=True) for one in found}
    for job_id in sorted(jobs):
        more = _with(files, lines, "job_id", job_id)
        found += [one for one in more if json.dumps(one.event, sort_keys=True) not in seen]
    return sorted(found, key=lambda one: one.timestamp)


def _with(files: list[Path], lines: list[bytes], field: str, value: str) -> list[Found]:
    needle = value.encode()
    found = [line for path in files for line in _lines_with(path, needle)]
    found += [line for line in lines if needle in line]
    events = (parse_event(line) for line in found)
    return [Found(event) for event in events if event is not None and event.get(field) == value]


def _lines_with(path: Path, needle: bytes) -> Iterator[bytes]:
    """Yield the lines that contain some bytes; the file may grow or be rotated meanwhile."""
    with path.open("rb") as file:
        if file.seek(0, io.SEEK_END) == 0:
            return
        with _mapped(file) as content:
            at = content.find(needle)
            while at >= 0:
                begin = content.rfind(b"\n", 0, at) + 1
                end = content.find(b"\n", at)
                end = len(content) if end < 0 else end
                yield content[begin:end]
                at = content.find(needle, end)


def _mapped(file: BinaryIO) -> mmap.mmap:
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def parse_event(line: bytes) -> dict[str, Any] | None:
    """Return the event of a JSON line, after whatever `docker compose logs` puts before it; None for other lines."""
    _before, brace, rest = line.partition(b"{")
    try:
        event = json.loads(brace + rest)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
