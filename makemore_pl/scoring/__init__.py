"""How likely given names are: code points, ids, windows and look-ups, a column at once and without a loop."""
