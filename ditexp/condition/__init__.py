"""Which condition each sample gets, by its index alone."""
