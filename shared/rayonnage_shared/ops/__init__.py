"""Operations: what the command line and `make` use to run a platform."""
