"""CamemBERT: fine-tuning in an environment that has torch."""
