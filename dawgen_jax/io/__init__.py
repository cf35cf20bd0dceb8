"""Files, each kind written once: whole or not at all, JSON and JSON lines, artefacts, logs of metrics."""
