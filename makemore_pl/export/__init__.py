"""From a checkpoint to proven ONNX files: fold → write → prove → move into place."""
