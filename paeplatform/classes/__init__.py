"""What a source is: the evidence for galaxy, quasar, star and brown dwarf, and the probability of each."""
