"""An exported file: the metadata in it, and how ONNX Runtime opens it. Both halves of the project use it."""
