"""A local receiver of Slack's incoming webhooks: it keeps what comes and refuses what Slack would refuse."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.http_server import serving

SECRET_PATH = "/services/T0/B0/secret"


@dataclass(frozen=True)
class Message:
    """One message: a title, a text, and fields by title."""

    title: str
    title_link: str
    text: str
    color: str
    fields: dict[str, str]
    actions: dict[str, str]
    raw: dict[str, Any]
    at: float
    """`time.monotonic` when it came."""

    @property
    def resolved(self) -> bool:
        return self.color == "good"


@dataclass
class Slack:
    """What was received, in order, and what was wrong with any of it."""

    url: str = ""
    refuses: bool = False
    """Whether Slack takes nothing now, as when the webhook was revoked."""
    messages: list[Message] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def about(self, word: str, *, resolved: bool = False) -> list[Message]:
        """Return the messages with `word` in their title or text that fire, or are resolved."""
        return [one for one in list(self.messages) if word in one.title + one.text and one.resolved == resolved]

    def take(self, payload: dict[str, Any]) -> str | None:
        """Keep a message, or return why Slack would not take it."""
        attachments = payload.get("attachments")
        if not isinstance(attachments, list) or len(attachments) != 1:
            return "no_attachments"
        (one,) = attachments
        if not one.get("title") or not one.get("text"):
            return "no_text"
        if len(one["text"]) > 3000 or len(one["title"]) > 150:
            return "msg_too_long"
        self.messages.append(
            Message(
                title=one["title"],
                title_link=one.get("title_link", ""),
                text=one["text"],
                color=one.get("color", ""),
                fields={each["title"]: each["value"] for each in one.get("fields") or []},
                actions={each["text"]: each.get("url", "") for each in one.get("actions") or []},
                raw=payload,
                at=time.monotonic(),
            )
        )
        return None


@contextmanager
def slack_receiver(address: str = "127.0.0.1") -> Iterator[Slack]:
    """Yield a receiver that listens until the block ends."""
    slack = Slack()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known = self.path == SECRET_PATH and not slack.refuses
            fault = slack.take(json.loads(body)) if known else "no_team"
            if fault is not None and not slack.refuses:
                slack.faults.append(f"{fault}: {body.decode(errors='replace')}")
            self.send_response(200 if fault is None else 400)
            self.end_headers()
            self.wfile.write((fault or "ok").encode())

    with serving(Receiver, address) as url:
        slack.url = url + SECRET_PATH
        yield slack
