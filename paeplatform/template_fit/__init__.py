"""Template fitting: the profile likelihood over a grid of templates, dust and redshift."""
