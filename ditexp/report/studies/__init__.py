"""Published numbers of a study, compared with the results here."""
