"""What every asset records: versions, provenance, partitions, pictures."""
