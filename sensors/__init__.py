"""What decides that work is due: staleness, the run that catches up, and the sensor that asks Dagster for
it.
"""
