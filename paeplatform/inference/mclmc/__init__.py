"""Markov chains: MCLMC, jumps between modes, and the diagnostics of chains."""
