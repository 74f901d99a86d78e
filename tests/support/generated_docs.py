"""The parts of the documents that the code writes; `python -m tests.support.generated_docs` renews them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipelines", "alexnet_tf", "serving", "benchmarks")
BEGINNING = "<!-- made by python -m tests.support.generated_docs -->\n"
END = "<!-- end of what is made -->"
NAME_WIDTH = 28


def first_sentence(path: Path) -> str:
    """Of a module's docstring, or of a method's of the gallery without the words that name it."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"(?<=[^.]\.)\s", " ".join(text.split("\n\n")[0].split()))[0]
    return sentence.removesuffix(".")


def tree_lines(folder: Path, depth: int = 0) -> Iterator[str]:
    """A line for a package and for each module in it, modules before the folders below."""
    indent = "  " * depth
    yield f"{indent + folder.name + '/':<{NAME_WIDTH}} {first_sentence(folder / '__init__.py')}".rstrip()
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"{indent + '  ' + path.stem:<{NAME_WIDTH}} {first_sentence(path)}"
    for below in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield from tree_lines(below, depth + 1)


def tree() -> str:
    """Every module of the packages with the first sentence of its docstring."""
    blocks = ("\n".join(tree_lines(ROOT / package)) for package in PACKAGES)
    return "```text\n" + "\n\n".join(blocks) + "\n```\n"


def recipe_fields() -> str:
    """Every field of a recipe with its meaning, the paper's value and what is legal."""
    from alexnet_tf import recipe

    return recipe.fields_table()


PARTS: dict[str, Callable[[], str]] = {"docs/architecture.md": tree, "docs/training.md": recipe_fields}


def renewed(page: str) -> str:
    """The text of a page with its made part as the code has it now."""
    text = (ROOT / page).read_text(encoding="utf-8")
    before, beginning, rest = text.partition(BEGINNING)
    _, end, after = rest.partition(END)
    if not beginning or not end:
        raise ValueError(f"{page}: has no part between {BEGINNING.strip()} and {END}")
    return before + beginning + PARTS[page]() + end + after


if __name__ == "__main__":
    for name in PARTS:
        (ROOT / name).write_text(renewed(name), encoding="utf-8")
