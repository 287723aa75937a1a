"""The probabilistic autoencoder: a spectrum model (rows P1), a flow on its latents (P2), and the bundle of both."""
