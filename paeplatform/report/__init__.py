"""The validation report: one page for each release."""
