#!/usr/bin/env python3
"""Fails if a direct dependency has no line in docs/DEPENDENCIES.md, or a line no dependency."""
import pathlib
import re
import sys
import tomllib

root = pathlib.Path(__file__).resolve().parent.parent
used = set()
for manifest in root.rglob("Cargo.toml"):
    if "target" in manifest.parts:
        continue
    tables = tomllib.loads(manifest.read_text())
    for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
        used |= tables.get(kind, {}).keys()
told = set()
for line in (root / "docs" / "DEPENDENCIES.md").read_text().splitlines():
    cell = re.match(r"\| ([a-z0-9_, -]+) \|", line)
    if cell and cell[1] != "crate":
        told |= set(cell[1].split(", "))
bad = [f"{name} has no line in docs/DEPENDENCIES.md" for name in sorted(used - told)]
bad += [f"docs/DEPENDENCIES.md tells of {name}, which nothing uses" for name in sorted(told - used)]
if bad:
    sys.exit("\n".join(bad))
print(f"{len(used)} direct dependencies, each with its reason")
