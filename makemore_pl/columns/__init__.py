"""Names as columns of numbers: code points, ids, windows, and what a network says of them, without a loop."""
