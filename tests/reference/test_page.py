"""The model card in words: all facts of the card, tables that are well formed, links that exist."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from paeplatform.reference import shipped
from paeplatform.reference.page import card_page
from tests.small_reference import made_up_card


@pytest.fixture(params=[True, False], ids=["with SBI", "without SBI"])
def page(request: pytest.FixtureRequest, write: Callable[..., Path], tmp_path: Path) -> str:
    return card_page(shipped.card_in(write(tmp_path / "model", sbi=request.param)))


def test_every_row_of_a_table_has_as_many_cells_as_its_head(page: str) -> None:
    tables = re.findall(r"(?:^\|.*\|\n?)+", page, flags=re.MULTILINE)
    assert len(tables) >= 4
    for table in tables:
        counts = {len(re.split(r"(?<!\\)\|", row)) for row in table.strip().splitlines()}
        assert len(counts) == 1, table


def test_the_page_names_what_a_reader_has_to_know(page: str) -> None:
    card = made_up_card({})
    for text in (
        *("tiny", card.preset_digest, card.library_hash, "`0123456789ab-dirty`", "`fedcba987654`"),
        *(
            "0.0500 (0.0400 to 0.0600)",
            "100.0 (100.0 to 100.0)",
            "| `proposal.fit.epochs` | 3; reference: 50 |",
        ),
        *(
            "Redshifts of stars, brown dwarfs, quasars",
            "IRAS 08572+3915",
            "E(B-V) = 1",
            "Redshifts above 3 or below 0.003",
            "docs/nowhere.csv",
            "0.1000 ± –",
        ),
    ):
        assert text in page, text
    assert ("| metric | definition | PAE | SBI |" in page) != ("does not ship yet" in page)


def test_a_card_without_other_settings_and_figures_left_out_has_no_such_section() -> None:
    card = made_up_card({"bundle.json": "0" * 64})
    plain = card_page(card.model_copy(update={"not_as_preset": {}, "left_out": None}))
    assert "These settings differ" in card_page(card) and "These settings differ" not in plain
    assert "template was left out" in card_page(card) and "template was left out" not in plain
