"""The tables of a report: rows, columns, statistical comparison, footnotes."""
