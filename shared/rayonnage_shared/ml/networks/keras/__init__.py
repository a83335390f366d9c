"""Keras networks: training and export to ONNX."""
