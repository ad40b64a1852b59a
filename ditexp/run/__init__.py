"""`ditexp run`: from a configuration to samples, scores and a report."""
