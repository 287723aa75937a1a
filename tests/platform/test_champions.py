"""The alias @champion and its history on a real MLflow: by gate, by command, by hand, and back."""

import pytest

from paeplatform.errors import RegistryError
from paeplatform.resources.champions import COMMAND, GATE, HAND, ROLLBACK, Champions
from paeplatform.resources.registry import CHALLENGER, CHAMPION, PAE, ModelRegistry
from paeplatform.resources.settings import PlatformSettings


@pytest.fixture
def champions(settings: PlatformSettings) -> Champions:
    """Four versions without files, no alias."""
    registry = ModelRegistry.from_settings(settings)
    client = registry.client()
    client.create_registered_model(PAE)
    for number in range(1, 5):
        client.create_model_version(PAE, source=f"file:///nowhere/{number}")
    return Champions(registry, PAE)


def moves(champions: Champions) -> list[tuple[int | None, int | None, str]]:
    return [(move.version, move.previous, move.by) for move in champions.history()]


def by_hand(champions: Champions, version: int) -> None:
    champions._registry.client().set_registered_model_alias(PAE, CHAMPION, str(version))


def tags(champions: Champions, version: int) -> dict[str, str]:
    return dict(champions._registry.by_version(PAE, version).tags)


def test_a_registry_without_models_has_no_history(settings: PlatformSettings) -> None:
    nobody = Champions(ModelRegistry.from_settings(settings), PAE)
    assert nobody.history() == [] and nobody.notice() is None and nobody.now() is None


def test_promotion_moves_both_aliases_and_is_written_down(champions: Champions) -> None:
    registry = champions._registry
    registry.set_alias(PAE, CHALLENGER, 1)
    first = champions.promote(1, GATE, "within limits")
    assert (first.version, first.previous, first.reason) == (1, None, "within limits")
    assert registry.aliases(registry.by_version(PAE, 1)) == [CHAMPION]
    registry.set_alias(PAE, CHALLENGER, 3)
    champions.promote(2, COMMAND, "because")
    assert registry.find_alias(PAE, CHALLENGER).version == 3, "another challenger stays"
    assert moves(champions) == [(1, None, GATE), (2, 1, COMMAND)]
    assert tags(champions, 2)["promoted_by"] == COMMAND and tags(champions, 2)["previous_champion"] == "v1"
    assert tags(champions, 1)["demoted_by"] == COMMAND
    assert champions.notice() is None


def test_a_move_by_hand_is_noticed_once_and_kept(champions: Champions) -> None:
    champions.promote(1, GATE, "")
    by_hand(champions, 3)
    move = champions.notice()
    assert move is not None and (move.version, move.previous, move.by) == (3, 1, HAND)
    assert champions.notice() is None
    assert champions.now().version == 3, "the alias has the last word"
    assert tags(champions, 3)["promoted_by"] == HAND and tags(champions, 1)["demoted_by"] == HAND
    assert tags(champions, 3)["promoted_at"] == move.at


def test_an_alias_taken_down_by_hand_is_written_down(champions: Champions) -> None:
    champions.promote(1, GATE, "")
    champions._registry.drop_alias(PAE, CHAMPION)
    assert champions.notice().version is None
    assert moves(champions) == [(1, None, GATE), (None, 1, HAND)]
    with pytest.raises(RegistryError, match="nothing to roll back"):
        champions.rollback("")


def test_rollback_goes_back_one_by_one_through_all_kinds_of_moves(champions: Champions) -> None:
    champions.promote(1, GATE, "")
    champions.promote(2, GATE, "")
    by_hand(champions, 4)  # noticed by the rollback itself
    assert champions.rollback("worse on the sky").version == 2
    assert champions.now().version == 2
    assert champions.rollback("").version == 1
    with pytest.raises(RegistryError, match="pae v1 had no champion before it"):
        champions.rollback("")
    champions.promote(4, COMMAND, "again")
    assert "demoted_by" not in tags(champions, 4)
    assert champions.rollback("").version == 1
    assert [move.by for move in champions.history()] == [
        GATE,
        GATE,
        HAND,
        ROLLBACK,
        ROLLBACK,
        COMMAND,
        ROLLBACK,
    ]


def test_a_version_that_does_not_exist_moves_nothing(champions: Champions) -> None:
    champions.promote(1, GATE, "")
    with pytest.raises(RegistryError, match=r"no version 9 of model pae: there are \[1, 2, 3, 4\]"):
        champions.promote(9, COMMAND, "")
    assert moves(champions) == [(1, None, GATE)] and champions.now().version == 1


def test_history_outlives_its_tenth_entry_in_order(champions: Champions) -> None:
    for turn in range(12):
        champions.promote(1 + turn % 2, COMMAND, str(turn))
    assert [move.reason for move in champions.history()] == [str(turn) for turn in range(12)]
