"""The runtime half: names and scores from an exported file, with NumPy and ONNX Runtime alone."""
