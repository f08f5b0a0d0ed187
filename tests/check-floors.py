#!/usr/bin/env python3
"""Fails if a room of core imports from a room on the same or a higher floor."""
import pathlib
import re
import sys

FLOORS = {
    "id": 0, "time": 0, "config": 0, "rng": 0, "signature": 0, "mode": 0, "tariff": 0,
    "tables": 1, "wire": 2, "link": 3,
    "policy": 4, "payment": 4, "routing": 4,
    "mesh": 5,
}
root = pathlib.Path(__file__).resolve().parent.parent / "core" / "src"
bad = []
for path in sorted(root.rglob("*.rs")):
    room = path.relative_to(root).parts[0].removesuffix(".rs")
    if room not in FLOORS:
        continue
    # What stands behind the tests' attribute may look anywhere.
    text = path.read_text().split("#[cfg(test)]")[0]
    for line in text.splitlines():
        if line.lstrip().startswith("//"):
            continue
        for other in re.findall(r"\bcrate::([a-z_]+)", line):
            above = FLOORS.get(other, -1) > FLOORS[room]
            if above and not re.search(r"_tests?\.rs$|/tests?\.rs$|samples\.rs$", str(path)):
                bad.append(f"{path.relative_to(root)}: {room} imports {other}: {line.strip()}")
if bad:
    print("\n".join(bad))
    sys.exit("rooms must import only from below")
print("every room imports only from below")
