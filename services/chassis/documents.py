"""Files that a service shows as they are: read once when it starts, answered in the connection's own greenthread.

Each has a strong ETag, so a browser fetches it once. A page may load what its own host serves and nothing else: no
other host, no script or style that stands in the page itself.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from werkzeug.routing import Rule
from werkzeug.wrappers import Response

from services.chassis.http import PUBLIC, answered
from services.chassis.http_app import Request
from services.chassis.http_server import HttpServer
from services.chassis.provider import Provider
from services.chassis.tags import entity_tag

KINDS: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
}
PAGE_POLICY: Final = "; ".join(
    [
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'"),
        *("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    ]
)


class Documents(Provider[None]):
    """Shows files of a folder: ``Documents(folder, {"/docs": "docs.html"})``. Injects nothing."""

    server = HttpServer()

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder = folder
        self.files = files

    def setup(self) -> None:
        """Read every file and register its route; one that is not there refuses to start."""
        for path, name in self.files.items():
            self.server.register_provider(Document(path, self.folder / name))

    def get_dependency(self, worker_ctx: object) -> None:
        """Nothing: documents are for those outside."""


class Document:
    """One route."""

    def __init__(self, path: str, file: Path) -> None:
        self.path = path
        self.content = file.read_bytes()
        self.headers = {"Content-Type": KINDS[file.suffix], "Cache-Control": PUBLIC, "ETag": entity_tag(self.content)}
        if file.suffix == ".html":
            self.headers["Content-Security-Policy"] = PAGE_POLICY

    def get_url_rule(self) -> Rule:
        """The route."""
        return Rule(self.path, methods=["GET"])

    def handle_request(self, request: Request) -> Response:
        """The file, or 304 for who has it."""
        return answered(request, Response(self.content, 200, self.headers))
