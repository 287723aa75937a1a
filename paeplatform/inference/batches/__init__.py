"""Many sources at once: compiled blocks and lanes, devices, and the progress of both."""
