"""Scores and names as columns: of files of any size, and of tables that engines spread over machines."""
