"""`rayonnage dashboard` over the real processes, and in a terminal of its own."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time

from tests.e2e.command_line import RAYONNAGE, rayonnage
from tests.e2e.platform import Platform, environment_without_settings
from tests.processes import killed_at_end
from tests.waiting import PATIENCE_S

HEARS_CTRL_C = (  # which a test run in the background ignores, and hands down
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
TERMINAL = {"COLUMNS": "150", "LINES": "50", "TERM": "xterm-256color"}
SHOW_CURSOR, LEAVE_SCREEN = b"\x1b[?25h", b"\x1b[?1049l"


def test_one_picture_shows_the_platform_as_it_is(platform: Platform) -> None:
    with platform.client(platform.admin_token()) as caller:
        version = caller.get("/info").json()["version"]
        assert caller.post("/predict", json={"designation": "Pompe de piscine"}).status_code == 200

    done = rayonnage(platform.home, "dashboard", "--once", variables=TERMINAL)

    assert (done.returncode, done.stderr) == (0, "")
    assert "all processes are ready" in done.stdout
    assert version in done.stdout
    for name in ("auth", "ingest", "train", "train-worker", "predict", "gateway"):
        line = next(line for line in done.stdout.splitlines() if f" {name} " in line)
        assert " yes " in line and str(platform.pid(name)) in line and " MB" in line, line
    assert "written" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_terminal_is_drawn_live_until_ctrl_c(platform: Platform) -> None:
    leader, target = pty.openpty()
    drawing = subprocess.Popen(
        [sys.executable, "-c", HEARS_CTRL_C, *RAYONNAGE, "dashboard", "--every", "0.5"],
        cwd=platform.home,
        env=environment_without_settings() | TERMINAL,
        stdin=target,
        stdout=target,
        stderr=target,
        start_new_session=True,
    )
    os.close(target)
    seen = b""
    with killed_at_end(drawing) as process, os.fdopen(leader, "rb"):
        deadline = time.monotonic() + PATIENCE_S
        while seen.count(b"services") < 3 and time.monotonic() < deadline:
            if select.select([leader], [], [], 1)[0]:
                seen += os.read(leader, 65_536)
        assert seen.count(b"services") >= 3, seen[-2000:]
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the other end is closed
            while time.monotonic() < deadline:
                if select.select([leader], [], [], 0.2)[0]:
                    seen += os.read(leader, 65_536)
        assert process.wait(PATIENCE_S) == 0
    assert b"Traceback" not in seen
    assert SHOW_CURSOR in seen and LEAVE_SCREEN in seen, "the terminal is as it was"
