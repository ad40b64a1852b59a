"""The published families of models, a module for those that are alike, and the choice of one for a file."""
