"""Tables, figures and the report that say how good the results are."""
