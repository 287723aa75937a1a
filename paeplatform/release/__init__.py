"""Deliveries of a survey: exposures as they arrive, verified, judged, and binned into 102 channels."""
