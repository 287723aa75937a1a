"""Files of users: photometry, posteriors, priors."""
