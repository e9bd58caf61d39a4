#!/usr/bin/env python3
"""Writes the table of values in charts/maestro/README.md from the comments in values.yaml.

    scripts/chart-readme.py           writes it
    scripts/chart-readme.py --check   ends with 1 if it is not current

Every value needs a comment above it; one without is an error. Only the standard library is used: values.yaml is
read line by line, in the plain form it is written in.
"""

import pathlib
import re
import sys

CHART = pathlib.Path(__file__).resolve().parents[1] / "charts" / "maestro"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"
LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z0-9]+):(?: (?P<value>.*))?$")


def rows(text):
    """Name, default and meaning of every value that has a comment."""
    path, comment, pending = [], [], []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        stripped = line.strip()
        if not stripped:
            comment = []
            continue
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("#").strip())
            continue
        found = LINE.match(line)
        if not found:
            raise SystemExit(f"values.yaml:{number + 1}: expected `key: value` or a comment, found `{stripped}`")
        depth = len(found["indent"]) // 2
        path = path[:depth] + [found["key"]]
        value = found["value"]
        if value is None and comment:
            # A map that is described as a whole: its default is what follows, further in.
            inner = []
            for below in lines[number + 1:]:
                if below.strip() and len(below) - len(below.lstrip()) <= len(found["indent"]):
                    break
                if below.strip():
                    inner.append(below.strip())
            documented = any(one.startswith("#") for one in inner)
            default = "see below" if documented else ", ".join(inner)
            yield ".".join(path), default, " ".join(comment)
            pending = [] if documented else path
        elif value is not None and not (pending and path[: len(pending)] == pending):
            if not comment:
                raise SystemExit(f"values.yaml:{number + 1}: `{'.'.join(path)}` has no comment above it")
            yield ".".join(path), value, " ".join(comment)
        comment = []


def table(text):
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for name, default, meaning in rows(text):
        shown = default if default == "see below" else f"`{default}`"
        lines.append(f"| `{name}` | {shown} | {meaning} |")
    return "\n".join(lines)


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        raise SystemExit(f"chart-readme: unknown word {sys.argv[1]}, expected --check")
    readme = CHART / "README.md"
    known = readme.read_text()
    head, rest = known.split(BEGIN)
    tail = rest.split(END)[1]
    text = f"{head}{BEGIN}\n{table((CHART / 'values.yaml').read_text())}\n{END}{tail}"
    if check:
        if text != known:
            raise SystemExit("charts/maestro/README.md is not current: run scripts/chart-readme.py")
        return
    readme.write_text(text)


if __name__ == "__main__":
    main()
