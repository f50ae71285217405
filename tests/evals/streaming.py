"""A server that streams chat completions, piece by piece, at a pace of its own."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FIRST_S, NEXT_S, PIECES = 0.06, 0.01, 5


class StreamServer:
    """Streams every answer in pieces, the first after FIRST_S, the others NEXT_S apart."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.now = self.most = 0
        self.usage: dict[str, int] | None = {"prompt_tokens": 10, "completion_tokens": 9}
        self.ends = "\n\n"
        self.says: Callable[[int], dict[str, Any]] = lambda n: {
            "choices": [{"delta": {"content": f" {n}"}}]
        }
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(handler) -> None:
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                with lock:
                    self.bodies.append(body)
                    self.now += 1
                    self.most = max(self.most, self.now)
                handler.send_response(200)
                handler.send_header("Content-Type", "text/event-stream")
                handler.send_header("Transfer-Encoding", "chunked")
                handler.end_headers()
                handler.event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
                for n in range(PIECES):
                    time.sleep(NEXT_S if n else FIRST_S)
                    handler.event(self.says(n))
                with lock:
                    self.now -= 1
                handler.event({"choices": [], "usage": self.usage})
                handler.chunk(f"data: [DONE]{self.ends}".encode())
                handler.chunk(b"")

            def event(handler, event: dict[str, Any]) -> None:
                handler.chunk(f": ping{self.ends}data: {json.dumps(event)}{self.ends}".encode())

            def chunk(handler, data: bytes) -> None:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                handler.wfile.flush()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.request_queue_size = 64
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Answers nobody any more."""
        self.http.shutdown()
        self.http.server_close()
