#!/usr/bin/env python3
"""Checks that docs/ is a whole book: each page is in docs/SUMMARY.md, links lead somewhere, and the messages that
docs/TROUBLESHOOTING.md explains and the keys that it names are in the program. Standard library only."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def anchors(page):
    """The names that GitHub and mdBook give to the headings of a page."""
    found = set()
    for line in page.read_text().splitlines():
        if match := re.match(r"#+ (.*)", line):
            text = re.sub(r"[`*]", "", match[1]).strip().lower()
            found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def broken_links(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists():
            yield f"{page.relative_to(ROOT)}: there is no {target}"
        elif anchor and there.suffix == ".md" and anchor not in anchors(there):
            yield f"{page.relative_to(ROOT)}: {there.name} has no heading #{anchor}"


def source():
    """All of the program's sources, with strings that go over several lines joined."""
    files = [*ROOT.glob("core/src/**/*.rs"), *ROOT.glob("shell-std/src/**/*.rs")]
    text = "\n".join(path.read_text() for path in files)
    return re.sub(r"\\\n\s*", "", text)


def unknown_messages(text):
    page = (DOCS / "TROUBLESHOOTING.md").read_text()
    for message in re.findall(r"^\| `([^`]+)` \|", page, flags=re.M):
        if message not in text:
            yield f"docs/TROUBLESHOOTING.md: nothing says `{message}`"
    keys = set(re.findall(r"^\| `([a-z_]+\.[a-z_0-9]+)`", (DOCS / "CLI.md").read_text(), flags=re.M))
    for key in re.findall(r"`([a-z_]+\.[a-z_0-9]+)`", page):
        if keys and key not in keys and not key.endswith(".key"):
            yield f"docs/TROUBLESHOOTING.md: there is no setting {key}"


def main():
    pages = sorted(DOCS.glob("*.md"))
    listed = set(re.findall(r"\]\(([^)]+\.md)\)", (DOCS / "SUMMARY.md").read_text()))
    faults = [f"docs/SUMMARY.md lacks {p.name}" for p in pages if p.name not in listed | {"SUMMARY.md"}]
    for page in [*pages, ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("contrib/*/README.md")]:
        faults += broken_links(page)
    faults += unknown_messages(source())
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        sys.exit(1)
    print(f"{len(pages)} pages, no link leads nowhere, and each message that is explained is there")


if __name__ == "__main__":
    main()
