"""Neural networks: training, export to ONNX, and running them."""
