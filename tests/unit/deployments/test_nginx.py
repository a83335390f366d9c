"""nginx holds nothing large: its `/tmp` is memory, which counts against the container's limit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CONFIGURATION = re.sub(r"(?m)\s+#.*$", "", (ROOT / "deployments" / "nginx" / "nginx.conf").read_text(encoding="utf-8"))
LOCATIONS = dict(re.findall(r"location ([^{]+?) \{([^}]*proxy_pass [^}]*)\}", CONFIGURATION))


def kilobytes(size: str) -> int:
    return int(size[:-1]) * {"k": 1, "m": 1024}[size[-1]]


def setting(name: str, text: str = CONFIGURATION) -> str:
    found = re.search(rf"(?m)^\s*{name} ([^;]+);", text)
    assert found is not None, f"{name} is not set"
    return found[1]


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_body_fits_into_its_buffer_or_is_passed_on_as_it_arrives(location: str) -> None:
    largest = re.search(r"client_max_body_size (\w+);", LOCATIONS[location])
    size = largest[1] if largest else setting("client_max_body_size")
    fits = kilobytes(size) <= kilobytes(setting("client_body_buffer_size"))
    assert fits or "proxy_request_buffering off;" in LOCATIONS[location]


def test_responses_are_not_kept_in_files() -> None:
    assert setting("proxy_max_temp_file_size") == "0"


def test_one_address_cannot_take_all_memory() -> None:
    count, size = setting("proxy_buffers").split()
    each = kilobytes(setting("client_body_buffer_size")) + int(count) * kilobytes(size)
    of_one_address = int(setting("limit_conn addresses")) * each
    nginx = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["nginx"]
    (scratch,) = nginx["tmpfs"]
    scratch_size = re.search(r"size=(\w+)", scratch)
    assert scratch_size is not None
    assert of_one_address + kilobytes(scratch_size[1]) < kilobytes(nginx["mem_limit"])
