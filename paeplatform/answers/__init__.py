"""Answers that a person reads: sentences about one source, its card, and a page to leaf through many."""
