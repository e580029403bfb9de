"""Signals: recordings of one or more channels, the files that people keep them in, and their quantization."""
