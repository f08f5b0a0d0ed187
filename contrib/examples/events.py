#!/usr/bin/env python3
"""Prints what happens at a node, and what is sent to it, without polling:

    contrib/examples/events.py ~/.blvm-mesh/rpc.sock [CURSOR]

Each event has a cursor: given the last one, it goes on behind that."""
import json
import socket
import sys


def follow(path, cursor):
    node = socket.socket(socket.AF_UNIX)
    node.connect(path)

    def ask(method, **params):
        request = {"jsonrpc": "2.0", "id": method, "method": method, "params": params}
        node.sendall(json.dumps(request).encode() + b"\n")

    ask("meshsubscribe", cursor=cursor)
    # What has come before; then what events announce, until nothing waits.
    ask("meshpollreceived")
    for line in map(json.loads, node.makefile()):
        print(json.dumps(line), flush=True)
        event = line.get("params", {}).get("event", {}).get("type")
        fetched = line.get("id") == "meshpollreceived" and line.get("result")
        if fetched or event in ("datagram_received", "missed"):
            ask("meshpollreceived")


if __name__ == "__main__":
    follow(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
