"""Evaluation, the promotion gate and the champions."""
