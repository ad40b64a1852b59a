"""The page on all reports of an outputs folder."""
