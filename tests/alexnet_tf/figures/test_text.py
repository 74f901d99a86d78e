"""Words and numbers as figures write them."""

from __future__ import annotations

import math

import pytest

from alexnet_tf.figures import text


@pytest.mark.parametrize(
    ("share", "digits", "expected"),
    [(0.045, 2, "4.50 %"), (1.0, 1, "100.0 %"), (0.123, 0, "12 %"), (None, 1, "–"), (math.nan, 1, "–")],
)
def test_shares_are_written_in_per_cent(share, digits, expected):
    assert text.percent(share, digits) == expected


def test_cells_of_a_matrix_hold_three_characters():
    shares = {0.0: "0", 0.005: "0.5", 0.0991: "9.9", 0.0997: "10", 0.94444: "94", 1.0: "100", 0.03: "3"}
    assert {share: text.percent_in_cell(share) for share in shares} == shares


def test_long_names_keep_their_beginning_and_long_keys_their_end():
    assert text.shorten("tabby, tabby cat", 16) == "tabby, tabby cat"
    assert text.shorten("tabby, tabby cat", 8) == "tabby…"  # no comma before the dots
    assert text.shorten_key("val/tabby/0042.jpg", 10) == "…/0042.jpg"
    assert text.shorten_key("a\udcff", 10) == "a\\udcff"


def test_wide_characters_take_two_columns_and_accents_none():
    assert text.columns("cat") == 3
    assert text.columns("赤狐") == text.columns("여우") == 4
    assert text.columns("Mu\u0308ller") == text.columns("Müller") == 6
    assert text.fit("赤狐", 6) == "赤狐  "
    assert text.fit("赤狐和白狐", 8) == "赤狐... "  # half a character has no place
    assert text.fit("red fox, Vulpes", 8) == "red f..."


def test_numbers_have_minus_signs():
    assert text.number_range(-0.314, 0.4) == "from \N{MINUS SIGN}0.31 to 0.4"
    assert text.number_range(-0.314, 4e-5, digits=3) == "from \N{MINUS SIGN}0.314 to 4e\N{MINUS SIGN}05"
