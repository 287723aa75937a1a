"""From draws to columns: summaries, statuses, p(z), reweighting, posterior predictive."""
