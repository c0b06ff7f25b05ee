"""A server that answers `/generate` at once with a canned turn: what is left is the cost of whoever asks.

One thread, raw sockets. The n-th request of a session gets the n-th turn. Reads from its arguments a JSON file with the
turns' token ids; prints its port.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from pathlib import Path

Connections = dict[socket.socket, bytearray]


def reply(tokens: list[int]) -> bytes:
    """The body of one reply, but for its closing braces: the length of the prompt, and what was cached, come last."""
    meta = {
        "finish_reason": {"type": "stop"},
        "weight_version": "stub",
        "output_token_logprobs": [[-0.5, token, None] for token in tokens],
    }
    return json.dumps({"output_ids": tokens, "meta_info": meta}).encode().removesuffix(b"}}")


def response(body: bytes) -> bytes:
    """One HTTP response."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def main() -> None:
    """Serve until killed."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    turns = [reply(tokens) for tokens in settings["turns"]]
    info = response(json.dumps(settings["info"]).encode())
    nothing = response(b"{}")
    seen: dict[bytes, int] = {}
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    buffers: Connections = {}
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ)
                buffers[connection] = bytearray()
                continue
            connection = key.fileobj  # type: ignore[assignment]
            try:
                data = connection.recv(1 << 20)
            except ConnectionError:
                data = b""
            if not data:
                selector.unregister(connection)
                del buffers[connection]
                connection.close()
                continue
            buffer = buffers[connection]
            buffer += data
            while (end := buffer.find(b"\r\n\r\n")) >= 0:
                head = bytes(buffer[:end]).lower()
                at = head.find(b"content-length: ")
                length = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
                if len(buffer) < end + 4 + length:
                    break
                body = bytes(buffer[end + 4 : end + 4 + length])
                del buffer[: end + 4 + length]
                if b" /generate" in head[:40]:
                    session = body.partition(b'"session_id":"')[2].partition(b'"')[0]
                    number = seen[session] = seen.get(session, -1) + 1
                    prompt = body.partition(b"]")[0].count(b",") + 1
                    tail = b', "prompt_tokens": %d, "cached_tokens": %d}}' % (prompt, prompt - 1)
                    answer = response(turns[number % len(turns)] + tail)
                elif b" /server_info" in head[:40]:
                    answer = info
                else:
                    answer = nothing
                connection.setblocking(True)
                connection.sendall(answer)
                connection.setblocking(False)


if __name__ == "__main__":
    main()
