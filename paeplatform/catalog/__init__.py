"""Mock catalogue, redshift prior, training set, mock photometry and sky cells (rows D3, D4, D6)."""
