"""Importance sampling with the amortised proposal, and the proposal's training and check."""
