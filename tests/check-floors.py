#!/usr/bin/env python3
"""Fails if a room imports from a room that is not on a lower floor: of core, and of the std node.

Rooms on one floor do not know one another, so there can be no circle. In the std node no two
files import from each other either, whichever way round, and nobody but its own folder names a
transport. docs/ARCHITECTURE.md names the same floors, and the way of a packet from socket to
socket in few files."""
import pathlib
import re
import sys

CORE = [
    ["id", "time", "mode", "tariff", "rng", "token_bucket", "hash"],
    ["config", "signature", "block"],
    ["tables"],
    ["wire"],
    ["link"],
    ["flow"],
    ["policy", "payment", "board"],
    ["routing"],
    ["mesh"],
]
NODE = [
    ["link", "bans", "clock", "current", "deliveries", "presence", "progress", "runtime", "status"],
    ["transport"],
    ["engine"],
    ["bridge", "requests"],
    ["mod"],
]
# What `transport/` shows to the rest of the node; the others are transports or their means.
SHOWN = {"all", "memory"}
# Most files that a packet passes from socket to socket.
LONGEST_WAY = 7
TESTS_ONLY = re.compile(r"(^|_)(tests?|samples|vectors|test_shared|test_invoice)$")
USE = re.compile(r"\bcrate::(?:([a-z_0-9]+)|\{(.*?)\})", re.DOTALL)
SOURCES = pathlib.Path(__file__).resolve().parent.parent


def code(path):
    """A file's text without comments and who may see what, which may name anything, and without
    the tests at its end."""
    text = re.sub(r"//.*|\bpub\(in [^)]*\)", "", path.read_text())
    return re.split(r"#\[cfg\(test\)\]\s*(?:pub\S* )?mod \w+ \{", text)[0]


def imports(text):
    """The rooms that a file names, with the line of each."""
    for found in USE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        names = [found[1]] if found[1] else re.findall(r"(?:^|,)\s*([a-z_0-9]+)", found[2])
        for name in names:
            yield name, line


def check_core():
    floor_of = {room: floor for floor, rooms in enumerate(CORE) for room in rooms}
    root = SOURCES / "core" / "src"
    bad, seen = [], set()
    for path in sorted(root.rglob("*.rs")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts == ("lib",) or TESTS_ONLY.search(parts[-1]):
            continue
        room = parts[0]
        if room not in floor_of:
            bad.append(f"{path}: room {room} has no floor")
            continue
        seen.add(room)
        for other, line in imports(code(path)):
            if other == room or TESTS_ONLY.search(other):
                continue
            if floor_of.get(other, len(CORE)) >= floor_of[room]:
                bad.append(f"{path}:{line}: {room} imports {other}")
    return bad + [f"core: room {room} is not there" for room in floor_of.keys() - seen]


def expand(tree):
    """The paths of a use tree: `a::{b, c::d}` is `a::b` and `a::c::d`."""
    head, brace, rest = tree.partition("{")
    if not brace:
        yield re.split(r"\s+as\s+", tree.strip())[0]
        return
    depth, start = 0, 0
    rest = rest[: rest.rindex("}")]
    for at, char in enumerate(rest + ","):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            if rest[start:at].strip():
                yield from (head.strip() + path for path in expand(rest[start:at]))
            start = at + 1


def paths(text):
    """The paths that a file names, each once."""
    uses = re.compile(r"^\s*(?:pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", re.MULTILINE)
    found = [path for use in uses.findall(text) for path in expand(use)]
    text = uses.sub("", text)
    found += re.findall(r"\b(?:crate::node|super|self)(?:::\w+)+", text)
    found += re.findall(r"(?<![\w:])[a-z_]\w*(?:::\w+)+", text)
    return set(found)


class Node:
    """The files of the std node by their modules: `("transport", "tcp", "read")`."""

    def __init__(self):
        self.root = SOURCES / "shell-std" / "src" / "node"
        self.files = {}
        for path in sorted(self.root.rglob("*.rs")):
            parts = path.relative_to(self.root).with_suffix("").parts
            if parts[0] != "tests":
                self.files[parts[:-1] if parts[-1] == "mod" else parts] = path

    def resolve(self, module, path):
        """The module whose file a path leads to; None if that is outside of the node."""
        parts = path.split("::")
        if parts[:2] == ["crate", "node"]:
            at, parts = (), parts[2:]
        elif parts[0] in ("super", "self"):
            at = module
            while parts and parts[0] in ("super", "self"):
                if parts[0] == "super":
                    if not at:
                        return None
                    at = at[:-1]
                parts = parts[1:]
        elif (*module, parts[0]) in self.files:
            at = module
        else:
            return None
        while parts and (*at, parts[0]) in self.files:
            at, parts = (*at, parts[0]), parts[1:]
        return at

    def arrows(self):
        for module, path in self.files.items():
            for named in paths(code(path)):
                other = self.resolve(module, named)
                if other is not None and other != module:
                    yield module, other


def circle(arrows):
    """The modules of a circle, if there is one."""
    left = set(arrows)
    while left:
        named = set().union(*(arrows[module] for module in left))
        ends = {module for module in left if module not in named or not arrows[module] & left}
        if not ends:
            return sorted("::".join(module) or "mod" for module in left)
        left -= ends
    return None


def check_node():
    floor_of = {room: floor for floor, rooms in enumerate(NODE) for room in rooms}
    node, bad, arrows = Node(), [], {}
    room = lambda module: module[0] if module else "mod"
    bad += [f"node: room {r} has no floor" for r in {room(m) for m in node.files} - floor_of.keys()]
    bad += [f"node: room {r} is not there" for r in floor_of.keys() - {room(m) for m in node.files}]
    for module, other in node.arrows():
        arrows.setdefault(module, set()).add(other)
        here, there = room(module), room(other)
        if here != there and floor_of.get(there, len(NODE)) >= floor_of.get(here, 0):
            bad.append(f"{node.files[module]}: {here} imports {there}")
        if here != "transport" == there and other[1:2] and other[1] not in SHOWN:
            bad.append(f"{node.files[module]}: names the transport {other[1]}")
    arrows = {module: arrows.get(module, set()) for module in node.files}
    if round_trip := circle(arrows):
        bad.append(f"node: files import from each other, among {', '.join(round_trip)}")
    return bad


def rows(text, title):
    """The cells of the first table below a line that begins like this."""
    lines = text[text.index(title) :].splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("|---"))
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def check_page():
    text = (SOURCES / "docs" / "ARCHITECTURE.md").read_text()
    bad, root = [], SOURCES / "shell-std" / "src" / "node"
    for title, floors in [("## Rooms", CORE), ("## The std node", NODE)]:
        named = {}
        for floor, room, _ in rows(text, title):
            named.setdefault(int(floor), []).extend(re.findall(r"`(\w+)(?:/|\.rs)`", room))
        if {n: sorted(names) for n, names in named.items()} != {
            n: sorted(floor) for n, floor in enumerate(floors, 1)
        }:
            bad.append(f"ARCHITECTURE.md: the floors under '{title}' differ from the tree")
    way = [row[0].strip("`") for row in rows(text, "The way of a packet")]
    if not 1 < len(way) <= LONGEST_WAY:
        bad.append(f"ARCHITECTURE.md: the way of a packet has {len(way)} files")
    bad += [f"ARCHITECTURE.md: {file} is not there" for file in way if not (root / file).is_file()]
    return bad


def main():
    bad = check_core() + check_node() + check_page()
    if bad:
        sys.exit("\n".join(bad))
    for name, floors in [("core", CORE), ("the std node", NODE)]:
        rooms = sum(map(len, floors))
        print(f"{name}: {rooms} rooms on {len(floors)} floors, each imports only from below")


main()
