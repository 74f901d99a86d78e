"""The pages for people as tests read them: headings, links, blocks of code and what stands in code marks."""

from __future__ import annotations

import functools
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
SHELLS = ("sh", "bash", "console")
MARK = "not run by a test: "
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|(?:href|src)=\"([^\"]+)\"")


class Fence(NamedTuple):
    """A block of code.

    Attributes:
      language: what stands behind the opening marks.
      body: its lines.
      reason: why no test runs it, as the comment right before it says; empty without one.
    """

    language: str
    body: str
    reason: str

    @property
    def commands(self) -> list[str]:
        """A shell's commands, a line each, without comments."""
        joined = re.sub(r"\\\n\s*", "", self.body)
        lines = (re.sub(r"(^| )# .*", "", line).removeprefix("$ ") for line in joined.splitlines())
        return [" ".join(line.split()) for line in lines if line.strip()]


class Page:
    """One Markdown file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(ROOT).as_posix()
        self.text = path.read_text(encoding="utf-8")
        # Blanks as many as there were characters: places stay what they are.
        self.prose = _FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), self.text)

    def fences(self, within: str | None = None) -> list[Fence]:
        """The blocks of code, of the whole page or of one section."""
        text = self.text if within is None else self.section(within)
        found = []
        for match in _FENCE.finditer(text):
            before = text[: match.start()].rstrip("\n").rpartition("\n")[2]
            comment = re.fullmatch(rf" *<!-- {MARK}(.+) -->", before)
            found.append(Fence(match[2], match[3], comment[1] if comment else ""))
        return found

    def section(self, title: str) -> str:
        """What stands below a heading, up to the next one of its level or a higher one."""
        for match in _HEADING.finditer(self.prose):
            if match[2] == title:
                rest = self.prose[match.end() :]
                ends = [other.start() for other in _HEADING.finditer(rest) if len(other[1]) <= len(match[1])]
                end = match.end() + min(ends, default=len(rest))
                return self.text[match.end() : end]
        raise LookupError(f"{self.name}: no heading {title!r}")

    def coded(self, title: str) -> set[str]:
        """What stands in code marks in a section."""
        return set(re.findall(r"`([^`\n]+)`", self.section(title)))

    def table(self, title: str) -> dict[str, str]:
        """The rows of a section's tables: the first cell without code marks -> the whole row."""
        rows = re.findall(r"^\|.*\|$", self.section(title), re.MULTILINE)
        cells = {row.split("|")[1].strip().strip("`"): row for row in rows}
        return {cell: row for cell, row in cells.items() if not cell.startswith("---")}

    def inline(self) -> list[str]:
        """What stands in code marks outside of blocks; a bar that a table needs escaped is a bar."""
        return [text.replace(r"\|", "|") for text in re.findall(r"`([^`\n]+)`", self.prose)]

    def links(self) -> list[str]:
        """Targets of links and pictures."""
        text = re.sub(r"`[^`\n]*`", "", self.prose)
        return ["".join(groups) for groups in _LINK.findall(text)]

    def slugs(self) -> set[str]:
        """The anchors of its headings by GitHub's rules."""
        seen: Counter[str] = Counter()
        found = set()
        for _, title in _HEADING.findall(self.prose):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
            slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        return found


@functools.cache
def page(name: str) -> Page:
    """A page by its path below the project's root."""
    return Page(ROOT / name)


def ours() -> list[Page]:
    """README.md and the pages of docs/."""
    return [page(path.relative_to(ROOT).as_posix()) for path in [ROOT / "README.md", *_docs()]]


def _docs() -> list[Path]:
    return sorted((ROOT / "docs").rglob("*.md"))


def shell_commands() -> dict[str, str]:
    """Every command of a shell's block -> why no test runs it, or an empty text."""
    return {
        command: fence.reason
        for one in ours()
        for fence in one.fences()
        if fence.language in SHELLS
        for command in fence.commands
    }


def words(command: str) -> list[str]:
    """A command's words."""
    return shlex.split(command)
