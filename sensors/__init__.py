"""What decides that work is due: staleness, the catch-up run, and the sensor that asks Dagster for it."""
