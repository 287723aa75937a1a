"""What arXiv:2603.24668 quotes, to be set beside this platform's numbers.

Fractions are stated as fractions, not per cent. `None` is what the paper does not give. The paper's sample is 20,000
galaxies with zAB < 22.5.
"""

from __future__ import annotations

from typing import Any

N_SOURCES = 20_000

# (method, cut in sigma_z/(1+z)): N, mean bias, median sigma, NMAD, eta_3sigma. Table 1.
TABLE_1: dict[tuple[str, float], tuple[int, float, float, float, float]] = {
    ("tf", 0.02): (1805, -0.0005, 0.0108, 0.0097, 0.028),
    ("tf", 0.2): (13914, -0.007, 0.088, 0.078, 0.055),
    ("free_uniform", 0.02): (1284, 0.0014, 0.0111, 0.0091, 0.028),
    ("free_uniform", 0.2): (8663, 0.015, 0.092, 0.066, 0.069),
    ("nf_uniform", 0.02): (1691, 0.0007, 0.0114, 0.0092, 0.018),
    ("nf_uniform", 0.2): (10529, 0.016, 0.087, 0.062, 0.049),
    ("free_bpz", 0.02): (1229, 0.0015, 0.0113, 0.0103, 0.034),
    ("free_bpz", 0.2): (17388, -0.003, 0.101, 0.101, 0.042),
    ("nf_bpz", 0.02): (1706, 0.0008, 0.0114, 0.0092, 0.014),
    ("nf_bpz", 0.2): (19787, 0.006, 0.100, 0.077, 0.014),
}

# (n_latent, cut): N, mean bias, NMAD, eta_3sigma. Table 2.
TABLE_2: dict[tuple[int, float], tuple[int, float, float, float]] = {
    (3, 0.01): (522, -0.0006, 0.0075, 0.061),
    (3, 0.2): (19521, 0.0055, 0.0814, 0.021),
    (5, 0.01): (720, 0.0008, 0.0057, 0.024),
    (5, 0.2): (19825, 0.0061, 0.0779, 0.016),
    (8, 0.01): (645, 0.0005, 0.0061, 0.022),
    (8, 0.2): (19737, 0.0066, 0.0787, 0.015),
    (10, 0.01): (707, 0.0004, 0.0059, 0.016),
    (10, 0.2): (19787, 0.0061, 0.0772, 0.014),
}
TABLE_2_RHAT: dict[int, float] = {3: 0.901, 5: 0.963, 8: 0.961, 10: 0.977}

# Section VI.2 (Fig. 11), sigma_z/(1+z) < 0.01: N, NMAD, eta_3sigma, mean bias. The PAE row is the one the text quotes.
FIG_11: dict[tuple[str, float], tuple[int, float, float, float]] = {
    ("tf", 0.01): (820, 0.0055, 0.034, -0.0003),
    ("nf_bpz", 0.01): (720, 0.0057, 0.024, 0.0008),
}

# Section VI.3: sources with sigma_PAE/sigma_TF > 2, by bin of TF precision: (N, eta_3sigma of TF).
FLAGGED: dict[tuple[int, str], tuple[int | None, float | None]] = {
    (0, "all"): (None, 0.030),
    (0, "flagged"): (43, 0.163),
    (0, "unflagged"): (770, 0.022),
    (1, "all"): (None, 0.054),
    (1, "flagged"): (None, 0.508),
    (2, "all"): (None, 0.057),
    (2, "flagged"): (None, 0.397),
}
# The same bins: f(R-hat < 1.1) and median R-hat.
FLAGGED_RHAT: dict[tuple[int, str], tuple[float, float]] = {
    (0, "flagged"): (0.77, 1.033),
    (0, "unflagged"): (0.97, 1.010),
    (1, "flagged"): (0.84, 1.025),
    (1, "unflagged"): (0.95, 1.013),
}

# Section VI.2.1: Pearson correlation of errors, lowest and highest over the bins beyond the most precise one.
CORRELATION_RANGE = (0.60, 0.75)

# Appendix A: with the NF prior or without: median and 95th percentile of the autocorrelation length, f(R-hat < 1.1) and
# f(R-hat < 1.2); and the median effective sample size with it.
CONVERGENCE: dict[bool, dict[str, float | None]] = {
    True: {"acl_median": 5.0, "acl_p95": 13.0, "f_rhat_1_1": 0.956, "f_rhat_1_2": 0.985, "ess_median": 800.0},
    False: {
        "acl_median": 23.0,
        "acl_p95": 53.2,
        "f_rhat_1_1": 0.247,
        "f_rhat_1_2": 0.421,
        "ess_median": None,
    },
}

# Section VII (Fig. 17): NMAD, eta_3sigma, by method and limit in zAB.
FIG_17: dict[tuple[str, float], tuple[float, float]] = {
    ("sbi", 20.0): (0.0116, 0.025),
    ("nf_bpz", 20.0): (0.0102, 0.019),
    ("sbi", 22.5): (0.0777, 0.008),
    ("nf_bpz", 22.5): (0.0793, 0.017),
}

CHI2_REDUCED_MEDIAN = 1.04  # section V.1, n_latent = 5
LATENT_NORM_R = 0.132  # Fig. 5


def beside(names: tuple[str, ...], numbers: tuple[Any, ...] | None) -> dict[str, Any]:
    """`paper_<name>` for each name; None throughout when the paper has no such row."""
    values = (None,) * len(names) if numbers is None else numbers
    return {f"paper_{name}": value for name, value in zip(names, values, strict=True)}
