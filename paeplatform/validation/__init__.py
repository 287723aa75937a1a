"""Validation: redshift metrics, calibration, figures and the report.

`metrics` and `calibration` are pure functions on arrays, `figures` draws tables that others computed,
`report` writes the page, and `evaluate` measures a bundle on fresh mock sources.
"""
