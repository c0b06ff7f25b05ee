"""A server that speaks SGLang's routes, with a script instead of a model: for commands in processes of their own.

Owns a thread and a port on the loopback interface. Its cache is the scripted engine's radix tree, so token counts are
those of a real one. `hold` keeps generations waiting, to catch a run in the middle.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from runtime.engine.radix import RadixTree


class ScriptedServer:
    """`policy(prompt ids) -> sampled ids` behind HTTP. `served` counts generations."""

    def __init__(self, policy: Callable[[list[int]], Sequence[int]], model: str) -> None:
        self.policy, self.model = policy, model
        self.tree = RadixTree(1_000_000, 1)
        self.lock = threading.Lock()
        self.served = 0
        self.hold_after: int | None = None
        self.released = threading.Event()
        self.held = threading.Event()
        self.url = ""

    def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        """One `/generate`."""
        if self.hold_after is not None and self.served >= self.hold_after:
            self.held.set()
            self.released.wait(60)
        ids = body["input_ids"]
        limit = body["sampling_params"]["max_new_tokens"]
        with self.lock:
            sampled = list(self.policy(ids))[:limit] if limit else []
            lease = self.tree.lock(ids, len(sampled))
            assert lease is not None
            self.tree.unlock(lease)
            self.tree.insert([*ids, *sampled][:-1] if sampled else ids, None)
            self.served += 1
        return {
            "output_ids": sampled,
            "meta_info": {
                "finish_reason": {"type": "stop"},
                "prompt_tokens": len(ids),
                "cached_tokens": lease.cached,
                "weight_version": "scripted",
                "output_token_logprobs": [[0.0, token, None] for token in sampled],
            },
        }

    def info(self) -> dict[str, Any]:
        """`/server_info`."""
        return {
            "tokenizer_path": self.model,
            "max_total_num_tokens": 1_000_000,
            "max_req_input_len": 32_768,
            "page_size": 1,
            "internal_states": [{"effective_max_running_requests_per_dp": 64}],
        }


@contextmanager
def serving(server: ScriptedServer) -> Iterator[ScriptedServer]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(server.info())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.answer(server.generate(body) if self.path == "/generate" else {})

        def answer(self, reply: dict[str, Any]) -> None:
            data = json.dumps(reply).encode()
            try:
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_port}"
        try:
            yield server
        finally:
            server.released.set()
            http.shutdown()
            thread.join()
