"""Files that are served over HTTP by this process, and archives for it to serve."""

import functools
import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sklearn_iis.datasets._download import RemoteFile


class FileServer:
    """Serves bytes by name on 127.0.0.1, in a thread, until it is closed.

    `files` maps names to bytes, `broken` names to how many of the next answers end
    after half of the bytes, `refused` to the statuses of the next answers; `requests`
    lists the names that were asked for.
    """

    def __init__(self):
        self.files, self.broken, self.refused, self.requests = {}, {}, {}, []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        # Looks that often, in seconds, whether it is closed.
        serve = functools.partial(self._server.serve_forever, poll_interval=0.01)
        self._thread = threading.Thread(target=serve)
        self._thread.start()

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server._answer(self, self.path.lstrip("/"))

            def log_message(self, *arguments):
                pass

        return Handler

    def _answer(self, handler, name):
        self.requests.append(name)
        if name not in self.files:
            handler.send_error(404)
            return
        if self.refused.get(name):
            handler.send_error(self.refused[name].pop(0))
            return
        content = self.files[name]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if self.broken.get(name, 0):
            self.broken[name] -= 1
            content = content[: len(content) // 2]
        handler.wfile.write(content)

    def add(self, name, content):
        """Serve a file; return it as what is to be downloaded."""
        self.files[name] = content
        url = f"http://127.0.0.1:{self._server.server_port}/{name}"
        return RemoteFile(url, hashlib.md5(content).hexdigest())

    def close(self):
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


def make_tar(*members):
    """The bytes of a .tar.gz of files, given as (name, bytes), and of members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                name, content = member
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def make_member(name, kind, target=""):
    """A member of an archive without content; `kind` as `tarfile.SYMTYPE`."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member
