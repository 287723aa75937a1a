"""The probabilistic autoencoder: a spectrum model, a flow on its latents (P2), and the bundle of both."""
