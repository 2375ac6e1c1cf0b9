"""The likelihood of given names: code points, ids, windows and look-ups, a column at once."""
