"""Tables of measurements as people have them: any format, usual names and units, one source a file or many."""
