# ruff: noqa: E501 - lines of SVG
"""Draws docs/img/data-flow.svg: python docs/img/draw_data_flow.py."""

from __future__ import annotations

from pathlib import Path

BOX_W, BOX_H = 160, 40
# name: (column, row); the columns are the groups, left to right the way of the data
COLUMNS = {"sed, instrument": 0, "mock": 1, "models": 2, "release": 3, "inference": 4, "validation": 5}
NODES = {
    "sed_templates": (0, 1.0),
    "spherex_bands": (0, 5.6),
    "mock_catalog": (1, 1.0),
    "model_error": (1, 1.92),
    "redshift_prior": (1, 4.45),
    "training_spectra": (1, 0.0),
    "mock_photometry": (1, 5.6),
    "autoencoder": (2, 0.0),
    "latent_flow": (2, 0.92),
    "posterior_proposal": (2, 1.84),
    "pae_model": (2, 2.76),
    "pae_champion": (2, 3.68),
    "sbi_model": (2, 4.6),
    "sbi_champion": (2, 6.56),
    "release_measurements": (3, 4.75),
    "release_photometry": (3, 5.6),
    "pae_posteriors": (4, 3.68),
    "redshift_catalog": (4, 4.64),
    "template_fits": (4, 5.6),
    "sbi_posteriors": (4, 6.56),
    "missing_band_stress": (5, 2.72),
    "photoz_metrics": (5, 5.6),
    "validation_report": (5, 4.16),
    "sample_scores": (5, 0.0),
    "paper_figures": (5, 1.36),
}
CUT = {  # how an asset is cut: the line below its name
    "autoencoder": "n_latent",
    "latent_flow": "n_latent",
    "release_measurements": "release x cell",
    "release_photometry": "release x cell",
    "pae_posteriors": "release x cell",
    "template_fits": "release x cell",
    "sbi_posteriors": "release x cell",
    "sbi_model": "registered: sbi-redshift",
    "sbi_champion": "alias @champion",
    "redshift_catalog": "release x cell",
    "missing_band_stress": "release",
    "photoz_metrics": "release",
    "validation_report": "release",
    "sample_scores": "of the validation sample",
    "paper_figures": "and table_*",
    "model_error": "of left-out folds",
    "pae_model": "registered: pae",
    "pae_champion": "alias @champion",
}
EDGES = [
    ("sed_templates", "mock_catalog"),
    ("sed_templates", "training_spectra"),
    ("sed_templates", "mock_photometry"),
    ("mock_catalog", "training_spectra"),
    ("mock_catalog", "redshift_prior"),
    ("mock_catalog", "mock_photometry"),
    ("spherex_bands", "mock_photometry"),
    ("training_spectra", "autoencoder"),
    ("training_spectra", "latent_flow"),
    ("autoencoder", "latent_flow"),
    ("autoencoder", "pae_model"),
    ("latent_flow", "posterior_proposal"),
    ("redshift_prior", "posterior_proposal"),
    ("mock_catalog", "model_error"),
    ("model_error", "posterior_proposal"),
    ("posterior_proposal", "pae_model"),
    ("pae_model", "pae_champion"),
    ("mock_photometry", "release_measurements"),
    ("mock_photometry", "release_photometry"),
    ("redshift_prior", "pae_posteriors"),
    ("release_measurements", "pae_posteriors"),
    ("release_photometry", "template_fits"),
    ("template_fits", "redshift_catalog"),
    ("mock_catalog", "sbi_model"),
    ("sbi_model", "sbi_champion"),
    ("sbi_champion", "sbi_posteriors"),
    ("release_photometry", "sbi_posteriors"),
    ("sbi_posteriors", "redshift_catalog"),
    ("pae_champion", "pae_posteriors"),
    ("pae_champion", "missing_band_stress"),
    ("pae_model", "sample_scores"),
    ("sample_scores", "paper_figures"),
    ("paper_figures", "validation_report"),
    ("missing_band_stress", "validation_report"),
    ("pae_posteriors", "redshift_catalog"),
    ("redshift_catalog", "photoz_metrics"),
    ("redshift_catalog", "validation_report"),
    ("photoz_metrics", "validation_report"),
]
FILL = {
    "sed, instrument": "#e8eef7",
    "mock": "#e6f3ec",
    "models": "#fbf0dc",
    "release": "#e8eef7",
    "inference": "#f6e6ea",
    "validation": "#eee9f6",
}
STROKE = {
    "sed, instrument": "#4477aa",
    "mock": "#228833",
    "models": "#b8860b",
    "release": "#4477aa",
    "inference": "#aa3355",
    "validation": "#6a4fa3",
}
GROUP = {column: name for name, column in COLUMNS.items()}
PLACED_ELSEWHERE = {"model_error": "models"}  # in another group's column, for want of room
STEP_X, STEP_Y, LEFT, TOP = 196, 66, 16, 56
WIDTH, HEIGHT = LEFT * 2 + 5 * STEP_X + BOX_W, TOP + int(6.56 * STEP_Y) + BOX_H + 76


def corner(name: str) -> tuple[float, float]:
    """Upper left corner of a node's box."""
    column, row = NODES[name]
    return LEFT + column * STEP_X, TOP + row * STEP_Y


def edge(start: str, end: str) -> str:
    """A curve from one box to another: sideways between columns, up or down within one."""
    (x0, y0), (x1, y1) = corner(start), corner(end)
    if x0 != x1:
        x0, y0, y1 = x0 + BOX_W, y0 + BOX_H / 2, y1 + BOX_H / 2
        bend = max(22.0, (x1 - x0) / 2)
        path = f"M{x0:g} {y0:g} C{x0 + bend:g} {y0:g} {x1 - bend:g} {y1:g} {x1 - 3:g} {y1:g}"
    elif abs(y1 - y0) > 1.5 * STEP_Y:  # past a box in between: around it on the left
        y0, y1 = y0 + BOX_H / 2, y1 + BOX_H / 2
        path = f"M{x0:g} {y0:g} C{x0 - 20:g} {y0:g} {x0 - 20:g} {y1:g} {x1 - 3:g} {y1:g}"
    else:
        down = y1 > y0
        y0, y1 = (y0 + BOX_H, y1 - 3) if down else (y0, y1 + BOX_H + 3)
        x = x0 + BOX_W / 2
        path = f"M{x:g} {y0:g} L{x:g} {y1:g}"
    return f'<path d="{path}" fill="none" stroke="#7a828c" stroke-width="1.3" marker-end="url(#a)"/>'


def node(name: str) -> str:
    """A node's box, its name and how it is cut."""
    x, y = corner(name)
    group, cut = PLACED_ELSEWHERE.get(name, GROUP[NODES[name][0]]), CUT.get(name)
    middle = x + BOX_W / 2
    box = (
        f'<rect x="{x:g}" y="{y:g}" width="{BOX_W}" height="{BOX_H}" rx="6" fill="{FILL[group]}" '
        f'stroke="{STROKE[group]}" stroke-width="1.4"/>'
    )
    title_y = y + (17 if cut else 25)
    text = f'<text x="{middle:g}" y="{title_y:g}" class="n">{name}</text>'
    return box + text + (f'<text x="{middle:g}" y="{y + 32:g}" class="c">{cut}</text>' if cut else "")


def draw() -> str:
    """The whole picture."""
    heads = "".join(
        f'<text x="{LEFT + column * STEP_X + BOX_W / 2:g}" y="34" class="g" fill="{STROKE[name]}">{name}</text>'
        for name, column in COLUMNS.items()
    )
    note_y = HEIGHT - 26
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            'role="img" aria-label="The asset graph: from templates to the redshift catalogue and its report">',
            "<style>text{font-family:system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif;text-anchor:middle}"
            ".n{font-size:13px;fill:#1f2933}.c{font-size:10.5px;fill:#52606d}"
            ".g{font-size:13px;font-weight:600}.note{font-size:11px;fill:#52606d;text-anchor:start}</style>",
            '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0L8 4L0 8z" fill="#7a828c"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            heads,
            *(edge(start, end) for start, end in EDGES),
            *(node(name) for name in NODES),
            f'<text x="{LEFT}" y="{note_y}" class="note">Small print: how an asset is partitioned, or what it is in the registry. '
            "Left out: what sed_templates, spherex_bands and redshift_prior feed</text>",
            f'<text x="{LEFT}" y="{note_y + 14}" class="note">'
            "further to the right, what pae_model, redshift_catalog and missing_band_stress take from further left, and what only feeds the report."
            "</text>",
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    Path(__file__).with_name("data-flow.svg").write_text(draw())
