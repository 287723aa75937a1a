"""SPHEREx as the models see it: channels, depths, filter integrals, the exact and fast operators."""
