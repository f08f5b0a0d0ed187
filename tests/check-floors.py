#!/usr/bin/env python3
"""Fails if a room of core imports from a room that is not on a lower floor.

Rooms on one floor do not know one another, so there can be no circle."""
import pathlib
import re
import sys

FLOORS = [
    ["id", "time", "mode", "tariff", "rng"],
    ["config", "signature"],
    ["tables"],
    ["wire"],
    ["link"],
    ["policy", "payment", "board"],
    ["routing"],
    ["mesh"],
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
TESTS_ONLY = re.compile(r"(^|_)(tests?|samples|vectors|test_shared|test_invoice)$")
USE = re.compile(r"\bcrate::(?:([a-z_0-9]+)|\{(.*?)\})", re.DOTALL)


def imports(text):
    """The rooms that a file names, with the line of each."""
    for found in USE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        names = [found[1]] if found[1] else re.findall(r"(?:^|,)\s*([a-z_0-9]+)", found[2])
        for name in names:
            yield name, line


def main():
    root = pathlib.Path(__file__).resolve().parent.parent / "core" / "src"
    bad, seen = [], set()
    for path in sorted(root.rglob("*.rs")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts == ("lib",) or TESTS_ONLY.search(parts[-1]):
            continue
        room = parts[0]
        if room not in FLOOR_OF:
            bad.append(f"{path}: room {room} has no floor")
            continue
        seen.add(room)
        # Comments may name anything, and so may the tests at the end of a file.
        text = re.sub(r"//.*", "", path.read_text())
        text = re.split(r"#\[cfg\(test\)\]\s*(?:pub\S* )?mod \w+ \{", text)[0]
        for other, line in imports(text):
            if other == room or TESTS_ONLY.search(other):
                continue
            if FLOOR_OF.get(other, len(FLOORS)) >= FLOOR_OF[room]:
                bad.append(f"{path}:{line}: {room} imports {other}")
    bad += [f"room {room} is not there" for room in FLOOR_OF.keys() - seen]
    if bad:
        sys.exit("\n".join(bad))
    print(f"{len(seen)} rooms on {len(FLOORS)} floors, each imports only from below")


main()
