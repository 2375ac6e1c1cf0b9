"""`makemore report`: one HTML page that shows what a checkpoint has learned, and how."""
