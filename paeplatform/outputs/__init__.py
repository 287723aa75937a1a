"""What leaves the platform: the catalogue in the formats of the field, and one galaxy at a time."""
