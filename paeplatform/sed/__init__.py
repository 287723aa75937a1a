"""Galaxy spectra: template library, dust laws, emission lines, the rest-frame grid, attenuated spectra."""
