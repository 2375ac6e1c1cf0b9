"""From a checkpoint to proven ONNX files: fold → verify → export."""
