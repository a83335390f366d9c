"""Data stages from raw files to training data: download, check, seed, preprocess, transform."""
