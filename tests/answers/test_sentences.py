"""What is said of one source: every number is the row's, and nothing unusable reads like a redshift."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paeplatform.answers.facts import facts_of, galaxy_of, total_snr
from paeplatform.answers.sentences import peaks, sentences
from paeplatform.errors import InputError
from paeplatform.inference.results.second_solutions import leading_solutions
from paeplatform.inference.results.status import POSTERIOR_STATUSES
from paeplatform.inference.results.summaries import ZFlag
from paeplatform.inference.screening import InputFault, reason_text
from paeplatform.instrument.measurements import Measurements
from paeplatform.intake.sources import read_sources
from paeplatform.outputs.words import (
    FAULT_WORDS,
    FLAG_WORDS,
    STATUS_VERDICTS,
    STATUS_WORDS,
    fault_texts,
    printable,
    redshift_digits,
    redshift_texts,
)
from tests.answers.rows import facts_of_one, measured, row_of
from tests.real_sources import FILES, FOLDER

READS_LIKE_A_REDSHIFT = re.compile(r"68 %|interval|\d \(?to \d|±|\bz = ")


def text_of(row: dict, **facts: object) -> str:
    return "\n".join(sentences(row, facts_of_one(**facts)))


def test_a_good_source_is_said_in_full() -> None:
    lines = sentences(row_of(), facts_of_one())
    assert lines[0] == "Cloverleaf (ra 213.94271, dec +11.49539)"
    assert re.fullmatch(r"Redshift: z = 0\.51\d, 68 % interval 0\.49\d to 0\.52\d\.", lines[1])
    assert lines[2] == (
        "Fit: chi^2 of the best model 88 for 86 degrees of freedom: the model describes the data."
    )
    assert lines[3] == "Trust: the sampler converged with 812 effective draws, and no flag is set."
    assert lines[4] == (
        "Data: 98 of 103 measurements used (5 set aside: 4 masked by its flags, 1 no error), in 90 channels, "
        "total SNR 61."
    )
    assert lines[5] == "Corrections: none."
    assert lines[6] == "Model reference 1, prior bpz-1a2b, by importance sampling."


def test_the_second_solution_has_its_weight() -> None:
    rng = np.random.default_rng(3)
    z = np.concatenate([rng.normal(0.5, 0.01, 300), rng.normal(2.1, 0.02, 150), rng.normal(1.2, 0.02, 50)])
    lines = sentences(row_of(pae_z_draws=z, z_flags=int(ZFlag.MULTIMODAL)), facts_of_one())
    assert re.match(
        r"Redshift: z = 0\.50\d+, 68 % interval 0\.49\d+ to 0\.51\d+ of this solution, which has 60 %",
        lines[1],
    )
    assert re.match(
        r"Other solutions: z = 2\.\d{2,3} \(2\.0\d+ to 2\.1\d+\) with 30 %; z = 1\.\d{2,3} .* with 10 %\.",
        lines[2],
    )
    assert lines[3].startswith("All of p(z) together: median 0.")
    assert "p(z) has several peaks" in lines[5]


def test_the_solutions_are_those_of_the_columns_and_the_second_says_how_it_fits() -> None:
    rng = np.random.default_rng(3)
    z = np.concatenate([rng.normal(0.5, 0.01, 300), rng.normal(2.1, 0.02, 150), rng.normal(1.2, 0.02, 50)])
    columns = {name: float(values[0]) for name, values in leading_solutions(z[None]).columns().items()}
    row = row_of(pae_z_draws=z, pae_chi2_gap=3.25, **columns)
    _, second, third = peaks(row)
    assert [second.z, second.weight, third.z, third.weight] == list(columns.values())
    said = sentences(row, facts_of_one())[2]
    assert re.search(r"with 30 %, chi\^2 higher by 3\.2; z = 1\.\d+ .* with 10 %\.$", said)
    better = sentences(row | {"pae_chi2_gap": -4.0}, facts_of_one())[2]
    assert "with 30 %, chi^2 lower by 4.0; z" in better and better.count("chi^2") == 1
    assert "chi^2" not in sentences(row | {"pae_chi2_gap": None}, facts_of_one())[2]
    assert peaks(row_of()) == [] and peaks(row_of("failed")) == []


def test_more_than_three_solutions_are_counted_together() -> None:
    rng = np.random.default_rng(4)
    centres, counts = (0.3, 0.8, 1.3, 1.9, 2.6), (200, 120, 100, 50, 30)
    z = np.concatenate([rng.normal(c, 0.005, n) for c, n in zip(centres, counts, strict=True)])
    assert sentences(row_of(pae_z_draws=z), facts_of_one())[2].endswith("; further ones together 16 %.")


@pytest.mark.parametrize("status", ["misfit", "failed", "something new"])
def test_what_is_unusable_leads_with_that_and_reads_like_no_redshift(status: str) -> None:
    row = row_of(status, pae_chi2_best=None if status == "failed" else 217_000.0, pae_error_scale=50.2)
    lines = sentences(row, facts_of_one(name="SIMP J0136"))
    assert lines[0].startswith("NO USABLE REDSHIFT" if status == "misfit" else "NO REDSHIFT")
    assert "SIMP J0136" in lines[0]
    suspicious = [line for line in lines if READS_LIKE_A_REDSHIFT.search(line)]
    assert all(line.endswith("which is no measurement of a redshift.") for line in suspicious)
    assert len(suspicious) == (status == "misfit")


def test_a_misfit_says_by_how_much_and_where_the_least_bad_models_are() -> None:
    lines = sentences(row_of("misfit", pae_chi2_best=217_000.4, pae_error_scale=50.23), facts_of_one())
    assert "No galaxy of the model describes these data: do not use this redshift." in lines[0]
    assert lines[1] == (
        "Fit: chi^2 of the best model 217,000 for 86 degrees of freedom: the model does not describe the data "
        "(with errors 50.2 times as large it would)."
    )
    assert lines[2].endswith("The least bad models lie near z = 0.51, which is no measurement of a redshift.")
    older = {key: value for key, value in row_of("misfit").items() if key != "pae_error_scale"}
    assert "times as large" not in text_of(older)


def test_a_failure_says_why() -> None:
    fault = reason_text(int(InputFault.NO_USABLE_BAND | InputFault.ERROR_NOT_POSITIVE))
    said = text_of(row_of("failed", input_fault=fault, pae_n_measurements=0))
    assert "Reason: no usable measurement is left; an error is zero or negative." in said
    assert "found no model" in text_of(row_of("failed"))
    assert "Left out" not in said


def test_unconverged_is_not_to_be_relied_on() -> None:
    lines = sentences(row_of("unconverged", pae_ess=12.0, z_flags=1 | 4), facts_of_one())
    assert "do not rely on this redshift" in lines[0]
    assert lines[1].startswith("Redshift, not to be relied on: z = ")
    assert (
        lines[3]
        == "Trust: not converged with 12 effective draws; few effective draws: the interval is rough."
    )


@pytest.mark.parametrize(
    ("chi2", "said"),
    [
        (88.0, "the model describes the data."),
        (190.0, "worse than noise explains"),
        (25.0, "the errors are probably too large"),
    ],
)
def test_chi2_is_put_in_words(chi2: float, said: str) -> None:
    """98 measurements, 86 degrees of freedom; beyond 1e-6 on either side, 184 and 29, it is not noise."""
    assert said in text_of(row_of(pae_chi2_best=chi2))


def test_as_many_parameters_as_measurements_say_nothing() -> None:
    said = text_of(row_of(pae_chi2_best=1.0, pae_n_measurements=12, pae_n_bands=12))
    assert "1 for 1 degrees of freedom: with no more measurements than parameters this says nothing" in said


def test_flags_and_faults_are_put_in_words() -> None:
    row = row_of(
        z_flags=2 | 8 | 128, pae_binning_chi2=4.0, input_fault="width_not_positive", pae_n_measurements=97
    )
    said = text_of(row)
    for words in ("few channels have data", "p(z) piles up", "lines fall between the visits"):
        assert words in said
    assert (
        "Data: 97 of 103 measurements used" in said
        and "Left out: a bandwidth is not a positive number." in said
    )


def test_merged_measurements_are_said_to_be() -> None:
    said = text_of(row_of(pae_n_measurements=1180), n_read=20_005)
    assert "Data: 20,000 of 20,005 measurements used, merged into 1,180 (5 set aside" in said


def test_corrections_are_named() -> None:
    said = text_of(row_of(), ebv_mw=0.0312, error_floor=2.0, confusion_ujy=1.5)
    assert (
        "Corrections: Milky Way extinction of E(B-V) = 0.0312 removed; 2 % of the flux added to the errors; 1.5 uJy"
        in said
    )
    assert "Corrections: none." in text_of(row_of(), ebv_mw=float("nan"))


def test_only_the_commonest_reasons_are_spelled_out() -> None:
    reasons = {f"reason {n}": n for n in range(1, 8)}
    said = text_of(row_of(), set_aside=reasons, n_read=126)
    assert "(28 set aside: 7 reason 7, 6 reason 6, 5 reason 5, 4 reason 4, 6 for other reasons)" in said


def test_every_status_flag_and_fault_has_words() -> None:
    assert set(STATUS_WORDS) == set(STATUS_VERDICTS) == set(POSTERIOR_STATUSES)
    of_status = {ZFlag.UNCONVERGED, ZFlag.BAD_FIT, ZFlag.NO_POSTERIOR}
    assert set(FLAG_WORDS) | of_status == set(ZFlag) and not set(FLAG_WORDS) & of_status
    assert set(FAULT_WORDS) == set(InputFault)
    assert fault_texts(reason_text(int(sum(InputFault)))) == [
        FAULT_WORDS[InputFault.NO_USABLE_BAND],
        *(text for fault, text in FAULT_WORDS.items() if fault is not InputFault.NO_USABLE_BAND),
    ]


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.498, 0.526, ("0.512", "0.498 to 0.526")),
        (2.5593, 2.5671, ("2.5120", "2.5593 to 2.5671")),
        (0.31, 0.73, ("0.51", "0.31 to 0.73")),
        (0.1, 2.9, ("0.5", "0.1 to 2.9")),
        (0.512, 0.512, ("0.51200", "0.51200 to 0.51200")),
    ],
)
def test_digits_follow_the_interval(low: float, high: float, text: tuple[str, str]) -> None:
    assert redshift_texts(2.512 if low > 2.0 else 0.512, low, high) == text


@given(st.floats(0.0, 3.0), st.floats(1e-4, 1.0))
def test_rounding_costs_at_most_a_twentieth_of_the_width(z: float, half: float) -> None:
    digits = redshift_digits(z - half, z + half)
    assert abs(round(z, digits) - z) <= max(0.05 * half, 0.5e-5) * 1.001
    assert digits == 1 or 10.0**-digits >= 0.009 * half


@pytest.mark.parametrize(
    "name", ["two\nlines", "\x1b[31mred\x1b[0m", "tab\there", "  wide   name ", "\u2028x"]
)
def test_a_name_can_break_no_line(name: str) -> None:
    for line in sentences(row_of(), facts_of_one(name=name, model=name)):
        assert line.isprintable()
    assert printable("  wide   name ") == "wide name" and printable("ζ Oph 星") == "ζ Oph 星"


def test_a_source_without_a_position_has_none() -> None:
    assert sentences(row_of(), facts_of_one(ra=float("nan"), dec=float("nan")))[0] == "Cloverleaf"


def user_sources() -> SimpleNamespace:
    """As the intake hands sources on."""
    aside = pl.DataFrame(
        {
            "file": ["a.csv"] * 4,
            "row": [1, 5, 9, 11],
            "source": ["b", "b", "b", None],
            "source_row": [1, 1, 1, None],
            "reason": ["no error", "masked", "no error", "no position"],
        }
    )
    return SimpleNamespace(
        name=("a", "b"),
        ra=np.array([1.0, np.nan]),
        dec=np.array([2.0, np.nan]),
        measurements=measured(2),
        ebv_mw=np.array([0.1, np.nan]),
        set_aside=aside,
    )


def test_two_sources_of_one_name_are_counted_apart() -> None:
    sources = user_sources()
    sources.name = ("a", "a")
    sources.set_aside = sources.set_aside.with_columns(source=pl.lit("a"))
    first, second = facts_of(sources, model="m", prior_id="p", n_latent=6)
    assert (first.set_aside, second.set_aside) == ({}, {"no error": 2, "masked": 1})


def test_facts_are_counted_from_what_was_read() -> None:
    sources = user_sources()
    first, second = facts_of(sources, model="m", prior_id="p", n_latent=6, error_floor=1.0, confusion_ujy=2.0)
    assert (first.n_read, first.set_aside, first.ebv_mw) == (102, {}, 0.1)
    assert (second.n_read, second.set_aside) == (105, {"no error": 2, "masked": 1})
    assert (second.error_floor, second.confusion_ujy, second.n_latent) == (1.0, 2.0, 6)
    flux, error = sources.measurements.flux[:102], sources.measurements.flux_err[:102]
    assert first.snr == pytest.approx(np.sqrt(np.sum((flux / error) ** 2)))
    assert "(ra" not in sentences(row_of(), second)[0]


def test_facts_of_real_files_say_what_was_set_aside() -> None:
    paths = [FOLDER / name for name in FILES.values()]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"the real measurements are not in {FOLDER}")
    sources = read_sources(paths)
    quasar, dwarf = facts_of(sources, model="m", prior_id="p", n_latent=10)
    assert quasar.n_read + dwarf.n_read == sources.n_rows == 318
    assert (quasar.ra, quasar.dec) == pytest.approx((213.9427, 11.4954), abs=1e-3)
    said = sentences(row_of(pae_n_measurements=214), dwarf)[4]
    assert said.startswith("Data: 214 of 215 measurements used (1 set aside: 1 error not positive)")


def test_bad_errors_add_nothing_to_the_snr() -> None:
    error = np.array([1.0, 0.0, -1.0, np.inf, np.nan, 2.0])
    flux = np.array([3.0, 1e9, 1e9, 1e9, 1e9, np.nan])
    some = Measurements(flux, error, np.ones(6), np.ones(6), np.array([0, 6, 6]))
    assert total_snr(some).tolist() == [3.0, 0.0]


def test_a_card_is_of_one_source() -> None:
    with pytest.raises(InputError, match="measurements of 2 sources"):
        galaxy_of(row_of(), facts_of_one(), measured(2))
    galaxy = galaxy_of(row_of(), facts_of_one(), measured(1))
    assert galaxy.name == "Cloverleaf" and galaxy.row["model"] == "reference 1" and len(galaxy.z_draws) == 500
    assert len(galaxy_of(row_of("failed"), facts_of_one(), measured(1)).z_draws) == 0


def classed(best, **columns):
    classes = {f"class_p_{name}": 0.0 for name in ("galaxy", "quasar", "star", "brown_dwarf")}
    return row_of(**(classes | {"class_best": best} | columns))


def test_what_a_source_is_is_said_and_a_star_is_no_galaxy():
    lines = sentences(classed("galaxy", class_p_galaxy=0.9, class_p_star=0.1), facts_of_one())
    assert not lines[0].startswith("NO") and lines[1].startswith("Redshift")
    assert "What it is: a galaxy, probability 90.0 % (a star 10.0 %)." in lines
    star = classed("star", class_p_star=0.9999, class_star="btsettl/T3500")
    first, what = sentences(star, facts_of_one())[:2]
    assert first.startswith("NO GALAXY, probably: ")
    doubtful = sentences(star | {"pae_status": "unconverged"}, facts_of_one())[0]
    assert doubtful.startswith("NO GALAXY, probably: ") and "did not converge" in doubtful
    assert what.startswith("What it is: a star, probability above 99.9 %; nearest spectrum btsettl/T3500.")
    quasar = classed(
        "quasar", class_p_quasar=0.97, class_z_quasar=2.55, class_z_quasar_low=2.54, class_z_quasar_high=2.56
    )
    assert "as a quasar z = 2.55" in sentences(quasar, facts_of_one())[1]
    assert sentences(classed("none"), facts_of_one())[1].startswith("What it is: no model of a galaxy")
    # rows of before, and sources without a class
    for row in (row_of(), classed(None)):
        assert not any(line.startswith("What it is") for line in sentences(row, facts_of_one()))


def test_a_misfit_whose_class_is_known_is_not_guessed_about():
    misfit = {"pae_status": "misfit", "pae_error_scale": 3.0}
    known = sentences(
        classed(
            "quasar",
            class_p_quasar=1.0,
            class_z_quasar=2.5,
            class_z_quasar_low=2.4,
            class_z_quasar_high=2.6,
            **misfit,
        ),
        facts_of_one(),
    )
    unknown = sentences(classed("none", **misfit), facts_of_one())
    assert not any("Such data are often" in line for line in known)
    assert any("Such data are often" in line for line in unknown)
