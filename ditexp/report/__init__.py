"""Tables, figures and a page on the results of a sweep or a study."""
