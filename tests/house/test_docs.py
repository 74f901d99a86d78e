"""The pages for people: links lead somewhere, commands are understood by their parsers and run by a test."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import pytest

from benchmarks.help_time import commands
from tests.support import generated_docs
from tests.support.command_lines import complaint, module_of, variants
from tests.support.documented_commands import ITSELF, RUN_BY, WALKED
from tests.support.markdown_pages import ROOT, SHELLS, ours, page, shell_commands, words

LANGUAGES = {*SHELLS, "python", "bibtex", "text"}
LONGEST = 255  # lines of a page; the README's below
LONGEST_README = 150
PAGES = [one.name for one in ours()]
COMMANDS = set(commands())
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
MODULES = r"(?:alexnet_tf|pipelines|serving|benchmarks)\.\w+"


def checked_links() -> list[tuple[str, str]]:
    """Every link of our pages and of the deployment's, with the page that it stands on."""
    return [(one.name, link) for one in [*ours(), page("deploy/README.md")] for link in one.links()]


@pytest.mark.parametrize(("name", "link"), checked_links(), ids=str)
def test_links_lead_somewhere(name, link):
    parts = urlsplit(link)
    if parts.scheme:
        assert parts.scheme in ("http", "https")
        assert re.fullmatch(r"[\w.-]+(:\d+)?", parts.netloc)
        return
    target = (ROOT / name).parent / unquote(parts.path) if parts.path else ROOT / name
    assert target.exists()
    assert target.resolve().is_relative_to(ROOT)
    if parts.fragment:
        assert target.suffix == ".md"
        assert parts.fragment in page(target.resolve().relative_to(ROOT).as_posix()).slugs()


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_short_and_their_blocks_have_a_language(name):
    one = page(name)
    before, _, rest = one.text.partition(generated_docs.BEGINNING)  # what the code writes is as long as it is
    written = before + rest.partition(generated_docs.END)[2]
    assert len(written.splitlines()) <= (LONGEST_README if name == "README.md" else LONGEST)
    assert {fence.language for fence in one.fences()} <= LANGUAGES
    assert one.text.startswith("# ")
    pictures = re.findall(r"<img [^>]*>", one.prose)
    assert [picture for picture in pictures if not re.search(r'\balt="[^"]+"', picture)] == []


@pytest.mark.parametrize("name", PAGES)
def test_tables_have_as_many_cells_in_every_row(name):
    rows = [line for line in page(name).prose.splitlines() if line.startswith("|")]
    assert [row for row in rows if not row.endswith("|")] == []
    table: list[int] = []
    for line in page(name).prose.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        table = [*table, cells] if cells else []
        assert len(set(table)) <= 1, line


def test_every_page_is_listed():
    listed = set(page("docs/README.md").links())
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= listed
    from_readme = {link.partition("#")[0] for link in page("README.md").links()}
    assert {"docs/README.md", "docs/results.md", "docs/conventions.md", "deploy/README.md"} <= from_readme


@pytest.mark.parametrize("command", shell_commands())
def test_commands_of_blocks_are_understood(command):
    first, *rest = words(command)
    if first == "python":
        assert rest[0] == "-m"
        assert complaint(rest[1], rest[2:]) == ""
    elif first == "make":
        assert rest[0] in targets()
        assert {word.partition("=")[0] for word in rest[1:]} <= variables()


@pytest.mark.parametrize(("command", "reason"), shell_commands().items(), ids=lambda text: text[:60])
def test_commands_of_blocks_are_run_or_it_is_said_why_not(command, reason):
    places = (command in WALKED, command in RUN_BY, command in ITSELF, bool(reason))
    assert sum(places) == 1, "run it, name its test, or say why not"
    assert len(reason) > 10 or not reason


def test_no_test_is_named_for_a_command_that_nobody_shows():
    assert {*WALKED, *RUN_BY, *ITSELF} <= set(shell_commands())
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert set(RUN_BY.values()) <= defined


def inline_commands() -> list[tuple[str, str]]:
    """What stands in code marks and begins as a command does, with its page."""
    found = {
        (one.name, text)
        for one in ours()
        for text in one.inline()
        if re.match(rf"(?:\w+=\S+ )*(?:python -m {MODULES}|\.\.\. --|make \w)", text)
    }
    return sorted(found)


@pytest.mark.parametrize(("name", "text"), inline_commands(), ids=str)
def test_commands_in_code_marks_are_understood(name, text):
    text = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", text)  # the environment's
    if text.startswith("make"):
        _, target, *rest = words(text)
        assert target in targets()
        assert {word.partition("=")[0] for word in rest} <= variables()
        return
    if text.startswith("... "):  # goes on with the command of the row above
        text = text.replace("...", "python -m alexnet_tf.train --data SPEC --workdir W", 1)
    if text == "python -m benchmarks.NAME":
        return
    module, arguments = re.match(rf"python -m ({MODULES})(.*)", text).groups()
    assert module in COMMANDS or module.startswith("benchmarks.")
    assert hasattr(module_of(module), "main")
    whole = name == "docs/README.md"  # the table of all commands; elsewhere a mention may be a part of one
    for line in variants(arguments.strip()):
        said = complaint(module, line)
        part = not whole and re.search("required|is needed", said)
        assert part or said == "", line


def test_every_command_is_in_the_table():
    shown = re.findall(rf"python -m ({MODULES})", page("docs/README.md").section("Commands"))
    assert set(shown) >= {name for name in COMMANDS if not name.startswith("benchmarks.")}


def test_every_target_is_in_the_table():
    assert {f"make {target}" for target in targets() - {"help"}} == set(
        page("docs/README.md").table("What all commands share")
    ) - {"target"}


def targets() -> set[str]:
    """The Makefile's targets for people."""
    return set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())


def variables() -> set[str]:
    """What a command line of make may set."""
    return {*re.findall(r"^([A-Z]+) \?=", MAKEFILE, re.MULTILINE), "PYTEST_ARGS"}
