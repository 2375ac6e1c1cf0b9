"""A web page that makes names in its visitor's browser: its folder, written from an export."""
