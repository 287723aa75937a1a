"""Figures: one style, and functions that draw tables which others computed."""
