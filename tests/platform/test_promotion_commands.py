"""`paeplatform models`, `promote` and `rollback` on a finished platform; the second version is the first again."""

import json
from collections.abc import Callable, Iterator

import pytest

from paeplatform.cli import main
from paeplatform.resources.registry import CHALLENGER, CHAMPION, PAE
from tests.platform.conftest import TINY, Platform

pytestmark = pytest.mark.slow  # CI's time: each command starts MLflow's client again

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    platform: Platform, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("PAEPLATFORM_HOME", "PAEPLATFORM_PRESET"):
        monkeypatch.setenv(name, "")

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        options = ("--home", platform.settings.home, "--preset", TINY)
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in (*arguments, *options)])
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture
def second(platform: Platform) -> Iterator[int]:
    """A second version of `pae`, the same files, @challenger; v1 is champion before and after."""
    client = platform.registry.client()
    first = client.get_model_version(PAE, "1")
    made = int(client.create_model_version(PAE, source=first.source, run_id=first.run_id).version)
    platform.registry.set_alias(PAE, CHALLENGER, made)
    yield made
    if platform.registry.by_alias(PAE).version != 1:
        platform.registry.set_alias(PAE, CHAMPION, 1)
    client.delete_model_version(PAE, str(made))


def test_models_lists_versions_verdicts_and_history(command: Command) -> None:
    code, out, _ = command("models", "--json")
    assert code == 0
    found = json.loads(out)["models"][PAE]
    first = found["versions"][0]
    assert first["version"] == 1 and CHAMPION in first["aliases"] and first["verdict"] == "promoted"
    assert {"crps", "nmad_paper", "galaxies_per_hour", "unseen_crps"} <= set(first["metrics"])
    assert first["verdict_parts"] == "known passes, unseen passes"
    assert found["history"][0] | {"at": ""} == {
        "version": 1,
        "previous": None,
        "by": "gate",
        "at": "",
        "reason": "no champion yet, and within all limits",
    }
    code, out, _ = command("models", "--model", "pae")
    assert code == 0 and "pae v1" in out and "@champion" in out


def test_a_version_that_is_no_better_is_turned_down_and_can_be_forced_and_rolled_back(
    platform: Platform, command: Command, second: int
) -> None:
    code, out, _ = command("promote", "--json")  # @challenger
    facts = json.loads(out)
    assert code == 1 and facts["outcome"] == "rejected" and facts["against"] == "v1"
    assert facts["version"] == second and facts["parts"] == {"known": False, "unseen": False}
    assert [row["part"] for row in facts["metrics"]] == ["known"] * 14 + ["unseen"] * 13
    assert "not shown to be better in any of" in facts["reason"]
    assert all(row["passes"] in (True, None) for row in facts["metrics"]), "the same model is as good"
    assert platform.registry.by_alias(PAE).version == 1

    code, out, _ = command(
        "promote", "--version", second, "--force", "--reason", "seen better on other fields"
    )
    assert code == 0 and f"pae v{second} promoted, by --force" in out
    assert platform.registry.by_alias(PAE).version == second
    assert platform.registry.find_alias(PAE, CHALLENGER) is None
    tags = platform.registry.by_version(PAE, second).tags
    assert tags["promoted_by"] == "command" and tags["verdict"] == "rejected"
    _, out, _ = command("models", "--json")
    reason = json.loads(out)["models"][PAE]["history"][-1]["reason"]
    assert reason.startswith(
        "seen better on other fields (against the gate: known and unseen galaxies: as good in all, but not"
    )

    assert command("promote", "--version", second)[1].strip() == f"pae v{second}: is champion already"
    code, out, _ = command("rollback", "--json", "--reason", "no")
    assert code == 0
    assert json.loads(out) == {"model": PAE, "version": 1, "outcome": "rolled back", "from": second}
    assert platform.registry.by_alias(PAE).version == 1
    assert platform.stale() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("promote",), "pae has no @challenger: name a version with --version; there are 1"),
        (("promote", "--version", 9), "no version 9 of model pae"),
        (("promote", "--version", 1, "--force"), "--force needs --reason"),
        (("promote", "--model", "tf"), "no model 'tf' passes through the gate: there are pae"),
        (("models", "--model", "tf"), "no model 'tf' passes through the gate"),
        (("rollback", "--model", "tf"), "no model 'tf' passes through the gate"),
    ],
)
def test_what_cannot_be_done_is_one_line(command: Command, arguments: tuple, said: str) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and said in err and err.count("\n") == 1
