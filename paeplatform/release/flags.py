"""The 64-bit flags of an exposure, and which flagged exposures are not used.

Bits 0-29 are those of the pixels under the source, ORed; 32 and 33 are set by the photometry tool. Names and bits
follow the FLAGS headers of Level 2 images as public readers quote them.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from paeplatform.errors import ConfigError

ALL_BITS = 2**64 - 1


class Flag(IntEnum):
    """Bit numbers."""

    TRANSIENT = 0  # a transient was detected while sampling up the ramp
    OVERFLOW = 1  # the ramp overflowed
    SUR_ERROR = 2  # onboard processing failed
    PHANTOM = 4  # phantom pixel
    REFERENCE = 5  # reference pixel
    NONFUNC = 6  # pixel is permanently unusable
    DICHROIC = 7  # low efficiency at the dichroic edge, detectors 3 and 4
    MISSING_DATA = 9  # data lost on board
    HOT = 10  # hot pixel
    COLD = 11  # cold pixel, anomalously low signal
    FULLSAMPLE = 12  # the full sample history exists; information, no fault
    SUR_MISMATCH = 13  # mismatch of onboard samples; name from a third-party table
    PHANMISS = 14  # no phantom correction was applied
    NONLINEAR = 15  # nonlinearity cannot be corrected reliably
    VAR_UNDER = 16  # variance underestimated; name from a third-party table
    PERSIST = 17  # persistent charge above the threshold
    PERSIST_UNK = 18  # persistence unknown; name from a third-party table
    OUTLIER = 19  # outlier among repeated pixels
    CROSSTALK = 20  # electronic crosstalk, since pipeline 7
    SOURCE = 21  # a known source lies on the pixel: set on every forced-photometry row, no fault
    GHOST = 22  # optical ghost
    GHOST_FPA = 23  # ghost from the other focal plane
    GHOST_EXT = 24  # extended ghost
    STREAK = 25  # streak of a satellite or of airglow
    BLOOM = 26  # bloom of a saturated star
    SNOWBALL = 27  # snowball cosmic-ray event
    HALO = 28  # halo of a bright star
    SATELLITE_HALO = 29  # halo of a satellite
    CONTAINS_BAD_PIXEL = 32  # the stamp of the fit contains a bad pixel (set by the photometry tool)
    FIT_ERROR = 33  # the fit failed (set by the photometry tool)


KNOWN_BITS = frozenset(int(flag) for flag in Flag)
INFORMATION = (Flag.FULLSAMPLE, Flag.SOURCE)  # these say nothing against an exposure
REJECT_TOOL = (Flag.OVERFLOW, Flag.NONLINEAR, Flag.CONTAINS_BAD_PIXEL, Flag.FIT_ERROR)


def bit_mask(bits: Iterable[int]) -> int:
    """The 64-bit number with these bits set."""
    return sum(1 << int(bit) for bit in set(bits))


def reject_mask(policy: str) -> int:
    """The bits any of which takes an exposure out of the binning.

    Args:
        policy: "tool" rejects what public readers of the tool's tables do (overflow, nonlinear, bad pixel, fit error);
            "strict" everything, known or not, but SOURCE and FULLSAMPLE.

    Raises:
        ConfigError: another policy.
    """
    if policy == "tool":
        return bit_mask(REJECT_TOOL)
    if policy == "strict":
        return ALL_BITS & ~bit_mask(INFORMATION)
    raise ConfigError(f"flag policy {policy!r} must be tool or strict")
