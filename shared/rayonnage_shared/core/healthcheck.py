"""Check whether a process is ready; used by the images' health checks and by the supervisor.

    python -m rayonnage_shared.core.healthcheck NAME     a process of the process list, or a URL

Every container runs this every few seconds, so it imports only the standard library and what the process list needs.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

from rayonnage_shared.core.errors import InvalidSetting
from rayonnage_shared.core.processes import process

_TIMEOUT_S = 1.5
_PATIENT_TIMEOUT_S = 4.0  # an image's health check has five seconds; the gateway waits three for a service


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Return 0 if the named process or URL answers 200, else print why not and return 1."""
    (target,) = arguments
    try:
        url = target if "://" in target else _probe_url(target, environment)
        trouble = probe_health(url, timeout_s=_PATIENT_TIMEOUT_S)
    except InvalidSetting as err:
        trouble = err.detail
    if trouble is not None:
        sys.stderr.write(f"{target}: {trouble}\n")  # `docker inspect` shows it
    return 0 if trouble is None else 1


def probe_health(url: str, *, timeout_s: float = _TIMEOUT_S) -> str | None:
    """Return None if the probe answers 200, else the reason in words."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        body = answer.read(10_000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as err:
        return f"no answer yet ({type(err).__name__})"
    finally:
        connection.close()
    return None if answer.status == 200 else f"answers {answer.status}: {_detail(body)}"


def _probe_url(name: str, environment: Mapping[str, str]) -> str:
    url = process(name).probe_url({setting.upper(): value for setting, value in environment.items()})
    assert url is not None, f"{name} has no port to ask"
    return url


def _detail(body: str) -> str:
    import json

    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(body)["detail"])
    return body[:200]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
