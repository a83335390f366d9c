"""Neural networks: training, export to ONNX, and inference."""
