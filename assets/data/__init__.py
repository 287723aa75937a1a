"""What everything else is made of: templates, bands, the mock catalogue and the training spectra."""
