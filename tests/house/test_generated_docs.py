"""What the code writes of the documents is what stands there."""

from __future__ import annotations

import pytest

from tests.support import generated_docs


@pytest.mark.parametrize("page", generated_docs.PARTS)
def test_a_page_is_up_to_date(page):
    text = (generated_docs.ROOT / page).read_text(encoding="utf-8")
    assert generated_docs.renewed(page) == text, "run: python -m tests.support.generated_docs"


def test_every_module_has_a_sentence():
    lines = generated_docs.tree().splitlines()
    assert sum(line.split()[0] == "loop" for line in lines if line.split()) == 1
    assert [line for line in lines[1:-1] if line and len(line.split()) < 3] == []
