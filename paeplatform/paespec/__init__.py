"""Reader of the simulation files that the paper's public code reads: spectra, photometry, truth, filters.

Their layouts are known from that code alone. So nothing is assumed of a folder: what is missing or odd is said by name.
"""
