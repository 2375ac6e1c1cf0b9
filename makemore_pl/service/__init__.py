"""Names and scores over HTTP. Starlette, uvicorn and prometheus-client are imported in this room alone."""
