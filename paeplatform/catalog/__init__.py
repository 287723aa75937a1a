"""Mock catalogue, redshift prior, training set, mock photometry and sky cells."""
