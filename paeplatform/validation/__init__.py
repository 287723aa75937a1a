"""Validation: redshift metrics, calibration, figures and the report.

`metrics` defines every metric, `scorecard` computes the numbers of each source that they are statistics of, `bootstrap`
resamples sources, and `statistics` makes tables of metrics by selection. `figures` draws tables that others computed,
`report` writes the page, and `evaluate` measures a bundle on fresh mock sources.
"""
