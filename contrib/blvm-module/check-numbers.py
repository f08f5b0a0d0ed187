#!/usr/bin/env python3
"""Compares the numbers in src/proto.rs with the enums of a blvm-node: `check-numbers.py PATH/TO/blvm-node-0.1.79 ...`,
the unpacked sources of the published crate, as cargo keeps them. Standard library only."""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
EXPECTED = {
    "ModuleMessage": {"Request": 0, "Response": 1, "Event": 2, "Log": 3, "Invocation": 4, "InvocationResult": 5},
    "MessageType": {"SubscribeEvents": 7, "Handshake": 8, "GetNetworkPeers": 13},
    "RequestPayload": {"Handshake": 0, "SubscribeEvents": 8, "GetNetworkPeers": 13},
    "ResponsePayload": {"HandshakeAck": 0, "NetworkPeers": 13},
    "InvocationType": {"ModuleApi": 2},
    "InvocationResultPayload": {"ModuleApi": 2},
    "LogLevel": {"Trace": 0, "Debug": 1, "Info": 2, "Warn": 3, "Error": 4},
    "EventType": {},
    "EventPayload": {},
}
# Those that moved once: as they are from 0.1.56 on.
MOVED = {"PublishEvent": 41, "RegisterModuleApi": 43, "SendMeshPacketToPeer": 48}
FIELDS = {
    "LogMessage": ["level", "module_id", "message", "target", "timestamp"],
    "PeerInfo": ["addr", "transport_type", "services", "version", "connected_since"],
    "RequestMessage": ["correlation_id", "request_type", "payload"],
    "ResponseMessage": ["correlation_id", "success", "payload", "error"],
    "InvocationMessage": ["correlation_id", "invocation_type"],
    "InvocationResultMessage": ["correlation_id", "success", "payload", "error"],
    "EventMessage": ["event_type", "payload"],
}


def body(text, head):
    """What stands between the braces after `head`, without comments and attributes."""
    start = text.index(head + " {") + len(head) + 2
    depth, at = 1, start
    while depth:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return re.sub(r"//[^\n]*|#\[[^\]]*\]", "", text[start : at - 1])


def variants(text, name):
    inner = body(text, f"pub enum {name}")
    while True:
        flat = re.sub(r"\{[^{}]*\}|\([^()]*\)|<[^<>]*>", "", inner)
        if flat == inner:
            return [part.split("=")[0].strip() for part in flat.split(",") if part.strip()]
        inner = flat


def events():
    """The kinds of events in src/proto.rs."""
    text = (HERE / "src/proto.rs").read_text()
    found = re.findall(r"pub const ([A-Z_]+): EventKind = EventKind\((\d+), (\d+)\)", text)
    return [("".join(word.title() for word in name.split("_")), int(kind), int(payload)) for name, kind, payload in found]


def wrong(root):
    text = "".join((root / "src/module" / file).read_text() for file in ("ipc/protocol.rs", "traits.rs"))
    patch = int(re.search(r"-0\.1\.(\d+)/?$", str(root))[1])
    expected = {name: dict(numbers) for name, numbers in EXPECTED.items()}
    for name, number in MOVED.items():
        for enum in ("MessageType", "RequestPayload"):
            expected[enum][name] = number - (patch <= 55)
    for name, kind, payload in events():
        expected["EventType"][name], expected["EventPayload"][name] = kind, payload
    for enum, numbers in expected.items():
        there = variants(text, enum)
        for name, number in numbers.items():
            if name not in there or there.index(name) != number:
                yield f"{root.name}: {enum}::{name} is not {number}"
    for name, fields in FIELDS.items():
        there = re.findall(r"pub (\w+):", body(text, f"pub struct {name}"))
        if there != fields:
            yield f"{root.name}: {name} has the fields {there}"


roots = [pathlib.Path(path) for path in sys.argv[1:]]
bad = [line for root in roots for line in wrong(root)]
if bad or not roots:
    sys.exit("\n".join(bad) or __doc__)
print(f"{len(events())} events and all other numbers are those of {', '.join(root.name for root in roots)}")
