"""How good redshifts are: the registry of metrics, scores of sources, the promotion gate, targets."""
