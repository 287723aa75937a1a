"""The modes of a posterior: climbs to them, and mixtures laid over them."""
