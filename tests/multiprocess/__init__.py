"""Several processes over loopback."""
