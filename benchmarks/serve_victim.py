"""A client that is killed: ``python -m benchmarks.serve_victim PORT BODY...`` asks, and reads until its end."""

from __future__ import annotations

import select
import socket
import sys


def main(port: str, *bodies: str) -> None:
    """Send every body on a connection of its own, say so, and read what comes."""
    opened = [socket.create_connection(("127.0.0.1", int(port))) for _ in bodies]
    for connection, body in zip(opened, bodies, strict=True):
        content = body.encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    print("asked", flush=True)
    while True:
        for connection in select.select(opened, [], [])[0]:
            if not connection.recv(65536):
                opened.remove(connection)


if __name__ == "__main__":
    main(*sys.argv[1:])
