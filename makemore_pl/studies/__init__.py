"""The makemore lectures' systems, S1 to S8, trained by their notebooks' own recipes and compared."""
