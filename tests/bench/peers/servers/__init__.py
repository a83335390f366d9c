"""The peers' servers, each as its own documentation would have it."""
