"""What the command line and `make` need to run and look after a platform."""
